"""Heuristic signals beside datatrove's four filters: docs/s and MB/s in one run on real text.

    python benchmarks/heuristics.py --docs 400 [--data FOLDER] [--repeats 5]

All sides run in this process on one thread, in turn, and the median is printed. datatrove's filters each see
every document (one that a filter drops goes to the next all the same), as signals need it: once filter by
filter, once document by document, where filters that follow each other share the words of a text.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import polars as pl
from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.filters.base_filter import BaseFilter

from fineedu.kernels.arrow import text_buffer
from fineedu.signals.heuristics import HeuristicSignals
from fineedu.signals.heuristics.measure import (
    ALL_PARTS,
    PART_C4,
    PART_LINES,
    PART_NGRAMS,
    PART_WORDS,
    measure_batch,
)
from fineedu.signals.heuristics.tables import tables

#: documents per batch, and how often our side goes over them so that its clock shows more than noise
BATCH = 1000
OUR_ROUNDS = 20


def read_texts(path: Path, docs: int) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line)["text"] for line in islice(stream, docs)]


def clocked(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def four_filters() -> tuple[BaseFilter, ...]:
    return GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter(), FineWebQualityFilter()


def run_by_filter(texts: list[str]) -> None:
    for stage in four_filters():
        for text in texts:
            stage.filter(Document(text=text, id="0"))


def run_by_document(texts: list[str]) -> None:
    stages = four_filters()
    for text in texts:
        for stage in stages:
            stage.filter(Document(text=text, id="0"))


def run_ours(frame: pl.DataFrame) -> None:
    family = HeuristicSignals()
    for _ in range(OUR_ROUNDS):
        for start in range(0, frame.height, BATCH):
            family.compute(frame[start : start + BATCH])


def compare(texts: list[str], repeats: int) -> None:
    """Print the table of the two sides."""
    frame = pl.DataFrame({"text": texts})
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    first = clocked(lambda: HeuristicSignals().compute(frame[:1]))
    run_by_filter(texts[:2])
    peers = {"datatrove, by filter": run_by_filter, "datatrove, by document": run_by_document}
    seconds: dict[str, list[float]] = {name: [] for name in (*peers, "fineedu")}
    for _ in range(repeats):
        for name, peer in peers.items():
            seconds[name].append(clocked(partial(peer, texts)))
        seconds["fineedu"].append(clocked(lambda: run_ours(frame)) / OUR_ROUNDS)
    print(f"{len(texts)} documents, {megabytes:.2f} MB, {repeats} repeats; first call (compile or load) {first:.1f} s")
    print(f"{'':24}{'docs/s':>10}{'MB/s':>10}")
    for name, times in seconds.items():
        median = statistics.median(times)
        print(f"{name:24}{len(texts) / median:>10.0f}{megabytes / median:>10.2f}")
    for name in peers:
        ratios = [theirs / ours for theirs, ours in zip(seconds[name], seconds["fineedu"], strict=True)]
        print(f"fineedu to {name}: {statistics.median(ratios):.0f} times ({min(ratios):.0f} to {max(ratios):.0f})")


def break_down(texts: list[str], repeats: int) -> None:
    """Print what each kernel adds."""
    buffer = text_buffer(pl.Series("text", texts))
    parts = {
        "decode, count signs": 0, "+ lines": PART_LINES, "+ words": PART_WORDS,
        "+ words, n-grams": PART_WORDS | PART_NGRAMS, "+ words, C4": PART_WORDS | PART_C4, "all": ALL_PARTS,
    }  # fmt: skip
    print(f"{'kernels':22}{'us/doc':>10}")
    for name, flags in parts.items():
        times = [
            clocked(partial(measure_batch, buffer.data, buffer.offsets, tables(), flags)) for _ in range(3 * repeats)
        ]
        print(f"{name:22}{statistics.median(times) / len(texts) * 1e6:>10.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FINEEDU_DATA", "../shared/data")))
    arguments = parser.parse_args()
    texts = read_texts(arguments.data / "text" / "cc-topics-formats.jsonl.gz", arguments.docs)
    compare(texts, arguments.repeats)
    break_down(texts, arguments.repeats)


if __name__ == "__main__":
    main()
