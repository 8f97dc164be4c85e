"""vLLM, offline in a child process or as a server that is started and stopped here.

vLLM wants an environment of its own (it pins torch and much else), so both run under an interpreter that may be another
than ours: ``--vllm-python``, or ``$FINEEDU_VLLM_PYTHON``.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import aiohttp

from fineedu.annotate.answer import Completion
from fineedu.annotate.engines.base import Engine, read_completion
from fineedu.annotate.engines.openai import Endpoint, OpenAIEngine
from fineedu.errors import FineeduError

#: Blanks are forbidden between tokens: small models fill the whole answer with them otherwise.
_STRUCTURED = {"backend": "xgrammar", "disable_any_whitespace": True}
#: Loading tens of gigabytes from a network disk takes that long.
_START_SECONDS = 1800.0
_STOP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class VllmSettings:
    """Which model, and how vLLM runs it."""

    model: str
    python: str = field(default_factory=lambda: os.environ.get("FINEEDU_VLLM_PYTHON", sys.executable))
    concurrency: int = 256
    #: tokens of prompt and answer together; None: what the model was made for
    context: int | None = None
    #: further engine arguments of vLLM, as its command line names them, without dashes in front
    arguments: dict[str, Any] = field(default_factory=dict)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # 1 is PR_SET_PDEATHSIG: the server ends its own children on SIGTERM


def _environment() -> dict[str, str]:
    quiet = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    return quiet | dict(os.environ)


def _last_words(log: IO[bytes]) -> str:
    log.seek(0)
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    told = [line for line in lines if "Error" in line]
    return (told or lines or ["no output"])[-1].strip()[:400]


def _failure(settings: VllmSettings, log: IO[bytes]) -> FineeduError:
    words = _last_words(log)
    hint = ""
    if "No module named" in words:
        hint = f" ({settings.python} has no vLLM: install it there, or name an interpreter that has by --vllm-python)"
    return FineeduError(f"vLLM does not start with {settings.model}: {words}{hint}")


async def _gone(poll: Callable[[], int | None], group: int) -> None:
    """Wait for a child that was told to end; then end whatever of its process group is left.

    vLLM's workers hold gigabytes, and are orphans when the process that started them is simply killed.
    """
    for _ in range(int(_STOP_SECONDS / 0.1)):
        if poll() is not None:
            break
        await asyncio.sleep(0.1)
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


class VllmServerEngine(Engine):
    """Starts vLLM's server on a free port of this machine, asks it over HTTP, and stops it in the end."""

    def __init__(self, settings: VllmSettings) -> None:
        self._settings = settings
        self.concurrency = settings.concurrency
        self._child: subprocess.Popen[bytes] | None = None
        self._client: OpenAIEngine | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server

    def _command(self, port: int) -> list[str]:
        settings = self._settings
        command = [settings.python, "-m", "vllm.entrypoints.openai.api_server", "--model", settings.model]
        command += ["--host", "127.0.0.1", "--port", str(port), "--structured-outputs-config", json.dumps(_STRUCTURED)]
        if settings.context is not None:
            command += ["--max-model-len", str(settings.context)]
        for name, value in settings.arguments.items():
            flag = f"--{name.replace('_', '-')}"
            command += [flag] if value is True else [flag, value if isinstance(value, str) else json.dumps(value)]
        return command

    async def __aenter__(self) -> Self:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        try:
            self._child = subprocess.Popen(
                self._command(port),
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                env=_environment(),
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        except OSError as error:
            raise FineeduError(f"cannot start {self._settings.python}: {error.strerror}") from error
        try:
            await self._until_ready(f"http://127.0.0.1:{port}/health")
        except BaseException:
            await self._stop()
            raise
        endpoint = Endpoint(
            f"http://127.0.0.1:{port}/v1", self._settings.model, concurrency=self.concurrency, timeout=3600.0
        )
        self._client = await OpenAIEngine(endpoint).__aenter__()
        return self

    async def _until_ready(self, address: str) -> None:
        assert self._child is not None
        waited = 0.0
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while waited < _START_SECONDS:
                if self._child.poll() is not None:
                    raise _failure(self._settings, self._log)
                try:
                    async with session.get(address) as response:
                        if response.status == 200:
                            return
                except (aiohttp.ClientError, TimeoutError):
                    pass
                await asyncio.sleep(0.5)
                waited += 0.5
        raise FineeduError(f"vLLM is not ready after {_START_SECONDS:.0f} s: {_last_words(self._log)}")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.__aexit__(kind, error, trace)
        await self._stop()
        self._log.close()

    async def _stop(self) -> None:
        if self._child is not None:
            self._child.terminate()
            await _gone(self._child.poll, self._child.pid)
            self._child.wait()

    async def complete(self, body: dict[str, Any]) -> Completion:
        """Ask the server."""
        assert self._client is not None
        try:
            return await self._client.complete(body)
        except FineeduError as error:
            if self._child is not None and self._child.poll() is not None:
                raise FineeduError(f"vLLM died: {_last_words(self._log)}") from error
            raise


class VllmOfflineEngine(Engine):
    """Runs vLLM's offline engine in a child; requests that gather while it works make its next batch."""

    def __init__(self, settings: VllmSettings) -> None:
        self._settings = settings
        # Twice the batch: the next one gathers while one is worked on.
        self.concurrency = 2 * settings.concurrency
        self._child: asyncio.subprocess.Process | None = None
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._next = 0
        self._reader: asyncio.Task[None] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child

    async def __aenter__(self) -> Self:
        settings = self._settings
        llm = {"model": settings.model, "structured_outputs_config": _STRUCTURED, "seed": 0} | settings.arguments
        if settings.context is not None:
            llm["max_model_len"] = settings.context
        told = json.dumps({"llm": llm, "batch": settings.concurrency})
        try:
            self._child = await asyncio.create_subprocess_exec(
                settings.python,
                str(Path(__file__).with_name("vllm_worker.py")),
                told,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=_environment(),
                limit=64 << 20,
                start_new_session=True,
            )
        except OSError as error:
            raise FineeduError(f"cannot start {settings.python}: {error.strerror}") from error
        assert self._child.stdout is not None
        if not await self._child.stdout.readline():
            raise _failure(settings, self._log)
        self._reader = asyncio.create_task(self._read())
        return self

    async def _read(self) -> None:
        assert self._child is not None and self._child.stdout is not None
        while line := await self._child.stdout.readline():
            found = json.loads(line)
            self._waiting.pop(found["id"]).set_result(found["response"])
        for future in self._waiting.values():
            future.set_exception(FineeduError(f"vLLM died: {_last_words(self._log)}"))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            child = self._child
            if child.stdin is not None:
                child.stdin.close()  # its sign to end, and to end its own children; so it does when we are killed
            await _gone(lambda: child.returncode, child.pid)
            await child.wait()
        if self._reader is not None:
            self._reader.cancel()
        self._log.close()

    async def complete(self, body: dict[str, Any]) -> Completion:
        """Send a request to the child and wait for its answer."""
        assert self._child is not None and self._child.stdin is not None
        self._next += 1
        ticket = self._next
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[ticket] = future
        try:
            self._child.stdin.write(json.dumps({"id": ticket, "body": body}).encode() + b"\n")
            await self._child.stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as error:
            raise FineeduError(f"vLLM died: {_last_words(self._log)}") from error
        response = await future
        if "error" in response:
            return Completion("", "error", error=response["error"])
        return read_completion(response)
