"""Extraction in two steps: which pages the precise extractor reads, and what it costs the corpus."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from fineedu.runner import execute, plan_run
from tests.archives import html_page, numbered_pages, response, tree_digest, write_warc

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
            plan_run("edu", inputs=source, output=tmp_path / name, overrides=[f"extract.backend={backend}"]),
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


@pytest.mark.slow
def test_recall_on_real_pages(real_data: Path, tmp_path: Path) -> None:
    source = [str(real_data / "warc" / "pages-00.warc.gz")]
    found = {}
    for backend in ("trafilatura", "cascade"):
        plan = plan_run("edu", inputs=source, output=tmp_path / backend, overrides=[f"extract.backend={backend}"])
        found[backend] = pl.read_parquet(execute(plan, workers=1).corpus / "**/*.parquet")
    full, ours = found["trafilatura"], found["cascade"]
    shared = full.join(ours.select("id"), on="id", how="semi")
    assert shared["text"].str.len_bytes().sum() >= 0.99 * full["text"].str.len_bytes().sum()
    assert set(ours["id"]) <= set(full["id"])
