"""Hours of load: a run over hundreds of thousands of pages made from real ones, with the memory of all its processes.

    python benchmarks/soak.py --pages 500000 --output /tmp/soak
    python benchmarks/soak.py --seconds 200

Pages are the real ones with a paragraph of their own each, so that no two documents are copies; record ids and
addresses are new. Memory is read once a second; flat means that the last third of the run takes no more than the
first, after its first tenth.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def real_records(folder: Path) -> list[bytes]:
    """Return the raw response records of the real archives."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    found = []
    for path in sorted(folder.glob("pages-0*.warc.gz")):
        with path.open("rb") as stream:
            for record in ArchiveIterator(stream, record_types=WarcRecordType.response, parse_http=False):
                block = record.reader.read()
                if len(block) < 300_000:  # one page in fifty is larger, and would make a third of the bytes
                    found.append(block)
    return found


def varied(block: bytes, number: int, words: list[str]) -> bytes:
    """Return a record of a page that no other run of this function gives."""
    chance = random.Random(number)
    own = " ".join(chance.choices(words, k=40)).encode()
    head, gap, body = block.partition(b"\r\n\r\n")
    at = body.lower().rfind(b"</p>")
    at = at if at >= 0 else len(body)
    body = body[:at] + b" " + own + body[at:]
    http = head + gap + body
    warc = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://host{number % 5000}.example/{number}\r\n"
        f"WARC-Date: 2024-03-01T00:00:00Z\r\nWARC-Record-ID: <urn:uuid:{number:032x}>\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return warc.encode() + http + b"\r\n\r\n"


def make_archives(records: list[bytes], folder: Path, pages: int, per_archive: int) -> Iterator[Path]:
    """Write archives of varied pages until there are so many; a fast compression level, as reading is the same."""
    words = sorted({word for block in records[:50] for word in block.decode("latin-1").split() if word.isalpha()})
    numbers = iter(range(pages))
    for archive in itertools.count():
        batch = list(itertools.islice(numbers, per_archive))
        if not batch:
            return
        path = folder / f"{archive:05d}.warc.gz"
        with path.open("wb") as stream:
            for number in batch:
                stream.write(gzip.compress(varied(records[number % len(records)], number, words), 1, mtime=0))
        yield path


def memory_of(process: int) -> int:
    """Return the resident bytes of a process and all below it, shared pages counted once a process."""
    total, waiting = 0, [process]
    while waiting:
        current = waiting.pop()
        try:
            for line in Path(f"/proc/{current}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
            for thread in Path(f"/proc/{current}/task").iterdir():
                waiting += [int(child) for child in (thread / "children").read_text().split()]
        except OSError:
            continue
    return total


def watch(command: list[str], seconds: float | None) -> tuple[int | None, list[tuple[float, int]], float]:
    """Run a command and return its exit code (None where its time was up), memory by time, and seconds taken."""
    started, series = time.monotonic(), []
    run = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
    while run.poll() is None:
        now = time.monotonic() - started
        series.append((now, memory_of(run.pid)))
        if seconds is not None and now > seconds:
            run.terminate()
            run.wait()
            return None, series, now
        time.sleep(1.0)
    return run.returncode, series, time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=500_000)
    parser.add_argument("--per-archive", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, help="end the run then, whatever is left")
    parser.add_argument("--recipe", default="fineweb")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--set", action="append", default=["extract.backend=resiliparse", "dedup={by: [minhash]}"])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FINEEDU_DATA", ROOT.parent / "shared/data")))
    parser.add_argument("--output", type=Path, help="where archives and store go; default a folder that goes away")
    options = parser.parse_args()
    place = options.output or Path(tempfile.mkdtemp(prefix="soak-"))
    crawl = place / "crawl"
    crawl.mkdir(parents=True, exist_ok=True)
    records = real_records(options.data / "warc")
    made = list(make_archives(records, crawl, options.pages, options.per_archive))
    size = sum(path.stat().st_size for path in made)
    print(f"{options.pages:,} pages of {len(records):,} real ones in {len(made):,} archives, {size / 1e9:.2f} GB")
    settings = [part for setting in options.set for part in ("--set", setting)]
    command = [sys.executable, "-m", "fineedu", "run", options.recipe, "-i", str(crawl), "-o", str(place / "out")]
    code, series, seconds = watch([*command, "--workers", str(options.workers), *settings], options.seconds)
    status = [sys.executable, "-m", "fineedu", "status", "-o", str(place / "out"), "--format", "json"]
    told = json.loads(subprocess.run(status, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True).stdout)
    shard_end = max((at for at, _ in series), default=0.0)
    early = [memory for at, memory in series if 0.1 * shard_end < at <= 0.4 * shard_end]
    late = [memory for at, memory in series if at > 0.7 * shard_end]
    result = {
        "exit": code,
        "seconds": round(seconds),
        "pages": told["pages"],
        "documents": told["stages"]["extract"]["documents"],
        "pages_a_second": round(told["pages"] / seconds, 1),
        "cpu_seconds": {name: round(cost["cpu_seconds"], 1) for name, cost in told["stages"].items()},
        "memory_mb": {
            "first third, median": round(statistics.median(early) / 1e6),
            "last third, median": round(statistics.median(late) / 1e6),
            "most": round(max(memory for _, memory in series) / 1e6),
        },
        "growth": round(statistics.median(late) / statistics.median(early) - 1, 3),
    }
    print(json.dumps(result, indent=2))
    if options.output is None:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
