from __future__ import annotations

import json
from pathlib import Path

import pytest

import fineedu
from tests.conftest import Cli


def test_version_and_help(cli: Cli) -> None:
    assert cli("--version").stdout.strip() == f"fineedu {fineedu.__version__}"
    found = cli("run", "--help")
    assert found.returncode == 0
    assert "Examples" in found.stdout
    assert cli("--show-completion", env={"SHELL": "/bin/bash", "PATH": "/usr/bin:/bin"}).returncode in (0, 1)


def test_recipes_lists_what_ships(cli: Cli) -> None:
    found = cli("recipes").stdout
    assert all(name in found for name in ("edu", "fineweb", "minimal"))


def test_dry_run_writes_nothing(cli: Cli, crawl: Path, tmp_path: Path) -> None:
    found = cli("run", "edu", "-i", crawl, "-o", "out", "--dry-run", "--set", "extract.backend=resiliparse")
    assert found.returncode == 0
    assert "backend: resiliparse" in found.stdout
    assert "recipe hash" in found.stdout
    assert "would read 3 shards" in found.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("run", "minimal", "-i", "missing.warc.gz"), "input missing.warc.gz: no such file"),
        (("run", "minimal"), "nothing to read"),
        (("run", "nonsense", "-i", "x"), "no recipe 'nonsense'"),
        (("run", "minimal", "-i", ".", "--set", "extract.backend=x"), "extract.backend"),
        (("explain", "some-id", "-o", "nothing"), "no finished run"),
        (("diff", "a", "b", "-o", "nothing"), "no finished run"),
        (("run", "minimal", "-i", "/dev/null", "-o", "/proc/nothing"), "cannot write to the output folder"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(cli: Cli, arguments: tuple[str, ...], expected: str) -> None:
    found = cli(*arguments)
    assert found.returncode == 2
    assert expected in found.stderr
    assert "Traceback" not in found.stderr + found.stdout
    assert len(found.stderr.strip().splitlines()) == 1


def test_run_explain_diff_report(cli: Cli, crawl: Path, tmp_path: Path) -> None:
    first = cli("run", "minimal", "-i", crawl, "-o", "out", "--progress", "json", "--workers", "1")
    assert first.returncode == 0, first.stderr
    last = json.loads(first.stderr.strip().splitlines()[-1])
    assert (last["done"], last["pages"]) == (1.0, 63)
    second = cli(
        "run",
        "minimal",
        "-i",
        crawl,
        "-o",
        "out",
        "--set",
        "select.rules.length=text_bytes >= 700",
        "--workers",
        "1",
    )
    runs = sorted(path.name for path in (tmp_path / "out/runs").iterdir())
    assert len(runs) == 2
    assert all(name in first.stdout + second.stdout for name in runs)
    stricter = next(name for name in runs if "700" in (tmp_path / "out/runs" / name / "manifest.json").read_text())
    (other,) = (name for name in runs if name != stricter)
    found = cli("diff", other, stricter, "-o", "out").stdout
    assert "recipe.select.rules.length" in found
    assert "dropped by the other for: length" in found
    decisions = fineedu_decisions(tmp_path / "out", stricter)
    dropped = next(row["id"] for row in decisions if row["reasons"] == ["length"])
    explained = cli("explain", dropped, "-o", "out", "--run", stricter).stdout
    assert "dropped" in explained
    assert "text_bytes >= 700" in explained
    assert "fails" in explained
    assert "exact_key" in explained
    assert cli("report", stricter, "-o", "out").stdout.strip().endswith("report.html")


def fineedu_decisions(store: Path, run: str) -> list[dict[str, object]]:
    import polars as pl

    return pl.read_parquet(store / "runs" / run / "decisions/**/*.parquet").to_dicts()


def test_doctor(cli: Cli) -> None:
    found = cli("doctor", env={"COLUMNS": "200", "PATH": "/usr/bin:/bin", "HOME": "/tmp"})
    assert found.returncode == 0, found.stdout + found.stderr
    assert "language model" in found.stdout
    assert "signals: edu" in found.stdout
