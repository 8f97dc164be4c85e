"""Hours of load: a run over hundreds of thousands of pages made from real ones, with the memory of its processes.

    python benchmarks/soak.py --pages 20000
    python benchmarks/soak.py --pages 500000 --output soak --kill-at 0.5

Pages are the real ones with forty words of their own each, new addresses and new record ids. Memory is read once a
second and told by phase (see ``memory.py``): flat means that the last third of a phase takes no more than its first.
Given ``--output``, the script may be stopped at any moment: started again, it goes on, as the run itself does.
``--kill-at`` kills the run (SIGKILL) where so much of the pages is done, and starts it again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.memory import by_phase, phase_starts, read_samples, sample, told, warm_at, write_samples
from fineedu.status.collect import find_run_folder, read_costs, read_rows
from fineedu.store import read_json, write_json

_GZIP_HEAD = b"\x1f\x8b\x08" + bytes(6) + b"\xff"


def _deflated(data: bytes, *, level: int = 6, last: bool = False) -> bytes:
    """Compress a part of a stream so that it can stand behind any other."""
    deflate = zlib.compressobj(level, zlib.DEFLATED, -15)
    return deflate.compress(data) + deflate.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH)


@dataclass(frozen=True, slots=True)
class Page:
    """A real page in two parts, plain and compressed once: making 500,000 pages takes a minute, not twenty."""

    before: bytes
    after: bytes
    packed: tuple[bytes, bytes]

    @classmethod
    def of(cls, http: bytes) -> Page:
        """Cut an HTTP response at the end of its last paragraph."""
        at = http.lower().rfind(b"</p>")
        at = at if at >= 0 else len(http)
        before, after = http[:at], http[at:] + b"\r\n\r\n"
        return cls(before, after, (_deflated(before), _deflated(after, last=True)))

    def record(self, number: int, words: list[str]) -> bytes:
        """Return a gzip member with a response record that no other number gives."""
        own = " ".join(["", *random.Random(number).choices(words, k=40)]).encode()
        length = len(self.before) + len(own) + len(self.after) - 4
        head = (
            f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://host{number % 5000}.example/{number}\r\n"
            f"WARC-Date: 2024-03-01T00:00:00Z\r\nWARC-Record-ID: <urn:uuid:{number:032x}>\r\n"
            f"Content-Type: application/http; msgtype=response\r\nContent-Length: {length}\r\n\r\n"
        ).encode()
        plain = (head, self.before, own, self.after)
        packed = (_deflated(head, level=1), self.packed[0], _deflated(own, level=1), self.packed[1])
        check = 0
        for part in plain:
            check = zlib.crc32(part, check)
        return b"".join([_GZIP_HEAD, *packed, struct.pack("<II", check, sum(map(len, plain)))])


def real_pages(folder: Path, page_bytes: int) -> list[Page]:
    """Return the pages of the real archives that are no longer than so many bytes."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    found = []
    for path in sorted(folder.glob("pages-0*.warc.gz")):
        with path.open("rb") as stream:
            for record in ArchiveIterator(stream, record_types=WarcRecordType.response, parse_http=False):
                http = record.reader.read()
                if len(http) <= page_bytes:
                    found.append(Page.of(http))
    return found


def make_archives(data: Path, folder: Path, pages: int, per_archive: int, page_bytes: int) -> None:
    """Write archives until there are so many pages; those that are there stay.

    Raises:
        SystemExit: the folder holds archives of other settings.
    """
    asked = {"pages": pages, "per_archive": per_archive, "page_bytes": page_bytes}
    folder.mkdir(parents=True, exist_ok=True)
    note = folder.with_name("crawl.json")
    if note.exists() and read_json(note) != asked:
        raise SystemExit(f"{folder} holds archives of {read_json(note)}: take another --output")
    write_json(note, asked)
    starts = [start for start in range(0, pages, per_archive) if not _archive(folder, start, per_archive).exists()]
    if not starts:
        return
    real = real_pages(data / "warc", page_bytes)
    words = sorted({word for page in real[:50] for word in page.before.decode("latin-1").split() if word.isalpha()})
    for start in starts:
        path = _archive(folder, start, per_archive)
        with path.with_suffix(".part").open("wb") as stream:
            for number in range(start, min(start + per_archive, pages)):
                stream.write(real[number % len(real)].record(number, words))
        path.with_suffix(".part").replace(path)


def _archive(folder: Path, start: int, per_archive: int) -> Path:
    return folder / f"{start // per_archive:05d}.warc.gz"


