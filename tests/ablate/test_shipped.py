"""Every shipped ablation runs on the demo crawl, from the command line, and writes what it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from fineedu.runner import run
from tests.conftest import ROOT, Cli

pytestmark = pytest.mark.slow
DEMO = ROOT / "pipelines" / "demo"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo crawl twice, as two dumps: every page of the second is a copy."""
    folder = tmp_path_factory.mktemp("demo") / "store"
    for dump in ("CC-MAIN-2023-50", "CC-MAIN-2024-10"):
        # resiliparse: these tests are about what comes after extraction
        run(
            "edu",
            inputs=[str(DEMO / "demo.warc.gz")],
            output=folder,
            dump=dump,
            overrides=["extract.backend=resiliparse"],
        )
    return folder


def ablate(cli: Cli, store: Path, name: str, *more: str) -> tuple[str, dict[str, dict[str, object]]]:
    done = cli("ablate", name, "-o", store, "--labels", DEMO / "labels.jsonl", "--no-train", *more)
    assert done.returncode == 0, done.stderr
    folder = store / "ablations" / name
    told = json.loads((folder / "ablation.json").read_text())
    for table in ("cells", "overlap", "shifts", "samples"):
        assert (
            pl.read_csv(folder / f"{table}.csv", infer_schema_length=None).height
            == pl.read_parquet(folder / f"{table}.parquet").height
        )
    assert (folder / "ablation.html").stat().st_size > 20_000
    assert str(folder / "ablation.html") in done.stdout
    return done.stdout, {cell["cell"]: cell for cell in told["cells"]}


def kept(store: Path, rule: str) -> int:
    """Count documents of the base recipe with another rule in place of its score's."""
    documents = pl.scan_parquet(sorted((store / "documents").rglob("*.parquet")))
    edu = pl.scan_parquet(sorted((store / "signals" / "edu").rglob("*.parquet"))).drop("id")
    url = pl.scan_parquet(sorted((store / "signals" / "url").rglob("*.parquet"))).drop("id")
    every = pl.concat([documents, edu, url], how="horizontal")
    return (
        every.filter(pl.sql_expr(f"NOT url_blocked AND language = 'en' AND language_score >= 0.65 AND {rule}"))
        .collect()
        .height
    )


def test_edu_thresholds(cli: Cli, store: Path) -> None:
    out, cells = ablate(cli, store, "edu-thresholds")
    assert cells["raw 2"]["documents"] == kept(store, "edu_score >= 2")
    assert cells["rounded 3"]["documents"] == kept(store, "edu_score > 2.5")
    assert "best F-beta" in out and "chosen in" in out


def test_dclm_top_x(cli: Cli, store: Path) -> None:
    _, cells = ablate(cli, store, "dclm-top-x")
    shares = [float(str(cells[f"top={share:g}"]["documents"])) for share in (0.05, 0.1, 0.2)]
    assert 0 < shares[0] < shares[1] < shares[2] < kept(store, "true")


def test_nemotron_levels(cli: Cli, store: Path) -> None:
    _, cells = ablate(cli, store, "nemotron-levels")
    names = ["high", "medium high or better", "medium or better", "medium low or better", "all levels"]
    sizes = [int(str(cells[name]["documents"])) for name in names]
    assert sizes == sorted(sizes) and 0 < sizes[0] < sizes[-1]


def test_dedup_scope(cli: Cli, store: Path) -> None:
    before = sorted(path for path in (store / "signals").rglob("*"))
    _, cells = ablate(cli, store, "dedup-scope", "--set", "set.select.rules.edu=edu_score >= 1")
    sizes = {name: int(str(cell["documents"])) for name, cell in cells.items()}
    assert sizes["no deduplication"] > sizes["by dump"] > sizes["by language"] == sizes["global"]
    assert sizes["by dump"] == 2 * sizes["global"]
    assert sorted(path for path in (store / "signals").rglob("*")) == before  # the store's own signals stay


def test_a_store_deduplicated_the_same_way_is_taken_as_it_is(cli: Cli, store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(store, copy, ignore=shutil.ignore_patterns("ablations"))
    assert cli("dedup", "-o", copy).returncode == 0  # scope: dump
    mine = tmp_path / "mine.yaml"
    for scope, made in (("dump", False), ("global", True)):
        settings = f"dedup.scope: {scope}, select.rules.copies: dup_keep"
        mine.write_text(
            f"base: edu\nset: {{{settings}}}\ngrid: {{select.rules.edu: [edu_score >= 1, edu_score >= 2]}}\n"
        )
        done = cli("ablate", mine, "-o", copy, "--results", tmp_path / scope)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / scope / "dedup").exists() == made


def test_dump_by_dump(cli: Cli, store: Path) -> None:
    _, cells = ablate(cli, store, "dump-by-dump")
    assert list(cells) == ["CC-MAIN-2023-50", "CC-MAIN-2024-10"]
    assert len({str(cell["documents"]) for cell in cells.values()}) == 1


def test_dump_by_dump_trains(cli: Cli, store: Path) -> None:
    pytest.importorskip("torch")
    tiny = "train.model={vocabulary: 400, width: 32, layers: 1, heads: 2, context: 32}"
    done = cli("ablate", "dump-by-dump", "-o", store, "--set", "train.tokens=2000", "--set", tiny)
    assert done.returncode == 0, done.stderr
    told = json.loads((store / "ablations" / "dump-by-dump" / "train" / "models.json").read_text())
    first, second = told["cells"]
    # Both dumps hold the same pages, so the same seeds make the same models.
    assert first["measures"] == second["measures"]
    assert "Models" in (store / "ablations" / "dump-by-dump" / "ablation.html").read_text()


def test_dry_run_and_mistakes(cli: Cli, store: Path, tmp_path: Path) -> None:
    done = cli("ablate", "edu-thresholds", "-o", store, "--dry-run")
    assert done.returncode == 0 and "8 cells; would read 2 shards" in done.stdout
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: edu\ngrid: {select.rules.topic: [topic = 'science']}\n")
    done = cli("ablate", mine, "-o", store)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "names 'topic', which is no column" in done.stderr and "run the base recipe (edu)" in done.stderr
    done = cli("ablate", "edu-thresholds", "-o", tmp_path / "nothing")
    assert done.returncode == 2 and "no parquet files" in done.stderr
