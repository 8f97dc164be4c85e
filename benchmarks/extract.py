"""Speed and quality of main-text extraction on pages with gold text: python benchmarks/extract.py [--data FOLDER].

Word-level F1 against the gold text (bags of words), by source of the gold, with 95 % bootstrap intervals over pages;
pages per second of CPU time, one core, all backends over the same pages in turn. trafilatura stands twice: as
installed, and as runs have it, with the same text of each page.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import re
import time
from collections import Counter
from pathlib import Path

import numpy as np

from fineedu.extract.archive import Archive
from fineedu.extract.charset import decode_page
from fineedu.extract.html import Backend, Mode, extract_page
from fineedu.extract.tuned import tune_trafilatura

TRAFILATURA: list[tuple[Backend, Mode]] = [("trafilatura", mode) for mode in ("fast", "standard", "precision")]


def pages_with_gold(data: Path) -> list[tuple[str, str, str]]:
    """Return (source of the gold, page, gold text)."""
    with gzip.open(data / "warc" / "gold.json.gz", "rt") as stream:
        gold = {row["sha1"]: row for row in json.load(stream)}
    found = []
    for path in sorted((data / "warc").glob("pages-*.warc.gz")):
        with path.open("rb") as archive:
            for record in Archive(archive, 1 << 24):
                row = gold.get(hashlib.sha1(record.body).hexdigest())
                text = (row or {}).get("gold") or {}
                if row and text.get("gold_text"):
                    found.append((row["set"], decode_page(record.body, record.charset)[0], text["gold_text"]))
    return found


def f1(text: str, gold: str) -> float:
    """Return word F1 of two bags of words."""
    ours, theirs = Counter(re.findall(r"\w+", text)), Counter(re.findall(r"\w+", gold))
    common = (ours & theirs).total()
    return 2 * common / max(ours.total() + theirs.total(), 1)


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean."""
    chance = np.random.default_rng(0)
    means = [values[chance.integers(0, len(values), len(values))].mean() for _ in range(1000)]
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("FINEEDU_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    pages = pages_with_gold(parser.parse_args().data)
    sources = sorted({source for source, _, _ in pages})
    print(f"{len(pages)} pages with gold text")
    for backend, mode in [*TRAFILATURA, ("resiliparse", "fast")]:
        measure(pages, backend, mode, sources, "")
    tune_trafilatura()
    for backend, mode in TRAFILATURA:
        measure(pages, backend, mode, sources, " in runs")


def measure(pages: list[tuple[str, str, str]], backend: Backend, mode: Mode, sources: list[str], how: str) -> None:
    """Print speed and F1 of one extractor."""
    extract_page(pages[0][1], backend, mode)  # imports
    started = time.process_time()
    texts = [extract_page(page, backend, mode).text for _, page, _ in pages]
    speed = len(pages) / (time.process_time() - started)
    line = f"{backend} {mode}{how:8s} {speed:7.1f} pages/s"
    for source in sources:
        scores = np.array([f1(t, gold) for t, (s, _, gold) in zip(texts, pages, strict=True) if s == source])
        low, high = interval(scores)
        line += f"   {source} F1 {scores.mean():.3f} ({low:.3f} to {high:.3f}, n={len(scores)})"
    print(line, flush=True)


if __name__ == "__main__":
    main()
