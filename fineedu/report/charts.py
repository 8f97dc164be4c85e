"""Histograms as SVG inside the page, through Vega-Lite.

SVG and not Vega's JavaScript: the runtime is 0.8 MB in every report and needs scripts allowed in a page that
quotes the web, while a histogram as SVG is 10 kB, prints, and follows the page's light and dark through CSS
variables. What is lost is zooming; a bar's figures still show when pointed at. The specs are plain Vega-Lite
(importing Altair for these few lines would take longer than drawing them), and hold numbers and names of
columns and rules only, never text of a page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import vl_convert
from lxml import etree
from markupsafe import Markup

from fineedu.report.display import count, value
from fineedu.store import atomic_open

_SVG = "{http://www.w3.org/2000/svg}"
_WIDTH, _HEIGHT = 460, 170
#: attributes that a reader of the page has no use for: the picture has one label, and CSS sets fonts
_NEEDLESS = (
    "class",
    "role",
    "aria-roledescription",
    "aria-label",
    "aria-hidden",
    "pointer-events",
    "font-family",
    "opacity",
)


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture with its words."""

    name: str
    svg: Markup
    note: str


def _bars(
    edges: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], open_ends: tuple[bool, bool]
) -> list[dict[str, Any]]:
    rows = []
    last = len(edges) - 2
    for side, name in enumerate(("kept", "dropped")):
        for number in np.flatnonzero(counts[side]):
            low, high = float(edges[number]), float(edges[number + 1])
            if number == 0 and open_ends[0]:
                where = f"below {value(high)}"
            elif number == last and open_ends[1]:
                where = f"{value(low)} and above"
            else:
                where = f"{value(low)} to {value(high)}"
            told = f"{where}: {count(int(counts[0][number]))} kept, {count(int(counts[1][number]))} dropped"
            rows.append(
                {
                    "low": low,
                    "high": high,
                    "n": int(counts[side][number]),
                    "side": name,
                    "order": side,
                    "told": told,
                }
            )
    return rows


def stacked_sides() -> dict[str, Any]:
    """Return the encoding of documents kept and dropped, stacked: of rows with ``n``, ``side``, ``order``, ``told``."""
    return {
        "y": {
            "field": "n",
            "type": "quantitative",
            "stack": "zero",
            "axis": {"title": "documents", "tickCount": 4, "format": "~s", "tickMinStep": 1},
        },
        "order": {"field": "order"},
        "description": {"field": "told"},
        "color": {
            "field": "side",
            "legend": None,
            "scale": {"domain": ["kept", "dropped"], "range": ["var(--kept)", "var(--dropped)"]},
        },
    }


def _bar_layer(rows: list[dict[str, Any]], x: dict[str, Any]) -> dict[str, Any]:
    return {
        "data": {"values": rows},
        "mark": {"type": "bar"},
        "encoding": {"x": x, "x2": {"field": "high"}, **stacked_sides()},
    }


def histogram(
    edges: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    *,
    title: str,
    label: str,
    marks: Sequence[tuple[float, str]] = (),
    log: bool = False,
    open_ends: tuple[bool, bool] = (False, False),
) -> Markup:
    """Draw kept and dropped documents, stacked, with thresholds as dashed lines.

    Args:
        edges: n + 1 edges of n bins.
        counts: 2 x n documents, kept first.
        title: of the x axis.
        label: what the picture shows, for those who do not see it.
        marks: position and name of each threshold.
        log: a logarithmic x axis.
        open_ends: the first, and the last, bin holds everything beyond it too.

    Returns:
        An ``<svg>`` element to stand in HTML.
    """
    scale: dict[str, Any] = {"domain": [float(edges[0]), float(edges[-1])], "nice": False, "zero": False}
    axis: dict[str, Any] = {"title": title, "grid": False, "tickCount": 6, "labelOverlap": True}
    if log:
        scale["type"] = "log"
        steps = (1,) if edges[-1] / edges[0] > 100 else (1, 2, 5)
        axis |= {"values": [step * 10**power for power in range(10) for step in steps], "format": "~s"}
    x = {"field": "low", "type": "quantitative", "bin": {"binned": True}, "scale": scale, "axis": axis}
    bars = _bar_layer(_bars(edges, counts, open_ends), x)
    at = {"field": "at", "type": "quantitative", "scale": scale}
    inside = [{"at": at_value, "told": told} for at_value, told in marks if edges[0] <= at_value <= edges[-1]]
    lines = {
        "data": {"values": inside},
        "mark": {"type": "rule", "strokeDash": [5, 3], "strokeWidth": 2, "color": "var(--ink)"},
        "encoding": {"x": at, "description": {"field": "told"}},
    }
    return draw([bars, lines] if inside else [bars], label)


