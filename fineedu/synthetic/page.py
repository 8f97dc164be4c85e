"""The report of an analysis: HTML, charts as SVG and PNG, and every table as parquet and CSV beside them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import polars as pl

from fineedu.phrases.lexicon import ANY
from fineedu.report.charts import save_picture
from fineedu.report.html import write_page
from fineedu.store import atomic_open
from fineedu.synthetic.analysis import Analysis
from fineedu.synthetic.charts import (
    Picture,
    phrase_charts,
    rate_chart,
    ratio_chart,
    share_chart,
    small_multiples,
    strata_charts,
)
from fineedu.synthetic.excess_chart import excess_chart
from fineedu.synthetic.wording import headline, number, robustness, times, too_rare, warnings

_WORDS, _PHRASES = 40, 400


def write_report(folder: Path, found: Analysis, facts: dict[str, Any]) -> Path:
    """Write everything that an analysis found; the same findings give the same bytes.

    Args:
        folder: made where it is missing.
        found: the findings.
        facts: of the run, shown at the end: name to value.

    Returns:
        The path of ``report.html``.

    Raises:
        FineeduError: a file cannot be written.
    """
    for name, table in found.tables.items():
        _write_table(folder / "tables" / name, table)
    pictures = _pictures(found)
    phrases = phrase_charts(found, found.headline)
    strata = {by: strata_charts(found, by) for by in found.recipe.by}
    for picture in pictures:
        save_picture(folder / "charts" / picture.name, picture.spec)
    for name, parts in {"phrases": phrases, **{f"by-{by}": parts for by, parts in strata.items()}}.items():
        if parts:
            save_picture(folder / "charts" / name, small_multiples(parts))
    shown = {
        "found": found,
        "headline": headline(found),
        "warnings": warnings(found),
        "too_rare": too_rare(found),
        "pictures": pictures,
        "phrases": phrases,
        "strata": strata,
        "lexicons": _lexicons(found),
        "robustness": robustness(found),
        "words": _words(found),
        "standardised": _standardised(found),
        "group_excess": found.tables["group_excess"].to_dicts(),
        "detector": found.tables["detector"].to_dicts() if "detector" in found.tables else [],
        "mixture": found.tables["mixture"].to_dicts() if "mixture" in found.tables else [],
        "panel": found.tables["panel"],
        "number": number,
        "times": times,
        "facts": facts,
    }
    return write_page(folder / "report.html", Path(__file__).with_name("template.html.j2"), shown)


def _write_table(path: Path, table: pl.DataFrame) -> None:
    text = io.BytesIO()
    table.write_csv(text)
    with atomic_open(path.with_suffix(".csv")) as stream:
        stream.write(text.getvalue())
    with atomic_open(path.with_suffix(".parquet")) as stream:
        table.write_parquet(stream)


def _pictures(found: Analysis) -> list[Picture]:
    pictures = [ratio_chart(found), rate_chart(found, found.headline)]
    excess = excess_chart(found)
    if excess is not None:
        pictures.append(excess)
    if "mixture" in found.tables:
        note = (
            "Share of texts that two reference corpora tell to be machine-written (Liang et al. 2024), with 95 % "
            "intervals over domains. Before the cut-off it should be 0."
        )
        pictures.append(share_chart(found, "mixture", "Mixture estimate", note))
    if "detector" in found.tables:
        note = "Flag rate of the detector, corrected for its errors (Rogan and Gladen 1978), with 95 % intervals."
        pictures.append(share_chart(found, "detector", "Detector, corrected", note))
    return pictures


def _lexicons(found: Analysis) -> list[dict[str, Any]]:
    """Return each lexicon with its row and its phrases', the headline first."""
    table = found.tables["phrases"]
    names = sorted(table["lexicon"].unique(), key=lambda name: (name != found.headline, name))
    lexicons = []
    for name in names:
        rows = table.filter(pl.col("lexicon") == name)
        whole = rows.filter(pl.col("phrase") == ANY).row(0, named=True)
        parts = rows.filter(pl.col("phrase") != ANY).sort("hits_after", "phrase", descending=[True, False])
        lexicons.append({"name": name, "kind": whole["kind"], "whole": whole, "rows": parts.head(_PHRASES).to_dicts()})
    return lexicons


def _words(found: Analysis) -> list[dict[str, Any]]:
    """Return excess words of each period: how many, of which kind, and the first of them."""
    shown = []
    for part in found.words:
        if not part.based_on:
            continue
        sure = part.words.filter(pl.col("is_excess") & pl.col("sure"))
        kinds = dict(sure["kind"].value_counts().iter_rows())
        order = sure.sort(pl.col("kind") == "unlisted", "excess", "word", descending=[False, True, False])
        shown.append(
            {"period": part.period, "based_on": part.based_on, "n": sure.height,
             "published": int(part.words["is_excess"].sum()),
             "kinds": kinds, "rows": order.head(_WORDS).to_dicts(), "pruned": part.pruned}
        )  # fmt: skip
    return shown


def _standardised(found: Analysis) -> list[dict[str, Any]]:
    """Return for the headline the plain rate, and the rates at fixed mixes, by period."""
    mine = pl.col("lexicon") == found.headline
    plain = found.tables["rates"].filter(mine & (pl.col("phrase") == ANY))
    table = found.tables.get("standardised", pl.DataFrame(schema={"lexicon": pl.String, "by": pl.String}))
    parts = {by: table.filter(mine & (pl.col("by") == by)) for by in found.mix}
    columns = {
        by: {row["period"]: row for row in part.iter_rows(named=True)} for by, part in parts.items() if part.height
    }
    if found.tables["panel"].height:
        mine_there = (
            found.tables["panel"]
            .filter(mine)
            .rename({"rate": "standardised", "rate_low": "standardised_low", "rate_high": "standardised_high"})
        )
        columns["hosts in every period"] = {row["period"]: row for row in mine_there.iter_rows(named=True)}
    return [
        {"row": row, "fixed": {by: found_rows.get(row["period"]) for by, found_rows in columns.items()}}
        for row in plain.iter_rows(named=True)
    ]
