"""One HTML file that needs nothing beside it: the style and the filters that all pages share."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from fineedu.report import display
from fineedu.store import atomic_open

_HERE = Path(__file__).resolve().parent


@cache
def _environment(folder: Path) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "clean": display.clean,
        "count": display.count,
        "megabytes": display.megabytes,
        "sign": display.sign,
        "value": display.value,
    }
    environment.globals |= {"share": display.share}
    return environment


def write_page(path: Path, template: Path, shown: Mapping[str, Any]) -> Path:
    """Write a page from a template.

    Args:
        path: where the HTML file goes.
        template: Jinja template; it gets ``shown``, ``style`` (to stand in its ``<style>``), and the filters of
            :mod:`fineedu.report.display`. Values are escaped.
        shown: what the template shows.

    Returns:
        ``path``.

    Raises:
        FineeduError: the file cannot be written.
    """
    style = Markup((_HERE / "style.css").read_text(encoding="utf-8"))
    page = _environment(template.parent).get_template(template.name).render(shown, style=style)
    with atomic_open(path) as stream:
        stream.write(page.encode("utf-8", "replace"))
    return path
