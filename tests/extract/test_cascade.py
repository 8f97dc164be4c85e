"""Extraction in two steps: which pages the precise extractor reads, and what it costs the corpus."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fineedu.extract.cascade import ExtractionCascade
from fineedu.extract.html import extract_page
from fineedu.extract.sandbox import Extracted, Sandbox, SandboxLimits
from fineedu.recipe import CascadeConfig
from fineedu.runner import execute, plan_run
from tests.archives import PARAGRAPH, html_page, numbered_pages, response, tree_digest, write_warc

SHOP = "Add to cart. Free shipping on orders over 50 dollars. Buy now, pay later, size guide, wish list, log in. " * 4
SPANISH = (
    "La tienda abre a las nueve y cierra a las ocho; los domingos no abrimos, salvo en diciembre por las fiestas. " * 4
)


def documents(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "documents/**/*.parquet")


def test_only_pages_worth_it_are_read_twice(tmp_path: Path) -> None:
    records = numbered_pages(12) + [
        response(html_page(text), f"http://shop.example/{n}") for n, text in enumerate([SHOP, SPANISH] * 3)
    ]
    write_warc(tmp_path / "a.warc.gz", [*records, response(b"<html><body></body></html>", "http://shop.example/empty")])
    source = [str(tmp_path / "a.warc.gz")]
    # Tasks and workers change nothing.
    for name, backend, workers in (
        ("c", "cascade", 1),
        ("c2", "cascade", 2),
        ("t", "trafilatura", 1),
        ("r", "resiliparse", 1),
    ):
        execute(
            plan_run(
                "edu",
                inputs=source,
                output=tmp_path / name,
                overrides=[f"extract.backend={backend}", "extract.cascade.low=1"],
            ),
            workers=workers,
        )
    assert tree_digest(tmp_path / "c") == tree_digest(tmp_path / "c2")
    mixed, precise, fast = (documents(tmp_path / name) for name in ("c", "t", "r"))
    assert mixed["url"].to_list() == precise["url"].to_list()
    assert {"trafilatura", "resiliparse"} == set(mixed["extractor"])
    for row in mixed.iter_rows(named=True):
        other = precise if row["extractor"] == "trafilatura" else fast
        assert row["text"] == other.filter(id=row["id"])["text"].item()
    assert set(mixed.filter(pl.col("url").str.contains("school"))["extractor"]) == {"trafilatura"}
    manifest = json.loads(next((tmp_path / "c").glob("runs/*/manifest.json")).read_text())
    assert manifest["counts"]["extractors"]["resiliparse"] == (mixed["extractor"] == "resiliparse").sum()
    assert manifest["counts"]["not_extracted"] == {"no_text": 1}  # by the precise one: no text is no reason to skip


def test_settings_are_part_of_the_making(tmp_path: Path) -> None:
    write_warc(tmp_path / "a.warc.gz", numbered_pages(2))
    plans = [
        plan_run(
            "minimal", inputs=[str(tmp_path / "a.warc.gz")], output=tmp_path, overrides=["extract.backend=" + value]
        )
        for value in ("cascade", "trafilatura")
    ]
    assert "cascade" in plans[0].made_by["documents"] and "model_sha256" in plans[0].made_by["documents"]
    assert "cascade" not in plans[1].made_by["documents"]


def test_gate_looks_behind_a_notice() -> None:
    notice = "We use cookies to give you the best experience. By continuing you agree to our cookie policy."
    pages = [
        Extracted(notice, prose=PARAGRAPH * 3),
        Extracted(notice, prose=SHOP),
        Extracted(notice),
        Extracted("", "no_text"),
        Extracted(SPANISH, prose=SPANISH),
        Extracted(PARAGRAPH * 3),
    ]
    with Sandbox(SandboxLimits()) as unused:
        cascade = ExtractionCascade(CascadeConfig(), unused, unused)
        scores, told = cascade.gate(pages)
        alone = np.concatenate([cascade.gate([page])[0] for page in pages])
    assert (scores == alone).all()  # a page's neighbours change nothing
    assert (scores >= CascadeConfig().low).tolist() == [True, False, False, True, False, True]
    assert scores[3] == np.inf and scores[4] == -np.inf
    assert told["language"].to_list() == ["en", "en", "en", None, "es", "en"]


def test_long_lines_of_a_short_page() -> None:
    words = "The heart has four chambers and pumps blood through the whole body all day long. " * 4
    page = (
        f"<html><body><div class='sidebar'><p>{words}</p><a href='/'>Home</a></div>"
        "<main><p>Please accept our terms first.</p></main></body></html>"
    )
    assert extract_page(page, "resiliparse", "fast").prose == ""
    found = extract_page(page, "resiliparse", "fast", prose=True)
    assert "four chambers" in found.prose and "Home" not in found.prose
    assert found.text == extract_page(page, "resiliparse", "fast").text


@pytest.mark.slow
def test_recall_on_real_pages(real_data: Path, tmp_path: Path) -> None:
    source = [str(real_data / "warc" / "pages-00.warc.gz")]
    found = {}
    for backend in ("trafilatura", "cascade"):
        overrides = [f"extract.backend={backend}", "select.rules.edu=edu_score > 2"]
        plan = plan_run("edu", inputs=source, output=tmp_path / backend, overrides=overrides)
        found[backend] = pl.read_parquet(execute(plan, workers=1).corpus / "**/*.parquet").sort("id")
    assert found["trafilatura"].height > 20
    assert found["trafilatura"].equals(found["cascade"])