def draw(layers: Sequence[dict[str, Any]], label: str, width: int = _WIDTH, height: int = _HEIGHT) -> Markup:
    """Draw Vega-Lite layers over each other, in the style of the page.

    Args:
        layers: with their data; colours are CSS variables of the page, such as ``var(--kept)``. What a bar, rule or
            point says when pointed at is its ``description``.
        label: what the picture shows, for those who do not see it.
        width: of the plot in CSS pixels at full size.
        height: the same.

    Returns:
        An ``<svg>`` element to stand in HTML.
    """
    return Markup(_inline(vl_convert.vegalite_to_svg(layered(layers, width, height), allowed_base_urls=[]), label))


def layered(layers: Sequence[dict[str, Any]], width: int = _WIDTH, height: int = _HEIGHT) -> dict[str, Any]:
    """Return the Vega-Lite specification of layers over each other, in the style of the page."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "background": None,
        "width": width,
        "height": height,
        "layer": list(layers),
        "config": _CONFIG,
    }


#: what the page's variables are on white paper, for a picture that stands by itself
_PAPER = {
    "var(--ink)": "#1d1f23",
    "var(--soft)": "#5b6068",
    "var(--line)": "#e0ddd6",
    "var(--panel)": "#ffffff",
    "var(--kept)": "#0072b2",
    "var(--dropped)": "#e69f00",
}


def save_picture(path: Path, spec: Mapping[str, Any]) -> None:
    """Write a specification as ``path`` with .svg and .png (twice the size), on white, to be put into a paper.

    Raises:
        FineeduError: a file cannot be written.
    """
    text = json.dumps({**spec, "background": "white", "padding": 8})
    for name, colour in _PAPER.items():
        text = text.replace(name, colour)
    paper = json.loads(text)
    # A font that the machine lacks would leave a PNG without any text: names of families are for the SVG alone.
    svg = vl_convert.vegalite_to_svg(paper, allowed_base_urls=[]).replace(
        'font-family="sans-serif"', 'font-family="Helvetica, Arial, sans-serif"'
    )
    png = vl_convert.vegalite_to_png(paper, scale=2, allowed_base_urls=[])
    for suffix, content in ((".svg", svg.encode()), (".png", png)):
        with atomic_open(path.with_suffix(suffix)) as stream:
            stream.write(content)


_CONFIG = {
    "view": {"stroke": None},
    "bar": {"binSpacing": 1},
    "axis": {
        "labelColor": "var(--soft)",
        "titleColor": "var(--soft)",
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
}


def _inline(svg: str, label: str) -> str:
    """Make Vega's SVG stand in a page: one picture with a label, a tooltip a bar, sized by CSS."""
    root = etree.fromstring(svg.encode())
    for element in root.iter():
        told = element.get("aria-label")
        if told and element.get("aria-roledescription") in ("bar", "rule mark", "point"):
            etree.SubElement(element, f"{_SVG}title").text = told
        for name in _NEEDLESS:
            element.attrib.pop(name, None)
    for name in ("width", "height"):
        root.attrib.pop(name)
    root.set("role", "img")
    root.set("aria-label", label)
    return re.sub(r"(\.\d{2})\d+", r"\1", etree.tostring(root, encoding="unicode"))
