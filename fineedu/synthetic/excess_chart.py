"""The scatter of excess words."""

from __future__ import annotations

from math import log
from typing import Any

import polars as pl

from fineedu.synthetic.analysis import Analysis
from fineedu.synthetic.charts import GREY, MAIN, OTHER, Picture, log_axis

#: words named
_NAMED = 24


def excess_chart(found: Analysis) -> Picture | None:
    """Draw ratio against share of documents for the words of the last full period with excess words."""
    usable = [part for part in found.words if part.based_on and part.words["is_excess"].sum()]
    if not usable:
        return None
    part = max(usable, key=lambda one: one.words["documents"].sum())
    words = part.words.filter((pl.col("ratio") > 0.3) & (pl.col("excess") > -0.05))
    shown = pl.concat([words.filter(pl.col("sure")), words.filter(~pl.col("sure")).head(1500)])
    rows = [
        {
            "p": p,
            "ratio": min(ratio, 100.0),
            "kind": kind if sure and is_excess else "other",
            "word": word,
            "told": f"{word}: {p:.2%} of documents, {ratio:.2f} times the expected",
        }
        for word, p, ratio, kind, sure, is_excess in shown.select(
            "word", "p", "ratio", "kind", "sure", "is_excess"
        ).iter_rows()
    ]
    ends = [(min(part) / 1.15, max(part) * 1.15) for part in ([row[key] for row in rows] for key in ("p", "ratio"))]
    x = log_axis("p", "share of documents", *ends[0], format="~%", grid=False)
    y = log_axis("ratio", "times the expected share", *ends[1])
    order = ["style", "content", "unlisted"]
    colour = {
        "field": "kind",
        "scale": {"domain": order, "range": [MAIN, OTHER, GREY]},
        "legend": {"title": None, "orient": "top", "labelColor": "var(--soft)"},
    }
    shape = {
        "field": "kind",
        "scale": {"domain": order, "range": ["circle", "square", "triangle-up"]},
        "legend": {"title": None, "orient": "top"},
    }
    plain = {
        "data": {"values": [row for row in rows if row["kind"] == "other"]},
        "mark": {"type": "point", "filled": True, "size": 9, "fill": "var(--line)", "opacity": 0.8},
        "encoding": {"x": x, "y": y},
    }
    strong = [row for row in rows if row["kind"] != "other"]
    dots = {
        "data": {"values": strong},
        "mark": {"type": "point", "filled": True, "size": 45, "opacity": 0.85},
        "encoding": {"x": x, "y": y, "color": colour, "shape": shape, "description": {"field": "told"}},
    }
    named = sorted(strong, key=lambda row: (row["kind"] == "unlisted", -row["p"] * (1 - 1 / row["ratio"])))[:_NAMED]
    names = {
        "data": {"values": _apart(named)},
        "mark": {"type": "text", "align": "left", "dx": 6, "fontSize": 11, "color": "var(--ink)"},
        "encoding": {"x": x, "y": y, "text": {"field": "word"}},
    }
    note = (
        f"Words of {part.period} that are in more documents than {part.based_on[0]} and {part.based_on[1]} let expect "
        "(Kobak et al. 2025), beyond sampling error (z above 3). Blue circles: listed as style; orange squares: "
        "listed as content; grey triangles: on no list. Pale dots: other words."
    )  # fmt: skip
    return Picture("excess-words", "Words whose use jumped", [plain, dots, names], note)


def _apart(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows whose names do not lie over one another; the first has the right of way."""
    kept: list[dict[str, Any]] = []
    for row in rows:
        near = any(
            abs(log(row["ratio"] / other["ratio"])) < 0.07 and abs(log(row["p"] / other["p"])) < 0.9 for other in kept
        )
        if not near:
            kept.append(row)
    return kept
