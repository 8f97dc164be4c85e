"""Pictures of prevalence, as Vega-Lite layers: the page draws them in its colours, files on white paper."""

from __future__ import annotations

from datetime import date
from typing import Any, NamedTuple

import polars as pl
from markupsafe import Markup

from fineedu.phrases.lexicon import ANY
from fineedu.report.charts import draw, layered
from fineedu.synthetic.analysis import Analysis
from fineedu.synthetic.recipe import CHATGPT

WIDE, HIGH = 640, 300
_SMALL, _LOW = 230, 120
MAIN, OTHER, GREY = "var(--kept)", "var(--dropped)", "var(--soft)"


class Picture(NamedTuple):
    """A chart.

    Attributes:
        name: of its files.
        title: above it.
        layers: Vega-Lite.
        note: what it shows, in words.
        width: of the plot.
        height: of the plot.
    """

    name: str
    title: str
    layers: list[dict[str, Any]]
    note: str
    width: int = WIDE
    height: int = HIGH

    @property
    def svg(self) -> Markup:
        """The picture as it stands in the page."""
        return draw(self.layers, self.note, self.width, self.height)

    @property
    def spec(self) -> dict[str, Any]:
        """The same by itself."""
        return layered(self.layers, self.width, self.height)


def _x(**more: Any) -> dict[str, Any]:
    axis = {"title": None, "grid": False, "format": "%Y", "tickCount": "year", "labelOverlap": True}
    return {"field": "middle", "type": "temporal", "axis": axis | more}


def _y(field: str, title: str | None, **axis: Any) -> dict[str, Any]:
    shown = {"title": title, "tickCount": 5, "labelOverlap": True} | axis
    return {"field": field, "type": "quantitative", "scale": {"zero": True}, "axis": shown}


def _cutoff(cutoff: date, *, named: bool = True) -> list[dict[str, Any]]:
    data = {"values": [{"middle": cutoff.isoformat(), "told": "ChatGPT" if cutoff == CHATGPT else f"cut-off {cutoff}"}]}
    rule = {
        "data": data,
        "mark": {"type": "rule", "strokeDash": [2, 3], "strokeWidth": 1.5, "color": "var(--ink)"},
        "encoding": {"x": _x(), "description": {"field": "told"}},
    }
    text = {
        "data": data,
        "mark": {
            "type": "text",
            "align": "right",
            "dx": -6,
            "dy": 8,
            "baseline": "top",
            "color": "var(--ink)",
            "fontSize": 12,
        },
        "encoding": {"x": _x(), "y": {"value": 0}, "text": {"field": "told"}},
    }
    return [rule, text] if named else [rule]


def _rows(table: pl.DataFrame, value: str, low: str, high: str, told: str) -> list[dict[str, Any]]:
    rows = []
    for row in table.filter(pl.col(value).is_finite()).iter_rows(named=True):
        if row[low] is None or row[high] is None:
            continue
        words = f"{row['period']}, {told}: {row[value]:.3g} [{row[low]:.3g}, {row[high]:.3g}]"
        middle = row["middle"].isoformat()
        rows.append({"middle": middle, "value": row[value], "low": row[low], "high": row[high], "told": words})
    return rows


def _estimates(
    rows: list[dict[str, Any]], y: dict[str, Any], colour: str, *, shape: str = "circle", size: int = 60
) -> list[dict[str, Any]]:
    """Return whiskers, a line and points."""
    data = {"values": rows}
    x = _x()
    return [
        {
            "data": data,
            "mark": {"type": "rule", "color": colour, "strokeWidth": 1.5, "strokeOpacity": 0.7},
            "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}, "description": {"field": "told"}},
        },
        {"data": data, "mark": {"type": "line", "color": colour, "strokeWidth": 2}, "encoding": {"x": x, "y": y}},
        {
            "data": data,
            "mark": {
                "type": "point", "shape": shape, "filled": True, "fill": colour, "stroke": "var(--panel)", "opacity": 1,
                "strokeWidth": 1.5 if size > 30 else 0.5, "size": size,
            },
            "encoding": {"x": x, "y": y, "description": {"field": "told"}},
        },
    ]  # fmt: skip


def _key(names: list[tuple[str, str]]) -> list[dict[str, Any]]:
    """Name the lines in their colours, at the top left, where a long name is never cut off."""
    return [
        {
            "data": {"values": [{"name": name}]},
            "mark": {"type": "text", "align": "left", "baseline": "top", "color": colour, "fontWeight": "bold"},
            "encoding": {"x": {"value": 8}, "y": {"value": 6 + 16 * number}, "text": {"field": "name"}},
        }
        for number, (name, colour) in enumerate(names)
    ]


