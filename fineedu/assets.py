"""Where the editable files that ship with the package lie: recipes, rubrics, models."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def asset_dir(kind: str) -> Path:
    """Return the folder of ``pipelines``, ``annotate`` or ``models``.

    An installed wheel carries them under ``fineedu/_assets``; a source checkout (also an editable
    install) has them beside the package, where an edit takes effect at once.
    """
    checkout = _PACKAGE.parent / kind
    if (_PACKAGE.parent / "pyproject.toml").is_file() and checkout.is_dir():
        return checkout
    return _PACKAGE / "_assets" / kind
