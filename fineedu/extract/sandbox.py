"""Extraction in a child process, bounded in CPU time and memory page by page.

Limits are in CPU seconds of the child, enforced by the kernel, and not in wall-clock seconds: a machine that is
busy with something else must not lose pages. (A wall-clock limit lost 30 of 300 pages in such a test.)
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from fineedu.errors import FineeduError
from fineedu.extract.html import Backend, Mode
from fineedu.extract.worker import read_frame, write_frame

#: Pages, and their bytes, sent ahead of the one being worked on: the child goes on while the parent reads the archive
#: or tells the language of a batch.
_AHEAD, _AHEAD_BYTES = 64, 4 << 20
#: Room for answers that the parent has not read yet: 250 of 4 kB. A pipe has 64 kB otherwise.
_ANSWER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """How a page is extracted and what it may cost."""

    backend: Backend = "trafilatura"
    mode: Mode = "fast"
    cpu_seconds: float = 20.0
    memory_mb: int = 768
    #: ask for ``prose`` too; see :class:`fineedu.extract.html.Page`
    prose: bool = False


@dataclass(frozen=True, slots=True)
class Extracted:
    """The answer for one page: text, or the reason why there is none."""

    text: str
    reason: str | None = None
    title: str | None = None
    published: str | None = None
    charset: str | None = None
    detail: str | None = None
    prose: str = ""
    #: code and probability, where the caller has told the language of the text already
    language: tuple[str, float] | None = None


class Sandbox:
    """A child process that extracts pages one after the other; replaced when a page kills it."""

    def __init__(self, limits: SandboxLimits) -> None:
        self._limits = limits
        self._child: subprocess.Popen[bytes] | None = None
        #: pages sent and not answered, oldest first, with how often each has been tried
        self._waiting: deque[tuple[dict[str, Any], bytes, int]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None

    def extract(self, pages: Iterable[tuple[str, str | None, bytes]]) -> Iterator[Extracted]:
        """Extract pages in order.

        Args:
            pages: of each page its kind (``html`` or ``text``), declared charset and bytes.

        Yields:
            One answer a page, in the order of the pages.

        Raises:
            FineeduError: the extractor cannot start at all.
        """
        for kind, charset, body in pages:
            head = {"kind": kind, "charset": charset}
            self._waiting.append((head, body, 0))
            self._send(head, body)
            while len(self._waiting) > 1 and self._is_far_ahead():
                yield self._answer()
        while self._waiting:
            yield self._answer()

    def _is_far_ahead(self) -> bool:
        return len(self._waiting) > _AHEAD or sum(len(body) for _, body, _ in self._waiting) > _AHEAD_BYTES

    def _start(self) -> subprocess.Popen[bytes]:
        with tempfile.TemporaryFile() as errors:
            child = subprocess.Popen(
                [sys.executable, "-m", "fineedu.extract.worker", json.dumps(asdict(self._limits))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                # One malloc arena: the address-space limit must not be spent on reserved, unused arenas.
                env=os.environ | {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"},
            )
            assert child.stdout is not None
            with suppress(AttributeError, OSError):  # not Linux, or the user's pipes are many already
                fcntl.fcntl(child.stdout, fcntl.F_SETPIPE_SZ, _ANSWER_BYTES)
            if read_frame(child.stdout) is None:
                child.communicate()
                errors.seek(0)
                last = errors.read().decode(errors="replace").strip().splitlines()[-1:]
                raise FineeduError(f"the page extractor does not start: {' '.join(last) or child.returncode}")
        return child

    def _send(self, head: dict[str, Any], body: bytes) -> None:
        if self._child is None:
            self._child = self._start()
        assert self._child.stdin is not None
        # A child that is gone is noticed, and the page sent again, when its answer is asked for.
        with suppress(OSError):
            write_frame(self._child.stdin, head, body)

    def _answer(self) -> Extracted:
        while True:
            assert self._child is not None and self._child.stdout is not None
            frame = read_frame(self._child.stdout)
            if frame is not None:
                self._waiting.popleft()
                head, text = frame
                return Extracted(text.decode(), **head)
            verdict = self._bury()
            if verdict is not None:
                return verdict

    def _bury(self) -> Extracted | None:
        """Replace a dead child; return the verdict on the page it died of, None where that page is tried again."""
        assert self._child is not None
        self._child.communicate()
        code, self._child = self._child.returncode, None
        head, body, tries = self._waiting.popleft()
        verdict: Extracted | None = None
        if code == -signal.SIGPROF:
            verdict = Extracted("", "cpu_limit")
        elif code != 0 and tries > 0:
            # Twice on the same page: the page's own fault. Once may be the machine's (out-of-memory killer).
            verdict = Extracted("", "extractor_crash", detail=f"exit status {code}")
        if verdict is None:
            self._waiting.appendleft((head, body, tries + (code != 0)))
        for waiting_head, waiting_body, _ in self._waiting:
            self._send(waiting_head, waiting_body)
        return verdict
