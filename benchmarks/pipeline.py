"""The whole path beside stock datatrove, same WARC, same filters, in turn: python benchmarks/pipeline.py.

datatrove runs from a virtual environment of its own (``--peer``; made on first use), with its own ``[processing]``
install, which pins trafilatura below 1.12. Both run with one worker, each in a process of its own. datatrove has no
language filter here (its model would be downloaded), and no page of ours is spared any signal. Figures are ratios of
one run; pages per second are of this machine. CPU time stands beside the wall clock, because a shared machine's
other load moves the one less than the other. ``--growth`` adds memory and time at 1, 4 and 16 times the pages.

Both read the same rewritten archives, in which every response says ``WARC-Identified-Payload-Type: text/html``, as
Common Crawl's archives do (those of 2020 and 2024 at hand). Without it datatrove asks libmagic, which takes 398 of
these 2,614 pages for JavaScript and 41 more for other things, and drops them unread: 2,140 documents and not 2,576.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PEER = """
import sys
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.extractors import Trafilatura
from datatrove.pipeline.filters import (C4QualityFilter, FineWebQualityFilter, GopherQualityFilter,
                                        GopherRepetitionFilter, URLFilter)
from datatrove.pipeline.readers import WarcReader
from datatrove.pipeline.writers import JsonlWriter
if __name__ == "__main__":
    folder, out = sys.argv[1:]
    LocalPipelineExecutor([WarcReader(folder), URLFilter(), Trafilatura(favour_precision=True),
        GopherRepetitionFilter(), GopherQualityFilter(), C4QualityFilter(filter_no_terminal_punct=False),
        FineWebQualityFilter(), JsonlWriter(out + "/out")], tasks=1, logging_dir=out + "/logs").run()
"""


def peer_python(folder: Path) -> Path:
    """Return the peer's interpreter, after installing it on first use."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        packages = ["datatrove[processing,io]==0.10.1", "lxml_html_clean", "spacy>=3.8"]
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def as_crawled(source: Path, target: Path) -> None:
    """Copy an archive with the payload type told, as Common Crawl's archives tell it; one gzip member a record."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    with target.open("wb") as stream:
        for record in ArchiveIterator(str(source), parse_http=False):
            if record.record_type == WarcRecordType.response:
                record.headers.append("WARC-Identified-Payload-Type", "text/html")
            plain = io.BytesIO()
            record.write(plain)
            stream.write(gzip.compress(plain.getvalue(), 6, mtime=0))


def timed(command: list[str]) -> tuple[float, resource.struct_rusage]:
    """Run a command; return wall seconds and what it and the processes it waited for used."""
    started = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return time.monotonic() - started, usage


def run_peer(python: Path, pages: Path) -> dict[str, float]:
    """Return seconds by stage of stock datatrove."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "peer.py"
        script.write_text(PEER)
        total, usage = timed([str(python), str(script), str(pages), folder])
        steps = json.loads((Path(folder) / "logs" / "stats.json").read_text())
    seconds = {step["name"].split()[-1].lower() + str(n): step["time_stats"]["total"] for n, step in enumerate(steps)}
    read, url, extract, repetition, quality, c4, fineweb, write = list(seconds.values())
    return {
        "read and extract": read + extract,
        "filters": repetition + quality + c4 + fineweb,
        "URL filter (loads its list)": url,
        "write": write,
        "whole process": total,
        "CPU time": usage.ru_utime + usage.ru_stime,
        "documents": float(steps[2]["stats"]["forwarded"]),
    }


def run_ours(pages: Path, backend: str, folder: Path) -> dict[str, float]:
    """Return seconds by stage of ``fineedu run fineweb``, and the peak memory of its largest process in MB."""
    command = [sys.executable, "-m", "fineedu", "run", "fineweb", "-i", str(pages), "-o", str(folder), "--workers", "1"]
    total, usage = timed([*command, "--set", f"extract.backend={backend}"])
    run = next((folder / "runs").iterdir())
    stats = [json.loads(path.read_text()) for path in (run / "logs" / "shards" / "stats").glob("*.json")]
    extract, signals, select = (sum(s[n]["time_stats"]["total"] for s in stats) for n in range(3))
    return {
        "read and extract": extract,
        "filters": signals + select,
        "whole process": total,
        "CPU time": usage.ru_utime + usage.ru_stime,
        "documents": float(json.loads((run / "manifest.json").read_text())["counts"]["documents"]),
        "largest process, MB": usage.ru_maxrss / 1024,
    }


def growth(warc: Path, backend: str) -> None:
    """Print time and memory of two workers at 1, 4 and 16 times the pages."""
    import psutil

    for times in (1, 4, 16):
        with tempfile.TemporaryDirectory() as folder:
            for n in range(times):
                shutil.copy(warc, Path(folder) / f"pages-{n:02d}.warc.gz")
            command = [sys.executable, "-m", "fineedu", "run", "fineweb", "-i", folder, "-o", f"{folder}/out"]
            command += ["--workers", "2", "--set", f"extract.backend={backend}"]
            started, peak = time.monotonic(), 0
            child = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while child.poll() is None:
                total = 0
                for process in [child, *child.children(recursive=True)]:
                    try:
                        total += process.memory_info().rss
                    except psutil.Error:
                        continue
                peak = max(peak, total)
                time.sleep(0.2)
            seconds = time.monotonic() - started
            manifest = json.loads(next(Path(f"{folder}/out/runs").glob("*/manifest.json")).read_text())
            pages = manifest["counts"]["pages"]
            speed, memory = pages / seconds, peak / 2**20
            print(f"{pages:7,} pages: {seconds:6.1f} s, {speed:5.0f} pages/s, all {memory:,.0f} MB", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("FINEEDU_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--warc", type=Path, default=Path(default) / "warc" / "pages-00.warc.gz")
    parser.add_argument("--peer", type=Path, default=Path(tempfile.gettempdir()) / "fineedu-peer")
    parser.add_argument("--growth", choices=["trafilatura", "resiliparse"])
    given = parser.parse_args()
    if given.growth:
        growth(given.warc, given.growth)
        return
    with tempfile.TemporaryDirectory() as shelf:
        pages = Path(shelf)
        for path in sorted(given.warc.parent.glob("pages-*.warc.gz")):
            as_crawled(path, pages / path.name)
        theirs = run_peer(peer_python(given.peer), pages)
        for backend in ("trafilatura", "resiliparse"):
            with tempfile.TemporaryDirectory() as folder:
                ours = run_ours(pages, backend, Path(folder))
            print(f"\n{backend}: {theirs['documents']:.0f} documents of datatrove's, {ours['documents']:.0f} of ours")
            for stage in ("read and extract", "filters", "whole process", "CPU time"):
                print(f"  {stage:18s} {theirs[stage]:8.2f} {ours[stage]:8.2f} {theirs[stage] / ours[stage]:7.1f}x")
            each = theirs["whole process"] / theirs["documents"] / (ours["whole process"] / ours["documents"])
            print(
                f"  whole process, a document: {each:.1f}x; largest process {ours['largest process, MB']:.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    main()
