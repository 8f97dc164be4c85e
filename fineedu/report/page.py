"""The report: one HTML file without scripts, that asks nothing of the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined

from fineedu.job import Job
from fineedu.report.charts import length_chart, score_chart, share_chart
from fineedu.report.collect import collect
from fineedu.store import atomic_open


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def _value(value: Any) -> str:
    if value is None:
        return "missing"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _clean(text: str) -> str:
    """Replace control and direction characters, which escaping leaves alone and browsers obey."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def _rule_rows(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    counts = manifest["counts"]
    rows = []
    for name, sql in manifest["recipe"]["select"]["rules"].items():
        fails, missing = counts["reasons"].get(name, 0), counts["reasons"].get(f"{name}:missing", 0)
        alone = counts["only_reason"].get(name, 0) + counts["only_reason"].get(f"{name}:missing", 0)
        rows.append({"name": name, "sql": sql, "fails": fails, "missing": missing, "alone": alone})
    return rows


def _funnel(counts: dict[str, Any]) -> list[dict[str, Any]]:
    steps = [("pages in the archives", counts["pages"]), ("documents with text", counts["documents"]), ("kept", counts["kept"])]
    first = max(steps[0][1], 1)
    return [
        {"name": name, "count": count, "share": _share(count, steps[n - 1][1]) if n else "", "width": 100 * count / first}
        for n, (name, count) in enumerate(steps)
    ]


def write_report(
    path: Path, job: Job, schema: Mapping[str, pl.DataType], owners: Mapping[str, str], manifest: dict[str, Any]
) -> Path:
    """Write the report of a finished run. Equal runs give equal bytes.

    Args:
        path: where it goes.
        job: the run.
        schema: columns of documents and signals.
        owners: signal column to its family.
        manifest: the run's manifest.

    Returns:
        ``path``.
    """
    findings = collect(job, schema, owners)
    several = len({dump for dump, _ in findings.dumps}) > 1
    charts = [
        ("Educational score", score_chart(findings)),
        ("Length of text", length_chart(findings)),
        ("Languages", share_chart(findings.languages, "Documents by language, kept and dropped")),
        ("Registered domains", share_chart(findings.hosts, "Documents by registered domain, kept and dropped")),
        ("Dumps", share_chart(findings.dumps, "Documents by dump, kept and dropped", 40) if several else None),
    ]
    environment = Environment(
        loader=PackageLoader("fineedu.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"share": _share, "value": _value, "clean": _clean}
    page = environment.get_template("page.html.j2").render(
        manifest=manifest,
        counts=manifest["counts"],
        funnel=_funnel(manifest["counts"]),
        rules=_rule_rows(manifest),
        charts=[(title, svg) for title, svg in charts if svg],
        findings=findings,
        inputs=list(manifest["inputs"].items()),
    )
    with atomic_open(path) as stream:
        stream.write(page.encode("utf-8", "replace"))
    return path
