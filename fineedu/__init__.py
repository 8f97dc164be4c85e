"""fineedu: web quality classification and filtering. Score once, cut many.

>>> import fineedu
>>> result = fineedu.run("edu", inputs=["crawl/*.warc.gz"], output="out")  # doctest: +SKIP
>>> result.kept  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["FineeduError", "RunResult", "__version__", "load_recipe", "plan_run", "run"]

if TYPE_CHECKING:
    from fineedu.errors import FineeduError
    from fineedu.recipe import load_recipe
    from fineedu.runner import RunResult, plan_run, run

_HOMES = {
    "FineeduError": "errors",
    "RunResult": "runner",
    "load_recipe": "recipe",
    "plan_run": "runner",
    "run": "runner",
}


def __getattr__(name: str) -> Any:
    """Import the public functions on first use: ``fineedu --version`` must not load Polars."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"fineedu.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'fineedu' has no attribute {name!r}")
