"""The blast radius of deduplication, as a section of a run's report and as a page of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fineedu.report.charts import Chart, draw, stacked_sides
from fineedu.report.display import count, share
from fineedu.report.html import write_page

_WAYS = {"minhash": "MinHash", "exact": "equal text", "url": "equal address"}


def duplicates_shown(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template shows.

    Args:
        report: ``dedup/report.json`` of a store.
    """
    settings = report["settings"]
    drawn = [_size_chart(report["sizes"])] if report["sizes"] else []
    if "minhash" in settings["by"]:
        drawn.append(_curve_chart(report["curve"], report["bound"]))
    return {
        "dup": report,
        "charts": drawn,
        "settings": _settings(settings, report["by"]),
        "rule": _rule(report["worst"], settings["max_host_loss"], settings["host_documents"]),
        "host_documents": settings["host_documents"],
        "line_unit": (settings["lines"] or {}).get("unit", ""),
        "line_documents": (settings["lines"] or {}).get("documents", 0),
        "substring_bytes": (settings["substrings"] or {}).get("bytes", 0),
    }


def write_duplicates_page(path: Path, report: Mapping[str, Any]) -> Path:
    """Write the blast radius as one HTML file.

    Raises:
        FineeduError: the file cannot be written.
    """
    template = Path(__file__).with_name("duplicates.page.html.j2")
    return write_page(path, template, {"duplicates": duplicates_shown(report)})


def _settings(settings: Mapping[str, Any], by: Mapping[str, int]) -> str:
    found = [f"{_WAYS[way]}" for way in settings["by"]]
    if "minhash" in settings["by"]:
        found[settings["by"].index("minhash")] += (
            f" ({settings['shingle']} {settings['n']}-grams, {settings['bands']} bands of {settings['rows']})"
        )
    places = {"dump": "within a dump", "language": "within a language", "global": "among all documents"}
    ways = ", ".join(f"{way.replace('+', ' and ')} {count(number)}" for way, number in by.items())
    told = f"Compared by {' and '.join(found)}, {places[settings['scope']]}; the {settings['keep']} stays."
    return f"{told} Documents in clusters by: {ways}." if ways else told


def _rule(worst: Sequence[Mapping[str, Any]], most: float | None, documents: int) -> str:
    if most is None:
        return ""
    over = [row for row in worst if row["share"] > most]
    told = f"The run stops where a host of {count(documents)} documents or more would lose over {most:.0%}: "
    return told + (f"{len(over)} would." if over else "none would.")


def _size_chart(sizes: Sequence[Mapping[str, Any]]) -> Chart:
    """Draw the documents of clusters by size: one of each stays."""
    rows = []
    for row in sizes:
        low, high = row["at_least"], row["below"] - 1
        size = (
            f"{count(low)} or more"
            if high > 1 << 40
            else count(low)
            if high == low
            else f"{count(low)} to {count(high)}"
        )
        told = f"clusters of {size}: {count(row['clusters'])}, {count(row['documents'])} documents"
        for order, (side, number) in enumerate(
            (("kept", row["clusters"]), ("dropped", row["documents"] - row["clusters"]))
        ):
            rows.append({"size": size, "side": side, "order": order, "n": number, "told": told})
    documents, clusters = (sum(row[name] for row in sizes) for name in ("documents", "clusters"))
    note = f"{count(clusters)} clusters of {count(documents)} documents: one of each stays."
    axis = {"title": "documents of a cluster", "labelAngle": 0, "grid": False}
    x = {"field": "size", "type": "nominal", "sort": None, "axis": axis}
    layer = {"data": {"values": rows}, "mark": {"type": "bar"}, "encoding": {"x": x, **stacked_sides()}}
    return Chart("Cluster sizes", draw([layer], f"Documents by size of their cluster. {note}"), note)


def _curve_chart(curve: Sequence[Mapping[str, Any]], bound: float) -> Chart:
    """Draw the S-curve: what share of pairs the banding finds."""
    rows = [{**row, "told": f"Jaccard {row['similarity']}: {share(row['found'], 1)} of pairs found"} for row in curve]
    x = {
        "field": "similarity",
        "type": "quantitative",
        "scale": {"domain": [0.5, 1]},
        "axis": {"title": "Jaccard similarity of a pair", "grid": False, "tickCount": 6},
    }
    y = {"field": "found", "type": "quantitative", "axis": {"title": "share of pairs found", "format": ".0%"}}
    line = {"data": {"values": rows}, "mark": {"type": "line", "color": "var(--kept)"}, "encoding": {"x": x, "y": y}}
    points = {
        "data": {"values": rows},
        "mark": {"type": "point", "filled": True, "size": 40, "color": "var(--kept)"},
        "encoding": {"x": x, "y": y, "description": {"field": "told"}},
    }
    at = {row["similarity"]: row["found"] for row in curve}
    told = ", ".join(f"{similarity:.1f}: {share(at[similarity], 1)}" for similarity in (0.6, 0.7, 0.8, 0.9))
    note = f"1 − (1 − s^rows)^bands. Pairs of similarity {told}."
    return Chart("What MinHash finds", draw([line, points], f"S-curve of the banding. {note}"), note)
