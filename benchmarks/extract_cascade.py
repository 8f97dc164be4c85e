"""What extraction's cascade saves and what it loses: python benchmarks/extract_cascade.py ARCHIVE... [--data FOLDER].

The cascade, trafilatura as this project runs it and trafilatura as installed (the same text page by page: a test
compares them) read the same archives, each in a process of its own: CPU time of reader and extractors. Then, by the cut
of the educational score, the share of the documents of the final corpus (``edu``'s rules) that the cascade gives with
the same text, with 95 % Wilson intervals. And cross-fitted: the gate's lowest score fitted on all archives but one (the
lowest of any document kept there, less a margin), and judged on the one left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl

from fineedu.ensemble.cascade import wilson
from fineedu.extract.archive import Archive
from fineedu.extract.cascade import ExtractionCascade
from fineedu.extract.charset import decode_page
from fineedu.extract.documents import DocumentReader
from fineedu.extract.html import extract_page
from fineedu.extract.inputs import resolve_inputs
from fineedu.extract.language import identify
from fineedu.extract.sandbox import Sandbox, SandboxLimits
from fineedu.recipe import CascadeConfig, ExtractConfig
from fineedu.signals.families import make_family

#: What the lowest score of so few documents is lowered by: the next one may lie below.
MARGIN = 0.25
CUTS = (2.5, 2.25, 2.0, 1.75, 1.5)


def read_stock(archives: list[str]) -> None:
    """Extract all archives by trafilatura itself in this process, without any of our changes to it or our sandbox."""
    started, before = time.monotonic(), time.process_time()
    texts = []
    for archive in archives:
        with Path(archive).open("rb") as stream:
            for record in Archive(stream, 8_000_000):
                html, _ = decode_page(record.body, record.charset)
                texts.append(extract_page(html, "trafilatura", "fast").text if record.kind == "html" else html)
    identify(pl.Series(texts))
    told = {"wall": time.monotonic() - started, "reader": time.process_time() - before}
    print(json.dumps(told | {"pages": len(texts), "self": time.process_time()}))


def read(archives: list[str], config: ExtractConfig, path: Path) -> None:
    """Extract all archives in this process and write the documents; run by :func:`extract`."""
    started, before = time.monotonic(), time.process_time()
    frames = []
    pages, again = 0, 0
    for shard, source in resolve_inputs(archives, "benchmark", None, config.split_mb).items():
        reader = DocumentReader(source, shard.dump, config)
        frames += [frame.with_columns(archive=pl.lit(source.url)) for frame in reader]
        pages += reader.pages
        again += reader.extractors["trafilatura"]
    found = {"wall": time.monotonic() - started, "reader": time.process_time() - before}
    pl.concat(frames).write_parquet(path)
    print(json.dumps(found | {"pages": pages, "again": again, "self": time.process_time()}))


def extract(archives: list[str], backend: str, low: float, path: Path) -> dict[str, float]:
    """Extract in a process of its own, whose extractors' CPU time is known when it has ended."""
    config = json.dumps({"backend": backend, "cascade": {"low": low}}) if backend != "stock" else backend
    command = [sys.executable, __file__, *archives, "--read", config, "--out", str(path)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    all_of_it = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found["cpu"] = found["reader"] + all_of_it - found["self"]
    return found


def gate_scores(archives: list[str]) -> pl.DataFrame:
    """Return the gate's score of every page by its id."""
    frames = []
    limits = SandboxLimits("resiliparse", prose=True)
    with Sandbox(limits) as fast, Sandbox(SandboxLimits()) as unused:
        cascade = ExtractionCascade(CascadeConfig(low=-10), fast, unused)
        for archive in archives:
            with Path(archive).open("rb") as stream:
                records = [record for record in Archive(stream, 8_000_000) if record.kind == "html"]
            answers = list(fast.extract((record.kind, record.charset, record.body) for record in records))
            frames.append(pl.DataFrame({"id": [record.id for record in records], "gate": cascade.gate(answers)[0]}))
    return pl.concat(frames)


def scored(path: Path) -> pl.DataFrame:
    """Return the documents that edu's rules keep but for the score, with their score."""
    frame = pl.read_parquet(path)
    for family in ("edu", "url"):
        frame = frame.hstack(make_family(family, {}).compute(frame))
    return frame.filter(pl.col("language") == "en", pl.col("language_score") >= 0.65, ~pl.col("url_blocked"))


def cross_fitted(full: pl.DataFrame, gate: pl.DataFrame, cut: float) -> str:
    """Fit the gate on all archives but one, judge it on that one, and do so for each."""
    joined = full.join(gate, on="id").filter(pl.col("edu_score") > cut)
    hits, lows = 0, []
    for archive in sorted(joined["archive"].unique()):
        others = joined.filter(pl.col("archive") != archive)["gate"].to_numpy()
        lows.append(float(others.min()) - MARGIN)
        hits += joined.filter(pl.col("archive") == archive, pl.col("gate") >= lows[-1]).height
    read_twice = np.mean([(gate["gate"].to_numpy() >= low).mean() for low in lows])
    return (
        f"cross-fitted: recall {wilson(hits, joined.height)}, low {min(lows):.2f} to {max(lows):.2f}, "
        f"{read_twice:.1%} of pages read twice"
    )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archives", nargs="*")
    parser.add_argument("--low", type=float, default=CascadeConfig().low)
    parser.add_argument("--read", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    default = os.environ.get("FINEEDU_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    options = parser.parse_args()
    archives = options.archives or [str(path) for path in sorted((options.data / "warc").glob("pages-*.warc.gz"))]
    if options.read == "stock":
        read_stock(archives)
        return
    if options.read:
        read(archives, ExtractConfig.model_validate_json(options.read), options.out)
        return
    with tempfile.TemporaryDirectory() as folder:
        full_path, ours_path = Path(folder) / "full.parquet", Path(folder) / "ours.parquet"
        ours = extract(archives, "cascade", options.low, ours_path)
        print(
            f"{ours['pages']:,} pages, low {options.low:g}: {ours['again'] / ours['pages']:.1%} read by trafilatura, "
            f"CPU time {ours['cpu']:.1f} s with the start of the extractors"
        )
        for backend, name in (("stock", "trafilatura as installed"), ("trafilatura", "trafilatura as run here")):
            whole = extract(archives, backend, options.low, full_path)
            print(f"  {name}: {whole['cpu']:.1f} s, the cascade reads {whole['cpu'] / ours['cpu']:.2f}x the pages/s")
        full, cascade, gate = scored(full_path), scored(ours_path), gate_scores(archives)
    for cut in CUTS:
        kept = full.filter(pl.col("edu_score") > cut)
        there = cascade.filter(pl.col("edu_score") > cut)
        same = kept.join(there, on=["id", "text"], how="semi").height
        extra = there.join(kept, on="id", how="anti").height
        print(f"edu_score > {cut:g}: recall {wilson(same, kept.height)}, {extra} kept besides")
        print(f"  {cross_fitted(full, gate, cut)}")


if __name__ == "__main__":
    main()
