"""The report's charts: Altair specifications rendered to SVG, so that the page needs no script and no network."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import altair as alt
import numpy as np
import polars as pl
import vl_convert

from fineedu.report.collect import LENGTH_EDGES, Findings

#: Okabe and Ito's blue and orange: told apart with every common kind of colour blindness, and in grey.
KEPT, DROPPED = "#0072B2", "#E69F00"
_INK, _FAINT = "#767676", "#9a9a9a"  # readable on white and on near-black (4.5 to 1)


def _svg(chart: Any, label: str) -> str:
    styled = chart.properties(background="transparent").configure_view(stroke=None)
    styled = styled.configure_axis(
        labelColor=_INK, titleColor=_INK, gridColor=_FAINT, gridOpacity=0.25, domainColor=_FAINT, tickColor=_FAINT,
        labelFontSize=12, titleFontSize=12, titleFontWeight="normal", labelFont="sans-serif", titleFont="sans-serif",
    ).configure_legend(  # fmt: skip
        labelColor=_INK, titleColor=_INK, labelFontSize=12, orient="top", title=None, labelFont="sans-serif"
    )
    svg = vl_convert.vegalite_to_svg(styled.to_json())
    # Ids of clip paths count up within the process: number them anew within the chart, for equal bytes.
    ids = list(dict.fromkeys(re.findall(r'id="([^"]+)"', svg)))
    for number, name in enumerate(ids):
        svg = svg.replace(f'"{name}"', f'"c{abs(hash_label(label))}-{number}"').replace(f"#{name})", f"#c{abs(hash_label(label))}-{number})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def hash_label(label: str) -> int:
    """Return a small number that stands for a label, the same in every process."""
    return sum(ord(character) * (place + 1) for place, character in enumerate(label)) % 100_000


_COLOUR = alt.Color("state:N", scale=alt.Scale(domain=["kept", "dropped"], range=[KEPT, DROPPED]))


def _states(counts: Any, labels: list[Any]) -> pl.DataFrame:
    """Return long rows of label, state and count from a (2, n) array of dropped and kept."""
    rows = [
        {"at": label, "state": state, "documents": int(counts[index, place])}
        for index, state in ((1, "kept"), (0, "dropped"))
        for place, label in enumerate(labels)
    ]
    return pl.DataFrame(rows)


def score_chart(findings: Findings) -> str | None:
    """Return the histogram of the score, with the bounds that the rules set on it."""
    if findings.score_column is None or not findings.scores.sum():
        return None
    edges = np.round(np.arange(50) / 10, 1)
    frame = _states(findings.scores, edges.tolist()).with_columns((pl.col("at") + 0.1).alias("to"))
    bars = alt.Chart(frame).mark_bar(binSpacing=0.5).encode(
        x=alt.X("at:Q", title=f"{findings.score_column} (raw, 0 to 5)", scale=alt.Scale(domain=[0, 5])),
        x2="to:Q", y=alt.Y("sum(documents):Q", title="documents", stack=True), color=_COLOUR,
    )  # fmt: skip
    at = [bound.value for bound in findings.bounds if bound.column == findings.score_column]
    lines = alt.Chart(pl.DataFrame({"bound": at}, schema={"bound": pl.Float64})).mark_rule(strokeDash=[5, 4], strokeWidth=2, color=_INK)
    chart = bars + lines.encode(x="bound:Q") if at else bars
    return _svg(chart.properties(width=460, height=200), "Histogram of the score, kept and dropped documents")


def length_chart(findings: Findings) -> str:
    """Return documents by length of text, on powers of two."""
    names = [_bytes(int(edge)) for edge in LENGTH_EDGES]
    labels = [f"to {names[0]}", *names]
    used = np.flatnonzero(findings.lengths.sum(axis=0))
    low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
    frame = _states(findings.lengths[:, low:high], labels[low:high])
    chart = alt.Chart(frame).mark_bar().encode(
        x=alt.X("at:N", sort=labels, title="text, from", axis=alt.Axis(labelAngle=-40)),
        y=alt.Y("documents:Q", title="documents"), color=_COLOUR,
    )  # fmt: skip
    return _svg(chart.properties(width=460, height=200), "Documents by length of text, kept and dropped")


def _bytes(size: int) -> str:
    return f"{size} B" if size < 1024 else f"{size // 1024} kB" if size < 1 << 20 else f"{size >> 20} MB"


def share_chart(counts: Counter[tuple[str, bool]], title: str, top: int = 12) -> str:
    """Return bars of the most frequent values, kept and dropped."""
    totals: Counter[str] = Counter()
    for (value, _), count in counts.items():
        totals[value] += count
    names = [name for name, _ in sorted(totals.items(), key=lambda item: (-item[1], item[0]))[:top]]
    rows = [
        {"value": name[:40], "state": state, "documents": counts[(name, kept)]}
        for name in names
        for state, kept in (("kept", True), ("dropped", False))
    ]
    frame = pl.DataFrame(rows, schema={"value": pl.String, "state": pl.String, "documents": pl.Int64})
    chart = alt.Chart(frame).mark_bar().encode(
        y=alt.Y("value:N", sort=[name[:40] for name in names], title=None, axis=alt.Axis(labelLimit=220)),
        x=alt.X("documents:Q", title="documents"), color=_COLOUR,
    )  # fmt: skip
    return _svg(chart.properties(width=380, height=alt.Step(20)), title)
