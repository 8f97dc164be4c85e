"""``fineedu plan`` against what a run then takes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from fineedu.errors import FineeduError
from fineedu.plan.estimate import Line, Prices, estimate, fit_line, load_prices
from fineedu.plan.sample import choose_slices, find_whole, run_sample
from fineedu.status.collect import find_run_folder, read_costs
from tests.archives import numbered_pages, write_warc
from tests.conftest import Cli


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    for n in range(4):
        write_warc(folder / f"{n}.warc.gz", numbered_pages(100 * (n + 1), f"host{n}.example"))
    return folder


def test_the_command(cli: Cli, archives: Path, tmp_path: Path) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("currency: EUR\ncore_hour: 0.05\nstored_gb_month: 0.02\n")
    command = ("plan", "minimal", "-i", archives, "--set", "extract.backend=resiliparse", "--prices", prices)
    found = cli(*command, "--slices", "6", "--sample-mb", "0.1", "--json", tmp_path / "plan.json")
    assert found.returncode == 0, found.stderr
    assert "bottleneck" in found.stdout and "EUR" in found.stdout
    told = json.loads((tmp_path / "plan.json").read_text())
    assert told["archives"] == 4 and told["bytes"] == sum(path.stat().st_size for path in archives.iterdir())
    assert abs(told["pages"] / 1000 - 1) < 0.2
    assert told["low"] < told["core_hours"] < told["high"]
    assert told["cost"]["processors"] == pytest.approx(told["core_hours"] * 0.05)
    assert not (tmp_path / "fineedu-output").exists()


def test_a_dump_is_planned_from_a_spread_of_its_archives(archives: Path, tmp_path: Path) -> None:
    listing = tmp_path / "crawl-data" / "CC-MAIN-2024-10" / "warc.paths.gz"
    listing.parent.mkdir(parents=True)
    names = [f"crawl-data/CC-MAIN-2024-10/{n % 4}.warc.gz" for n in range(4)] * 500
    for path in archives.iterdir():
        (listing.parent / path.name).write_bytes(path.read_bytes())
    listing.write_bytes(gzip.compress("\n".join(names).encode()))
    whole = find_whole("minimal", [], "CC-MAIN-2024-10", None, [], str(tmp_path))
    assert whole.archives == 2000
    sizes = {source.size for source in whole.plan.job.shards.values()}
    assert whole.bytes == 2000 * sum(size or 0 for size in sizes) / len(sizes)


def test_slices_are_spread_and_inside_their_archives(archives: Path) -> None:
    whole = find_whole("minimal", [str(archives)], None, None, [], "")
    slices = choose_slices(whole.plan, 10, 2000, seed=3)
    assert len({(s.url, s.start) for s in slices}) == len(slices) == 10
    assert all(0 <= s.start < (s.end or s.size or 0) <= (s.size or 0) for s in slices)
    assert len({s.url for s in slices}) == 4


def test_lines_are_fitted_without_negative_parts() -> None:
    line = fit_line(10 * 2 + 100 * 0.5, 10 * 2 + 800 * 0.5, 100, 800, 10)
    assert (line.byte, line.shard) == (0.5, 2.0)
    assert line.at(8000, 3) == 4006
    assert fit_line(5, 4, 100, 800, 10) == Line(0, 0.4)
    assert fit_line(0, 4, 100, 800, 10) == Line(4 / 800, 0)


def test_prices(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text("core_hours: 3\n")
    with pytest.raises(FineeduError, match="core_hours"):
        load_prices(path)
    path.write_text("")
    assert load_prices(path) == Prices()


@pytest.mark.slow
def test_within_a_fifth_of_a_real_run(cli: Cli, real_data: Path, tmp_path: Path) -> None:
    pattern = str(real_data / "warc" / "pages-0*.warc.gz")
    settings = ["extract.backend=resiliparse", "dedup={by: [minhash]}"]
    whole = find_whole("fineweb", [pattern], None, None, settings, "")
    planned = estimate(whole, run_sample(whole, 16, 1_000_000, 0), 1)
    more = [part for setting in settings for part in ("--set", setting)]
    done = cli("run", "fineweb", "-i", pattern, "-o", tmp_path / "out", "--workers", "1", *more)
    assert done.returncode == 0, done.stderr
    stages = read_costs(find_run_folder(tmp_path / "out", None) / "logs" / "metrics")
    spent = sum(cost.cpu_seconds for cost in stages.values()) / 3600
    assert planned.core_hours == pytest.approx(spent, rel=0.2)
    assert planned.written == pytest.approx(sum(cost.bytes_written for cost in stages.values()), rel=0.25)
    assert planned.pages == pytest.approx(2614, rel=0.1)
    assert planned.bottleneck == max(stages, key=lambda name: stages[name].cpu_seconds)
