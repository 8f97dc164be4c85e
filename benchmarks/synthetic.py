"""Phrase counting beside Python's re and Aho-Corasick: MB of text a second of processor time, in one run.

    python benchmarks/synthetic.py [--data FOLDER] [--repeats 5]

Phrases are words of the text itself, so hits are as many as they come. All sides run on one thread over the same
batches of 1,024 documents, in turn; the median is printed. The last lines are the whole pass over a parquet file
(reading, words, phrases, sums by domain), and queries of a phrase index.
"""

from __future__ import annotations

import argparse
import gzip
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import ahocorasick_rs
import numpy as np
import polars as pl

from fineedu.kernels.arrow import TextBuffer, text_buffer
from fineedu.phrases.lexicon import combine, read_lexicon
from fineedu.phrases.matching import find_phrases, make_matcher
from fineedu.synthetic.counting import CountJob, count
from fineedu.synthetic.frequency import FrequencyTable
from fineedu.synthetic.index import PhraseIndex, build
from fineedu.synthetic.recipe import InputConfig
from fineedu.synthetic.source import open_source

BATCH = 1024
_RE_BYTES = 4_000_000


def cpu(run: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return statistics.median(times)


def phrase_sets(texts: pl.Series) -> dict[str, list[str]]:
    words = texts.str.to_lowercase().str.extract_all(r"[a-z]{4,}").list.unique().explode().value_counts(sort=True)
    column = words[words.columns[0]].to_list()
    seven = list(read_lexicon("fineweb-proxy").phrases)
    lists = combine([read_lexicon(name) for name in ("fineweb-proxy", "style", "control", "content")])
    return {
        "7 proxy phrases": seven,
        f"{len(lists.spellings)} forms of the shipped lexicons": [form for _, form in lists.spellings],
        "1,000 words, rank 2,000 on": column[2000:3000],
        "5,000 words, rank 3,000 on": column[3000:8000],
    }


def compare(buffers: list[TextBuffer], phrases: list[str], repeats: int) -> dict[str, float]:
    size = sum(int(buffer.offsets[-1] - buffer.offsets[0]) for buffer in buffers) / 1e6
    matcher = make_matcher(tuple(enumerate(phrases)))
    automaton = ahocorasick_rs.BytesAhoCorasick(
        [phrase.encode() for phrase in phrases], matchkind=ahocorasick_rs.MatchKind.Standard
    )
    lowered = [bytes(buffer.data[buffer.offsets[0] : buffer.offsets[-1]]).lower() for buffer in buffers]
    found = {}
    ours = cpu(lambda: [find_phrases(buffer, matcher) for buffer in buffers], repeats)
    found["ours (words and hits)"] = size / ours
    theirs = cpu(lambda: [automaton.find_matches_as_indexes(text, overlapping=True) for text in lowered], repeats)
    found["Aho-Corasick, search alone"] = size / theirs
    if len(phrases) < 200:
        text = lowered[0][:_RE_BYTES]
        pattern = re.compile(rb"\b(?:" + b"|".join(re.escape(phrase.encode()) for phrase in phrases) + rb")\b")
        found["re"] = len(text) / 1e6 / cpu(lambda: pattern.findall(text), 1)
    return found


def main() -> None:
    default = Path(os.environ.get("FINEEDU_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    path = options.data / "text" / "dated.jsonl.gz"
    frame = pl.read_ndjson(gzip.decompress(path.read_bytes()), infer_schema_length=None).sort(pl.col("id").hash(seed=0))
    buffers = [text_buffer(frame["text"][start : start + BATCH]) for start in range(0, frame.height, BATCH)]
    size = int(frame["text"].str.len_bytes().sum()) / 1e6
    print(f"{frame.height:,} documents, {size:.1f} MB of text, batches of {BATCH:,}, one thread, processor time")
    for name, phrases in phrase_sets(frame["text"]).items():
        found = compare(buffers, phrases, options.repeats)
        print(f"{name:38s} " + "  ".join(f"{side} {speed:,.0f} MB/s" for side, speed in found.items()))
    no_stratum = [pl.Series([""]).new_from_index(0, len(buffer.offsets) - 1) for buffer in buffers]

    def frequencies() -> None:
        table = FrequencyTable()
        for buffer, none in zip(buffers, no_stratum, strict=True):
            table.add(buffer, none, none)
        table.finish()

    print(f"document frequency of every word       {size / cpu(frequencies, options.repeats):,.0f} MB/s")
    with tempfile.TemporaryDirectory() as folder:
        whole_pass(Path(folder), frame, size, options.repeats)


def whole_pass(folder: Path, frame: pl.DataFrame, size: float, repeats: int) -> None:
    frame.write_parquet(folder / "texts.parquet", row_group_size=BATCH)
    config = InputConfig(path=str(folder / "texts.parquet"), period="year", cluster=["source"])
    source = open_source(config, folder)
    lexicons = combine([read_lexicon(name) for name in ("fineweb-proxy", "style", "control", "content")])
    runs = iter(range(100))

    def run() -> None:
        count(CountJob(source, {"source": "source"}, "source", lexicons, None, False, folder / f"out{next(runs)}"))

    print(f"whole pass over parquet, shipped lexicons {size / cpu(run, repeats):,.0f} MB/s")
    seconds = cpu(lambda: build(source, folder / "index"), 1)
    stored = sum(path.stat().st_size for path in (folder / "index").rglob("*") if path.is_file()) / 1e6
    index = PhraseIndex(folder / "index")
    print(f"phrase index: built at {size / seconds:.1f} MB/s, {stored / size:.2f} bytes a byte of text")
    for phrase in ("delve", "rich tapestry", "it's important to note", "for example", "the"):
        index.count(phrase)
        times = []
        for _ in range(20):
            start = time.perf_counter()
            found = index.count(phrase)
            times.append(time.perf_counter() - start)
        hits, periods = int(found.cells["hits"].sum()), found.cells["period"].n_unique()
        print(f"  {phrase!r}: {hits:,} hits in {periods} periods, {1000 * np.median(times):.1f} ms")


if __name__ == "__main__":
    main()