def _ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten within the ends; powers alone where those would crowd."""
    steps = (1, 2, 5) if high / low < 300 else (1,)
    return [step * 10.0**power for power in range(-4, 5) for step in steps if low <= step * 10.0**power <= high]


def log_axis(field: str, title: str, low: float, high: float, **axis: Any) -> dict[str, Any]:
    """Return a logarithmic axis from ``low`` to ``high`` with round ticks."""
    scale = {"type": "log", "domain": [low, high], "nice": False, "clamp": True}
    return {
        "field": field,
        "type": "quantitative",
        "scale": scale,
        "axis": {"title": title, "values": _ticks(low, high), "format": "~g"} | axis,
    }


def _one(value: float = 1.0) -> dict[str, Any]:
    return {
        "data": {"values": [{"value": value}]},
        "mark": {"type": "rule", "color": GREY, "strokeWidth": 1},
        "encoding": {"y": {"field": "value", "type": "quantitative"}},
    }


def _clipped(table: pl.DataFrame, low: float, high: float) -> pl.DataFrame:
    """Return ratios that can stand on a logarithmic axis: ends held within it, zeros left out."""
    return table.filter(pl.col("ratio") > 0).with_columns(pl.col("ratio_low", "ratio_high").clip(low, high))


def ratio_chart(found: Analysis) -> Picture:
    """Draw the headline's ratio over periods, beside the control."""
    table = found.tables["counterfactual"].filter(pl.col("phrase") == ANY)
    mine = table.filter(pl.col("lexicon") == found.headline)
    middle = mine.filter(pl.col("ratio") > 0)["ratio"].drop_nulls().to_list() or [1.0]
    low, high = min(0.5, min(middle) / 3), max(2.0, max(middle) * 3)
    y = log_axis("value", "times the trend before", low, high)
    layers = [_one()]
    controls = [lexicon for lexicon in _kinds(found, "control") if lexicon != found.headline][:1]
    for lexicon in controls:
        part = table.filter(pl.col("lexicon") == lexicon)
        rows = _rows(_clipped(part, low, high), "ratio", "ratio_low", "ratio_high", lexicon)
        layers += _estimates(rows, y, GREY, shape="square", size=40)
    rows = _rows(_clipped(mine, low, high), "ratio", "ratio_low", "ratio_high", found.headline)
    names = [(found.headline, MAIN), *((lexicon, GREY) for lexicon in controls)]
    layers += _estimates(rows, y, MAIN) + _key(names) + _cutoff(found.recipe.cutoff)
    note = (
        f"Hits of {found.headline} over the hits that the trend before {found.recipe.cutoff} gives, by period, with "
        "95 % intervals; at 1 nothing has changed."
    )
    if controls:
        note += f" Grey: {controls[0]}, phrases that should stay at 1."
    return Picture("ratio", "Against the trend before", layers, note)


def _kinds(found: Analysis, kind: str) -> list[str]:
    names = found.tables["phrases"].filter((pl.col("kind") == kind) & (pl.col("phrase") == ANY))["lexicon"]
    return [str(name) for name in names]


