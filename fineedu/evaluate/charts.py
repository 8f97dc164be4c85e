"""Pictures of an evaluation, as layers for :func:`fineedu.report.charts.draw`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unicodedata import east_asian_width

from markupsafe import Markup

from fineedu.evaluate.curve import LearningCurve
from fineedu.evaluate.measures import SCALE, Bin, Curve, Measures
from fineedu.evaluate.resample import Estimate
from fineedu.evaluate.wording import figure, interval
from fineedu.report.charts import draw

_SIDE = 440
_ROW = 26
_LINE = {"color": "var(--kept)", "strokeWidth": 2.5}
_DOT = {"type": "point", "filled": True, "fill": "var(--kept)", "stroke": "var(--panel)", "opacity": 1, "size": 90}
_WHISKER = {"type": "rule", "color": "var(--kept)", "strokeWidth": 2}
_REFERENCE = {"type": "rule", "strokeDash": [5, 3], "strokeWidth": 1.5, "color": "var(--soft)"}


def _axis(field: str, title: str, domain: Sequence[float], **more: Any) -> dict[str, Any]:
    scale = {"domain": list(domain), "nice": False, "zero": False} | more.pop("scale", {})
    return {"field": field, "type": "quantitative", "scale": scale, "axis": {"title": title, "tickCount": 6, **more}}


def _row(found: Estimate, **more: Any) -> dict[str, Any]:
    told = f"{more.pop('told')}: {figure(found.value)} {interval(found)}"
    return {"value": found.value, "low": found.low, "high": found.high, "told": told.strip(), **more}


def precision_recall_chart(curve: Curve, measures: Measures) -> Markup:
    """Draw the curve with its band, the base rate, and where the two cuts lie."""
    level = curve.level
    rows = [
        _row(found, recall=recall, told=f"recall {recall:.2f}, precision")
        for recall, found in zip(curve.recall, curve.precision, strict=True)
    ]
    x, y = _axis("recall", "recall", (0, 1), grid=False), _axis("value", "precision", (0, 1))
    cuts: list[dict[str, Any]] = []
    for kind in ("rounded", "raw"):
        recall, precision = (measures[f"{name}_{level}_{kind}"] for name in ("recall", "precision"))
        if recall.value is not None and precision.value is not None:
            told = f"{kind} score ≥ {level}: precision {figure(precision.value)}, recall {figure(recall.value)}"
            cuts.append({"recall": recall.value, "value": precision.value, "told": told, "kind": kind})
    band = {
        "data": {"values": [row for row in rows if row["low"] is not None]},
        "mark": {"type": "area", "color": "var(--kept)", "fillOpacity": 0.18},
        "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}},
    }
    line = {"data": {"values": rows}, "mark": {"type": "line", **_LINE}, "encoding": {"x": x, "y": y}}
    base = {
        "data": {"values": [{"value": curve.base_rate, "told": f"keeping everything: {curve.base_rate:.3f}"}]},
        "mark": _REFERENCE,
        "encoding": {"y": y, "description": {"field": "told"}},
    }
    dots = {
        "data": {"values": cuts},
        "mark": _DOT | {"fill": "var(--ink)"},
        "encoding": {"x": x, "y": y, "description": {"field": "told"}},
    }
    # The raw cut is the higher one, to the left: its name goes above it, the other's below.
    under = ("right", -8) if all(row["recall"] > 0.2 for row in cuts) else ("left", 8)
    names = [
        {
            "data": {"values": [row for row in cuts if row["kind"] == kind]},
            "mark": {"type": "text", "align": side, "dx": dx, "dy": dy, "color": "var(--ink)", "fontSize": 12},
            "encoding": {"x": x, "y": y, "text": {"field": "kind"}},
        }
        for kind, side, dx, dy in (("raw", "left", 8, -9), ("rounded", *under, 12))
    ]
    label = f"Precision against recall for documents labelled {level} or more; base rate {curve.base_rate:.3f}."
    return draw([band, line, base, *([dots, *names] if cuts else [])], label, _SIDE, _SIDE - 120)


def reliability_chart(bins: Sequence[Bin]) -> Markup:
    """Draw the mean label of documents by their score, beside the line where both are equal."""
    rows = [
        _row(part.mean_label, score=part.mean_score, n=part.n, told=f"{part.n:,} documents score "
             f"{part.mean_score:.2f} on average, mean label") for part in bins
    ]  # fmt: skip
    # A margin, so that dots at the ends of the scale are whole.
    wide, ticks = (SCALE[0] - 0.15, SCALE[1] + 0.15), list(range(SCALE[1] + 1))
    x = _axis("score", "mean score", wide, grid=False, values=ticks)
    y = _axis("value", "mean label", wide, values=ticks)
    corners = [{"score": end, "value": end} for end in SCALE]
    dashes = {"type": "line", "strokeDash": [5, 3], "strokeWidth": 1.5, "color": "var(--soft)"}
    size = {"field": "n", "type": "quantitative", "legend": None, "scale": {"range": [60, 380], "zero": True}}
    described = {"x": x, "description": {"field": "told"}}
    layers = [
        {"data": {"values": corners}, "mark": dashes, "encoding": {"x": x, "y": y}},
        {
            "data": {"values": [row for row in rows if row["low"] is not None]},
            "mark": _WHISKER,
            "encoding": described | {"y": y | {"field": "low"}, "y2": {"field": "high"}},
        },
        {"data": {"values": rows}, "mark": _DOT, "encoding": described | {"y": y, "size": size}},
    ]
    return draw(layers, "Mean label by mean score, in bins of half a point.", _SIDE, _SIDE - 120)


def forest_chart(
    rows: Sequence[tuple[str, Estimate]], title: str, label: str, reference: float | None = None, strong: str = ""
) -> Markup:
    """Draw named estimates below each other, with their intervals.

    Args:
        rows: name (30 characters at most) and estimate; rows without a value are left out.
        title: of the axis.
        label: what the picture shows.
        reference: where a dashed line stands.
        strong: the row in the page's ink.
    """
    shown = [_row(found, name=name, told=name) for name, found in rows if found.value is not None]
    ends = [row[end] for row in shown for end in ("low", "value", "high") if row[end] is not None]
    low, high = min([0.0, *ends]), max([*ends, 1.0 if max(ends, default=0) <= 1 else max(ends)])
    x = _axis("value", title, (low, high))
    extent = 12 + max((_width(row["name"]) for row in shown), default=0)
    y = {
        "field": "name",
        "type": "nominal",
        "sort": [row["name"] for row in shown],
        "axis": {
            "title": None,
            "labelLimit": 300,
            "minExtent": extent,
            "domain": False,
            "ticks": False,
            "labelPadding": 8,
        },
    }
    colour = {"condition": {"test": {"field": "name", "equal": strong}, "value": "var(--ink)"}, "value": "var(--kept)"}
    described = {"y": y, "description": {"field": "told"}}
    layers: list[dict[str, Any]] = [
        {
            "data": {"values": [row for row in shown if row["low"] is not None]},
            "mark": _WHISKER,
            "encoding": described | {"x": x | {"field": "low"}, "x2": {"field": "high"}, "color": colour},
        },
        {"data": {"values": shown}, "mark": _DOT, "encoding": described | {"x": x, "fill": colour}},
    ]
    if reference is not None:
        mark = {"data": {"values": [{"value": reference}]}, "mark": _REFERENCE, "encoding": {"x": x}}
        layers.insert(0, mark)
    return draw(layers, label, _SIDE - 120, max(2, len(shown)) * _ROW)


def _width(name: str) -> int:
    """Return the room a label needs: the page's font is wider than the one that Vega measures with."""
    return sum(14 if east_asian_width(letter) in "WF" else 8 for letter in name)


def learning_chart(curve: LearningCurve, measure: str, title: str) -> Markup:
    """Draw a measure by the number of labels, on a logarithmic axis."""
    rows = [
        _row(point.estimates[measure], n=point.n_labels, told=f"{point.n_labels:,} labels, {title}")
        for point in curve.points
    ]
    sizes = [point.n_labels for point in curve.points]
    scale = {"type": "log", "domain": [sizes[0] * 0.9, sizes[-1] * 1.1]}
    x = _axis("n", "labels", (0, 1), scale=scale, grid=False, values=sizes, format=",d")
    y = _axis("value", title, (0, 1))
    described = {"x": x, "description": {"field": "told"}}
    layers = [
        {"data": {"values": rows}, "mark": {"type": "line", **_LINE}, "encoding": {"x": x, "y": y}},
        {
            "data": {"values": [row for row in rows if row["low"] is not None]},
            "mark": _WHISKER,
            "encoding": described | {"y": y | {"field": "low"}, "y2": {"field": "high"}},
        },
        {"data": {"values": rows}, "mark": _DOT, "encoding": described | {"y": y}},
    ]
    return draw(layers, f"{title} by the number of labels trained on.", _SIDE, _SIDE - 120)
