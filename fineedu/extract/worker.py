"""The sandboxed half of extraction: a child process that reads pages on stdin and answers on stdout.

Run by ``sandbox.py`` as ``python -m fineedu.extract.worker``; not for use by hand.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import resource
import signal
import struct
import sys
import threading
from pathlib import Path
from typing import IO, Any

from fineedu.extract.charset import decode_page
from fineedu.extract.html import Page, clean_text, extract_page

#: Each frame: length of the JSON head, length of the body, head, body.
FRAME = struct.Struct("<II")
#: libxml2 reports a failed allocation as a parse error, so nearness to the limit tells the two apart.
_NEAR_LIMIT = 48 << 20
#: trafilatura keeps caches of text seen; dropping them every so many pages keeps memory flat.
_CACHE_RESET_PAGES = 500


def read_frame(stream: IO[bytes]) -> tuple[dict[str, Any], bytes] | None:
    """Read one frame; None at the end of the stream, also where it breaks off within a frame."""
    prefix = stream.read(FRAME.size)
    if len(prefix) < FRAME.size:
        return None
    head_length, body_length = FRAME.unpack(prefix)
    head, body = stream.read(head_length), stream.read(body_length)
    if len(head) < head_length or len(body) < body_length:
        return None
    return json.loads(head), body


def write_frame(stream: IO[bytes], head: dict[str, Any], body: bytes) -> None:
    """Write one frame and flush it."""
    encoded = json.dumps(head).encode()
    stream.write(FRAME.pack(len(encoded), len(body)) + encoded + body)
    stream.flush()


def _virtual_memory(field: str) -> int:
    """Return a ``Vm…`` figure of this process in bytes (Linux), 0 where it is not told."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    return 0


def _extract(head: dict[str, Any], body: bytes, settings: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """Extract one page; the answer's head names the reason where there is no text."""
    try:
        text, charset = decode_page(body, head.get("charset"))
        if head["kind"] == "html":
            page = extract_page(text, settings["backend"], settings["mode"], settings["prose"])
        else:
            page = Page(clean_text(text))
        answer = {"title": page.title, "published": page.published, "charset": charset, "prose": page.prose}
        return answer | ({} if page.text else {"reason": "no_text"}), page.text.encode()
    except MemoryError:
        return {"reason": "memory_limit"}, b""
    except RecursionError:
        return {"reason": "markup_too_deep"}, b""
    except Exception as error:  # a page may break a parser in any way; the run counts it and goes on
        return {"reason": "extractor_error", "detail": f"{type(error).__name__}: {error}"[:300]}, b""


def _feed(stream: IO[bytes], pages: queue.Queue[tuple[dict[str, Any], bytes] | None]) -> None:
    """Take pages off the pipe ahead of the work, so that the parent never blocks while we do too."""
    while (frame := read_frame(stream)) is not None:
        pages.put(frame)
    pages.put(None)


def main() -> None:
    """Answer pages until stdin ends. A page over its CPU time ends this process by SIGPROF, from the kernel."""
    settings = json.loads(sys.argv[1])
    if settings["backend"] == "trafilatura":
        from trafilatura.meta import reset_caches

        from fineedu.extract.tuned import tune_trafilatura

        tune_trafilatura()
    else:
        import resiliparse.extract.html2text  # noqa: F401
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that a library prints may mix with the frames
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    ceiling = _virtual_memory("VmSize") + (settings["memory_mb"] << 20)
    resource.setrlimit(resource.RLIMIT_AS, (ceiling, ceiling))
    write_frame(output, {"ready": True}, b"")
    pages: queue.Queue[tuple[dict[str, Any], bytes] | None] = queue.Queue()
    threading.Thread(target=_feed, args=(sys.stdin.buffer, pages), daemon=True).start()
    done = 0
    while (frame := pages.get()) is not None:
        signal.setitimer(signal.ITIMER_PROF, settings["cpu_seconds"])
        head, text = _extract(*frame, settings)
        signal.setitimer(signal.ITIMER_PROF, 0)
        del frame
        exhausted = _virtual_memory("VmPeak") > ceiling - _NEAR_LIMIT
        if exhausted and head.get("reason") in ("no_text", "extractor_error"):
            head = {"reason": "memory_limit"}
        write_frame(output, head, text)
        if exhausted:  # the peak never falls again, and the heap is fragmented: a fresh process goes on
            return
        done += 1
        if done % _CACHE_RESET_PAGES == 0:
            if settings["backend"] == "trafilatura":
                reset_caches()
            gc.collect()


if __name__ == "__main__":
    main()