def rate_chart(found: Analysis, lexicon: str, phrase: str = ANY, *, small: bool = False) -> Picture:
    """Draw a rate over periods with the counterfactual's band."""
    key = (pl.col("lexicon") == lexicon) & (pl.col("phrase") == phrase)
    rates = found.tables["rates"].filter(key)
    expected = found.tables["counterfactual"].filter(key).join(rates.select("period", "words"), on="period")
    scale = 1e6 / pl.col("words")
    band = expected.filter(pl.col("expected").is_not_null()).select(
        "period", "middle", value=pl.col("expected") * scale, low=pl.col("expected_low") * scale,
        high=pl.col("expected_high") * scale,
    )  # fmt: skip
    y = _y("value", None if small else "hits per million words")
    rows = _rows(rates, "rate", "rate_low", "rate_high", phrase if phrase != ANY else lexicon)
    top = max([row["high"] for row in rows if row["value"] > 0] or [1.0])
    # One period with hardly a word must not flatten all others.
    ceiling = min(top, 3 * max([row["value"] for row in rows] or [1.0]) or 1.0)
    y["scale"] = {"domain": [0, ceiling], "nice": True, "clamp": True}
    layers: list[dict[str, Any]] = []
    values = _rows(band, "value", "low", "high", "expected")
    if values:
        x = _x()
        data = {"values": values}
        layers = [
            {
                "data": data,
                "mark": {"type": "area", "color": OTHER, "fillOpacity": 0.25},
                "encoding": {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}},
            },
            {
                "data": data,
                "mark": {"type": "line", "color": OTHER, "strokeDash": [5, 3], "strokeWidth": 1.5},
                "encoding": {"x": x, "y": y},
            },
        ]
    layers += _estimates(rows, y, MAIN, size=25 if small else 60) + _cutoff(found.recipe.cutoff, named=not small)
    note = (
        f"Blue: hits of {'any phrase of ' + lexicon if phrase == ANY else phrase} per million words, with 95 % "
        "intervals. Orange: the trend before the cut-off, carried on, with its 95 % prediction interval."
    )
    title = phrase if phrase != ANY else f"Rate of {lexicon}"
    size = (_SMALL, _LOW) if small else (WIDE, HIGH)
    layers = _shrink(layers, found) if small else layers
    return Picture(f"rate-{lexicon}", title, layers, note, *size)


def _shrink(layers: list[dict[str, Any]], found: Analysis) -> list[dict[str, Any]]:
    """Return layers for a small plot: few years named, and the same time axis in every one."""
    domain = [found.span.middles[0].isoformat(), found.span.middles[-1].isoformat()]
    for layer in layers:
        x = layer["encoding"].get("x", {})
        if x.get("type") == "temporal":
            x |= {"axis": x["axis"] | {"tickCount": 4}, "scale": {"domain": domain}}
    return layers


def phrase_charts(found: Analysis, lexicon: str, limit: int = 24) -> list[Picture]:
    """Draw a small rate chart a phrase that has hits, the commonest first."""
    table = found.tables["phrases"].filter((pl.col("lexicon") == lexicon) & (pl.col("phrase") != ANY))
    table = table.with_columns(total=pl.col("hits_before") + pl.col("hits_after")).filter(pl.col("total") > 0)
    phrases = table.sort("total", "phrase", descending=[True, False]).head(limit)["phrase"]
    return [rate_chart(found, lexicon, phrase, small=True) for phrase in phrases]


def small_multiples(pictures: list[Picture]) -> dict[str, Any]:
    """Return one specification of many small pictures, three in a row."""
    title = {"anchor": "start", "fontSize": 13, "color": "var(--ink)"}
    parts = [
        {"title": title | {"text": part.title}, "width": part.width, "height": part.height, "layer": part.layers}
        for part in pictures
    ]
    spec = {key: value for key, value in layered([]).items() if key not in ("layer", "width", "height")}
    return spec | {"concat": parts, "columns": 3}


def share_chart(found: Analysis, table: str, title: str, note: str) -> Picture:
    """Draw an estimated share of machine-written text over periods."""
    span = pl.DataFrame({"period": found.span.names, "middle": found.span.middles})
    rows = _rows(found.tables[table].join(span, on="period"), "share", "share_low", "share_high", title)
    y = _y("value", "share", format=".0%")
    layers = _estimates(rows, y, MAIN) + _cutoff(found.recipe.cutoff)
    return Picture(table, title, layers, note)


def strata_charts(found: Analysis, by: str, limit: int = 12) -> list[Picture]:
    """Draw the headline's rate by value of a stratum, those with most words first."""
    table = found.tables["by"].filter((pl.col("by") == by) & (pl.col("lexicon") == found.headline))
    sizes = table.group_by("value").agg(pl.col("words").sum()).sort("words", "value", descending=[True, False])
    pictures = []
    for value in sizes.head(limit)["value"]:
        rows = _rows(table.filter(pl.col("value") == value), "rate", "rate_low", "rate_high", str(value))
        top = max([row["value"] for row in rows] or [1.0]) or 1.0
        y = _y("value", None)
        y["scale"] = {"domain": [0, 3 * top], "nice": True, "clamp": True}
        layers = _estimates(rows, y, MAIN, size=25) + _cutoff(found.recipe.cutoff, named=False)
        note = f"Hits of {found.headline} per million words where {by} is {value}, with 95 % intervals."
        pictures.append(Picture(f"by-{by}", str(value), _shrink(layers, found), note, _SMALL, _LOW))
    return pictures
