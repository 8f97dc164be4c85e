"""Deduplication beside its peers, and how clustering grows.

    python benchmarks/dedup.py [--docs 300] [--repeats 3] [--data FOLDER]
    python benchmarks/dedup.py --pairs [--data FOLDER]
    python benchmarks/dedup.py --growth 1 3 10 [--memory-mb 4000] [--folder FOLDER]

Signatures: datatrove's step, datasketch and fineedu sign the same real texts in this process on one thread, in turn;
the median is printed. Pairs: revisions of real pages whose exact Jaccard is known; what is found, beside what the
S-curve predicts. Growth: documents are made up (every third one repeats an earlier one in most bands), their key
files written, and everything from reading those to the signals on disk is timed in a process of its own, with its peak
memory as the kernel counts it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from fineedu.dedup.curve import expected_found
from fineedu.dedup.datatrove import datatrove_signatures
from fineedu.dedup.keys import KeyColumn, write_key_file
from fineedu.dedup.signature import FINEWEB, NEMOTRON, MinHash, band_keys, sign
from fineedu.dedup.stage import KeyFolder, deduplicate
from fineedu.dedup.survivors import sections_of
from fineedu.recipe import DedupConfig
from fineedu.store import BATCH_ROWS, Shard, Store, TableWriter, atomic_open

#: how often our side goes over the texts, so that its clock shows more than noise
OUR_ROUNDS = 10
BATCH = 1024
SHARD = 100_000
BANDS = FINEWEB.bands


def clocked(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def read_texts(path: Path, docs: int) -> list[str]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line)["text"] for line in islice(stream, docs)]


def batches(texts: list[str]) -> list[pl.Series]:
    whole = pl.Series(texts * OUR_ROUNDS)
    return [whole[start : start + BATCH] for start in range(0, len(whole), BATCH)]


def by_datasketch(texts: list[str]) -> None:
    from datasketch import MinHash

    for text in texts:
        words = text.lower().split()
        made = MinHash(num_perm=FINEWEB.hashes, seed=1)
        made.update_batch([" ".join(words[i : i + 5]).encode() for i in range(len(words) - 4)])


def by_datatrove(texts: list[str]) -> None:
    from datatrove.pipeline.dedup.minhash import MinhashDedupSignature

    step = MinhashDedupSignature(tempfile.gettempdir())
    for text in texts:
        shingles = step.get_shingles(text)
        if shingles.size:
            step.get_signature(shingles)


def compare(texts: list[str], repeats: int) -> None:
    """Print MB/s of every side."""
    parts = batches(texts)
    sides: dict[str, tuple[int, Callable[[], object]]] = {
        "datatrove": (1, lambda: by_datatrove(texts)),
        "datasketch": (1, lambda: by_datasketch(texts)),
        "fineedu, 14 x 8 word 5-grams": (OUR_ROUNDS, lambda: [band_keys(sign(part)) for part in parts]),
        "fineedu, 20 x 13 char 24-grams": (OUR_ROUNDS, lambda: [band_keys(sign(p, NEMOTRON), NEMOTRON) for p in parts]),
        "fineedu, datatrove's bits": (OUR_ROUNDS, lambda: [datatrove_signatures(part) for part in parts]),
    }
    by_datatrove(texts[:2])
    for config in (FINEWEB, NEMOTRON):
        band_keys(sign(parts[0][:2], config), config)
    datatrove_signatures(parts[0][:2])
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, (rounds, run) in sides.items():
            seconds[name].append(clocked(run) / rounds)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{len(texts)} documents, {megabytes:.2f} MB, {repeats} repeats, one thread")
    print(f"{'signatures':32}{'docs/s':>10}{'MB/s':>10}{'to datatrove':>14}")
    peer = statistics.median(seconds["datatrove"])
    for name, times in seconds.items():
        middle = statistics.median(times)
        print(f"{name:32}{len(texts) / middle:>10.0f}{megabytes / middle:>10.2f}{peer / middle:>14.0f}")


def find_pairs(folder: Path) -> None:
    """Print recall and precision at Jaccard 0.8 with the interval that the S-curve allows, 3 standard deviations."""
    with gzip.open(folder / "revisions.jsonl.gz", "rt", encoding="utf-8") as stream:
        texts = {row["id"]: row["text"] for row in map(json.loads, stream)}
    with gzip.open(folder / "pairs.jsonl.gz", "rt", encoding="utf-8") as stream:
        known = [json.loads(line)["meta"] for line in stream]
    at = {name: n for n, name in enumerate(texts)}
    left, right = (np.array([at[pair[side]] for pair in known]) for side in "ab")
    truth = np.array([pair["jaccard_word5"] for pair in known])
    alike = truth >= 0.8
    print(f"{len(known):,} pairs of {len(texts):,} texts, {alike.sum():,} of Jaccard 0.8 or more (word 5-grams)")
    print(f"{'bands x rows':>14}{'found':>9}{'expected':>18}{'recall at 0.8':>16}{'expected':>20}{'precision':>11}")
    for config in (FINEWEB, MinHash(bands=20, rows=13), MinHash(bands=32, rows=4)):
        keys = band_keys(sign(pl.Series(list(texts.values())), config), config)
        found = (keys[:, left] == keys[:, right]).any(axis=0)
        low, high = expected_found(truth, config.bands, config.rows)
        least, most = (bound / alike.sum() for bound in expected_found(truth[alike], config.bands, config.rows))
        recall, precision = found[alike].mean(), alike[found].mean()
        print(
            f"{config.bands:>9} x {config.rows:<2}{found.sum():>9,}{f'{low:,.0f} to {high:,.0f}':>18}"
            f"{recall:>16.4f}{f'{least:.4f} to {min(most, 1):.4f}':>20}{precision:>11.4f}"
        )


def made_up_keys(start: int, count: int) -> npt.NDArray[np.uint64]:
    """Return (BANDS, count) keys: of ten documents three repeat an earlier one, in seven bands of ten."""
    row = np.arange(start, start + count, dtype=np.uint64)
    spread = np.uint64(0x9E3779B97F4A7C15)

    def mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
        return values ^ (values >> np.uint64(29))

    copy = row % np.uint64(10) >= 7
    source = mixed(row * spread) % (row // np.uint64(10) + np.uint64(1)) * np.uint64(10)
    keys = np.empty((BANDS, count), np.uint64)
    for band in range(BANDS):
        same = copy & (mixed(row * spread + np.uint64(band)) % np.uint64(10) < 7)
        keys[band] = mixed(mixed(np.where(same, source, row) * spread) + np.uint64(band))
    return keys


def make_shard(store: Store, shard: Shard, start: int, count: int) -> None:
    """Write key file and documents, without texts, of one shard."""
    keys = made_up_keys(start, count)
    has = np.ones(count, np.bool_)
    columns = {f"band{n:03d}": KeyColumn.of(keys[n], has) for n in range(BANDS)}
    ids = pl.Series("id", [f"{n:08x}-made-up-document-{n % 97:02d}" for n in range(start, start + count)])
    columns |= {"exact": KeyColumn.of(made_up_keys(start, count)[0] + np.uint64(1), has)}
    folder = KeyFolder(store, DedupConfig())
    sections = sections_of(ids, pl.repeat("en", count, eager=True))
    facts = {"fingerprint": "bench", "shard": str(shard), "origin": str(shard)}
    write_key_file(folder.path(shard), columns, sections, facts)
    date = datetime(2024, 1, 1, tzinfo=UTC)
    frame = pl.DataFrame({"id": ids, "text_bytes": (keys[0] % np.uint64(9000)).astype(np.uint32)})
    frame = frame.with_columns(pl.lit(date).alias("date"), pl.lit("h.example").alias("host"))
    with atomic_open(store.documents(shard)) as stream:
        writer = TableWriter(stream, dict(frame.schema))
        for first in range(0, count, BATCH_ROWS):
            writer.write(frame[first : first + BATCH_ROWS])
        writer.close({"fingerprint": "bench", "source": {}})


def shards_of(documents: int) -> list[Shard]:
    return [Shard("D", number) for number in range(-(-documents // SHARD))]


def cluster(root: Path, documents: int, memory_mb: int) -> None:
    """Cluster what is there and print seconds, megabytes and documents that go."""
    started = time.perf_counter()
    store = Store(root)
    deduplicate(store, shards_of(documents), DedupConfig(memory_mb=memory_mb), {"bench": documents}, {})
    told = json.loads((root / "signals" / "dedup" / "_D.json").read_text())
    # Not ru_maxrss: that starts with what the process that started this one held.
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6
    print(json.dumps([time.perf_counter() - started, peak, told["removed"], sum(told["sizes"].values())]))


def grow(millions: list[float], memory_mb: int, folder: Path) -> None:
    """Print time and memory at each size."""
    print(f"clustering, {BANDS} bands and exact keys, limit {memory_mb:,} MB, {os.cpu_count()} cores, one process")
    print(f"{'documents':>12}{'key files':>12}{'seconds':>10}{'docs/s':>10}{'peak MB':>10}{'go':>12}{'clusters':>12}")
    made = 0
    store = Store(folder)
    for size in sorted(millions):
        documents = int(size * 1e6)
        for shard in shards_of(documents):
            start = shard.index * SHARD
            if start >= made:
                make_shard(store, shard, start, min(SHARD, documents - start))
        made = -(-documents // SHARD) * SHARD
        command = [sys.executable, __file__, "--cluster", str(documents), "--folder", str(folder)]
        found = subprocess.run([*command, "--memory-mb", str(memory_mb)], capture_output=True, text=True, check=True)
        seconds, peak, removed, clusters = json.loads(found.stdout.splitlines()[-1])
        keys = sum(path.stat().st_size for path in folder.rglob("*.keys"))
        print(
            f"{documents:>12,}{keys / 1e9:>10.2f} GB{seconds:>8.1f}{documents / seconds:>11,.0f}{peak:>10,.0f}"
            f"{removed:>12,}{clusters:>12,}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FINEEDU_DATA", "../shared/data")))
    parser.add_argument("--pairs", action="store_true")
    parser.add_argument("--growth", type=float, nargs="+", default=[])
    parser.add_argument("--memory-mb", type=int, default=4000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--cluster", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.cluster:
        cluster(arguments.folder, arguments.cluster, arguments.memory_mb)
    elif arguments.pairs:
        find_pairs(arguments.data / "dups")
    elif arguments.growth:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            grow(arguments.growth, arguments.memory_mb, Path(folder))
    else:
        compare(read_texts(arguments.data / "text" / "cc-topics-formats.jsonl.gz", arguments.docs), arguments.repeats)


if __name__ == "__main__":
    main()
