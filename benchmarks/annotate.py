"""What annotation costs beside the model: python benchmarks/annotate.py.

1. Our path against a bare client loop on the same local server, same requests and number in flight, in turn.
2. Answers a second from the cache.
3. What a kill -9 costs: requests asked again, and seconds until the run is where it was.
4. Documents a second of the real engines that are installed (SmolLM2-135M; the model's time, not ours).

The server of 1 to 3 is ``tests/annotate/endpoint.py``: it answers after a fixed delay, so that what is measured is the
client. Figures are of one run.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import aiohttp
import polars as pl

from fineedu.annotate.answer import Completion
from fineedu.annotate.cache import AnswerCache, Key
from fineedu.annotate.engines.llamacpp import gguf_file
from fineedu.annotate.engines.spec import EngineSpec
from fineedu.annotate.prompt import document_hash, make_body, make_prompt
from fineedu.annotate.rubric import load_rubric
from fineedu.annotate.run import AnnotateJob, run_annotation
from fineedu.annotate.votes import Annotator
from fineedu.errors import FineeduError

DOCUMENTS, FLYING, DELAY = 2000, 64, 1.0
RUBRIC = load_rubric("edu")


def texts(count: int) -> list[str]:
    """Return documents of about 3,000 characters, all different."""
    return [f"Page {n}. " + "Plants make sugar from light, water and carbon dioxide. " * 55 for n in range(count)]


def job(folder: Path, count: int, spec: EngineSpec, name: str = "m") -> AnnotateJob:
    """Return an annotation of so many documents."""
    path = folder / f"documents-{count}.parquet"
    found = texts(count)
    pl.DataFrame({"id": [f"d{n}" for n in range(count)], "text": found}).write_parquet(path)
    return AnnotateJob((path,), Annotator(name, spec.kind, RUBRIC), spec, folder / "x.parquet", folder / "cache")


async def bare(url: str, count: int) -> None:
    """Send the same requests in the plainest way: a loop over a session with so many in flight."""
    slots = asyncio.Semaphore(FLYING)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(body: dict[str, Any]) -> None:
            async with slots, session.post(f"{url}/chat/completions", json=body) as response:
                await response.json()

        bodies = [{"model": "m"} | make_body(RUBRIC, make_prompt(RUBRIC, text)) for text in texts(count)]
        await asyncio.gather(*(one(body) for body in bodies))


def seconds(work: Any) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def overhead(url: str) -> None:
    """Print our time beside the bare loop's, three times in turn."""
    theirs, ours = [], []
    for _ in range(3):
        theirs.append(seconds(lambda: asyncio.run(bare(url, DOCUMENTS))))
        with tempfile.TemporaryDirectory() as folder:
            spec = EngineSpec(kind="openai", model="m", url=url, concurrency=FLYING)
            annotation = job(Path(folder), DOCUMENTS, spec)
            ours.append(seconds(partial(run_annotation, annotation)))
    plain, full = statistics.median(theirs), statistics.median(ours)
    print(f"server that answers after {DELAY} s, {FLYING} in flight, {DOCUMENTS:,} documents, median of 3")
    print(f"  bare loop {plain:6.2f} s  {DOCUMENTS / plain:6.1f} documents/s")
    print(
        f"  fineedu   {full:6.2f} s  {DOCUMENTS / full:6.1f} documents/s  overhead {full / plain - 1:+.1%}", flush=True
    )


def cache_hits(url: str) -> None:
    """Print answers a second: from SQLite alone, and through a whole run that asks nobody."""
    count = 20_000
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        spec = EngineSpec(kind="openai", model="m", url=url, concurrency=2000)
        whole = job(root, count, spec)
        keys = [(document_hash(text), 0) for text in texts(count)]
        with AnswerCache(whole.cache) as cache:
            answer = Completion('{"justification": "a lesson", "score": 3}', "stop", alternatives=(("3", -0.1),) * 20)
            for key in keys:
                cache.put(Key(RUBRIC.hash, "m", *key), answer)
            alone = seconds(lambda: cache.get(RUBRIC.hash, "m", keys))
        run = seconds(lambda: run_annotation(whole))
    print(f"cache: {count / alone:,.0f} answers/s read, {count / run:,.0f} documents/s through a whole run", flush=True)


def recovery(url: str, log: Path) -> None:
    """Print what a kill in the middle costs."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        whole = job(root, DOCUMENTS, EngineSpec(kind="openai", model="m", url=url))
        before = len(log.read_text().split())
        command = [
            sys.executable,
            "-m",
            "fineedu",
            "annotate",
            "edu",
            "-i",
            str(whole.files[0]),
            "-o",
            str(whole.output),
        ]
        command += ["--engine", "openai", "--url", url, "--model", "m", "--concurrency", str(FLYING)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            while len(log.read_text().split()) - before < DOCUMENTS // 2:
                time.sleep(0.01)
            os.kill(run.pid, signal.SIGKILL)
        time.sleep(2 * DELAY)
        paid = len(log.read_text().split()) - before
        started = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
            while len(log.read_text().split()) - before <= paid:
                time.sleep(0.005)
            back = time.monotonic() - started
            run.wait()
        asked = len(log.read_text().split()) - before
    print(f"kill -9 after {paid:,} answers: {asked - DOCUMENTS} asked again ({FLYING} were in flight), ", end="")
    print(f"first new answer after {back:.1f} s (start-up and the server's {DELAY} s)", flush=True)


def real_engines() -> None:
    """Print documents a second of the engines that are installed."""
    python = os.environ.get("FINEEDU_VLLM_PYTHON", str(ROOT / ".venv-vllm" / "bin" / "python"))
    model = Path(python).parent.parent / "smollm2"
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    specs = []
    try:
        specs.append(EngineSpec(kind="llamacpp", model=str(gguf_file(None)), context=2048))
    except FineeduError as error:
        print(f"llamacpp: {error}")
    if model.exists():
        arguments = {"model": str(model), "vllm_python": python, "context": 2048, "concurrency": 16}
        specs += [EngineSpec(kind=kind, **arguments) for kind in ("vllm", "vllm-server")]
    for spec in specs:
        with tempfile.TemporaryDirectory() as folder:
            start = seconds(partial(run_annotation, job(Path(folder), 1, spec, spec.name)))
            taken = seconds(partial(run_annotation, job(Path(folder), 25, spec, spec.name)))
        rate = 24 / max(taken - start, 1e-9)
        print(
            f"{spec.kind:12s} {rate:5.2f} documents/s of 700 tokens; {start:.0f} s to start and answer one", flush=True
        )


def main() -> None:
    """Print all figures."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "asked.log"
        command = [sys.executable, "-m", "tests.annotate.endpoint", str(log), str(DELAY)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
            assert server.stdin is not None and server.stdout is not None
            url = server.stdout.readline().strip()
            overhead(url)
            cache_hits(url)
            recovery(url, log)
            server.stdin.close()
    real_engines()


if __name__ == "__main__":
    main()