@dataclass(slots=True)
class Soak:
    """One run under watch, over as many starts as it takes.

    Attributes:
        place: folder of archives, store and samples.
        command: the run.
        shards: how many documents shards it makes.
        kill_at: share of the shards at which it is killed; None never kills it.
    """

    place: Path
    command: list[str]
    shards: int
    kill_at: float | None

    @property
    def samples(self) -> Path:
        """File of the memory samples."""
        return self.place / "samples.jsonl"

    def go(self, until: float | None) -> int | None:
        """Start the run, again where it is killed here; return its exit code, None where the time was up."""
        killed = self.place / "killed.json"
        while True:
            kill = self.kill_at is not None and not killed.exists()
            code, done = self._watch(self.kill_at if kill else None, until)
            if code == -9 and kill:
                write_json(killed, {"at": time.time(), "shards_done": done, "shards": self.shards})
                continue
            return code

    def _watch(self, kill_at: float | None, until: float | None) -> tuple[int | None, int]:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with (self.place / "run.log").open("ab") as log:
            run = subprocess.Popen([*self.command, "--progress", "json"], env=environment, stdout=log, stderr=log)
        done, waiting, killed = 0, [], False
        while run.poll() is None:
            waiting.append(sample(run.pid))
            if len(waiting) >= 10:
                write_samples(self.samples, waiting)
                waiting = []
                done = len(list((self.place / "out").glob("documents/dump=*/0*.parquet")))
            if kill_at is not None and not killed and done >= kill_at * self.shards:
                run.kill()
                killed = True
            elif until is not None and time.time() > until:
                run.terminate()
                run.wait()
                return None, done
            time.sleep(1.0)
        write_samples(self.samples, waiting)
        return run.returncode, done


def accounted(out: Path, manifest: Path, pages: int) -> dict[str, Any]:
    """Say where every page went, from the manifest and, independently, from the files themselves."""
    import polars as pl

    if not manifest.exists():
        return {"pages_made": pages, "complete": False}
    counts = read_json(manifest)["counts"]
    dropped = sum(counts["not_extracted"].values())
    ids = pl.scan_parquet(out / "documents/**/*.parquet").select(
        pl.len(), pl.col("id").hash().n_unique().alias("distinct")
    )
    rows, distinct = ids.collect(engine="streaming").row(0)
    corpus = sum(file["documents"] for file in read_json(manifest)["corpus"])
    return {
        "pages_made": pages,
        "pages": counts["pages"],
        "documents": counts["documents"],
        "not_extracted": counts["not_extracted"],
        "rows_stored": rows,
        "distinct_ids": distinct,
        "kept": counts["kept"],
        "in_corpus": corpus,
        "complete": pages == counts["pages"] == counts["documents"] + dropped
        and counts["documents"] == rows == distinct
        and corpus == counts["kept"],
    }


def results(soak: Soak, options: argparse.Namespace, code: int | None) -> dict[str, Any]:
    """Return everything that a soak has found."""
    out = soak.place / "out"
    run = find_run_folder(out, None)
    metrics = run / "logs" / "metrics"
    samples = read_samples(soak.samples)
    costs = read_costs(metrics)
    rows = list(read_rows(metrics))
    warm = warm_at(rows, options.workers)
    phases = {
        name: told(found, warm if name == "pages" else float("-inf"))
        for name, found in by_phase(samples, phase_starts(rows))
        if found
    }
    killed = soak.place / "killed.json"
    return {
        "exit": code,
        "recipe": options.recipe,
        "workers": options.workers,
        "killed": read_json(killed) if killed.exists() else None,
        "accounted": accounted(out, run / "manifest.json", options.pages),
        "cpu_seconds": {name: round(cost.cpu_seconds, 1) for name, cost in costs.items()},
        "cpu_ms_a_page": {name: round(cost.cpu_seconds / options.pages * 1e3, 3) for name, cost in costs.items()},
        "anonymous_mb": phases,
    }


def main() -> None:
    """Make archives, run over them, and print what was found as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=20_000)
    parser.add_argument("--per-archive", type=int, default=1_000)
    parser.add_argument("--page-bytes", type=int, default=300_000, help="no longer pages: one in fifty is a third")
    parser.add_argument("--seconds", type=float, help="end the run then, whatever is left")
    parser.add_argument("--kill-at", type=float, help="share of the archives at which the run is killed once")
    parser.add_argument("--recipe", default="fineweb")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--set", action="append", help="settings of the recipe; default resiliparse and MinHash")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FINEEDU_DATA", ROOT.parent / "shared/data")))
    parser.add_argument("--output", type=Path, help="where archives and store go; default a folder that goes away")
    options = parser.parse_args()
    until = time.time() + options.seconds if options.seconds else None
    place = (options.output or Path(tempfile.mkdtemp(prefix="soak-"))).resolve()
    make_archives(options.data, place / "crawl", options.pages, options.per_archive, options.page_bytes)
    made = list((place / "crawl").glob("*.warc.gz"))
    size = sum(path.stat().st_size for path in made)
    print(f"{options.pages:,} pages in {len(made):,} archives, {size / 1e9:.2f} GB", file=sys.stderr, flush=True)
    settings = options.set or ["extract.backend=resiliparse", "dedup={by: [minhash]}"]
    command = [sys.executable, "-m", "fineedu", "run", options.recipe, "-i", str(place / "crawl")]
    command += ["-o", str(place / "out"), "--workers", str(options.workers)]
    command += [part for setting in settings for part in ("--set", setting)]
    soak = Soak(place, command, len(made), options.kill_at)
    code = soak.go(until)
    found = results(soak, options, code)
    write_json(place / "result.json", found)
    print(json.dumps(found, indent=2))
    if options.output is None:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
