"""A store on S3 or anything else that fsspec knows: a work folder on disk, each file of which is kept there whole.

A file goes up before it gets its name in the work folder, so what is there locally is there remotely, and an object
appears at once or not at all: a plain PUT, or a multipart upload that is committed at its end. Nothing is renamed on
the remote side, and no listing is trusted: whether an object is there is asked by its name.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from fineedu.errors import FineeduError

_URL = re.compile(r"^([a-z][a-z0-9+.-]+):/+(.+)$")
#: Attempts at a request, on top of the library's own, with waits of 0.5 s, 1 s, 2 s … between them.
ATTEMPTS = 7
#: Seconds between signs of life of a run's lock, and how old one is that nobody holds any more.
LOCK_BEAT_SECONDS, LOCK_DEAD_SECONDS = 30.0, 300.0
#: Left in the work folder: progress notes, logs, locks and temporary files.
_HERE_ONLY = re.compile(r"(^|/)(\.lock|\.tmp-[^/]*|logs|progress)(/|$)|^dedup/work/")
_SMALL = 2**20

Result = TypeVar("Result")
_mirrors: dict[Path, Mirror] = {}


class Mirror:
    """Where the files of a work folder are kept.

    Args:
        root: the work folder.
        url: e.g. ``s3://bucket/stores/edu``.
    """

    def __init__(self, root: Path, url: str) -> None:
        self.root = root
        self.url = url.rstrip("/")

    @cached_property
    def _place(self) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        try:
            # Listings are asked for anew each time: another machine may have written in between.
            fs, path = url_to_fs(self.url, use_listings_cache=False)
        except ImportError as error:
            raise FineeduError(f"--output {self.url} needs an extra package: pip install 'fineedu[s3]'") from error
        except Exception as error:  # every file system of fsspec raises its own kind
            raise FineeduError(f"--output {self.url}: {type(error).__name__}: {error}") from error
        return fs, str(path).rstrip("/")

    def _key(self, path: Path) -> str:
        return f"{self._place[1]}/{path.relative_to(self.root).as_posix()}"

    def _again(self, what: str, request: Callable[[], Result], reading: bool = True) -> Result:
        """Make a request until it is answered; the pauses grow, for servers that ask to slow down.

        Raises:
            FileNotFoundError: what is to be read is not there.
            FineeduError: no answer, or one that asking again does not change.
        """
        for attempt in range(ATTEMPTS):
            try:
                return request()
            except Exception as error:  # every file system of fsspec raises its own kind
                if isinstance(error, FileNotFoundError) and reading:
                    raise
                if attempt == ATTEMPTS - 1 or isinstance(error, (FileNotFoundError, PermissionError)):
                    raise FineeduError(
                        f"cannot {what}: {type(error).__name__}: {error}. "
                        "Mend that and run the same command again: it resumes."
                    ) from error
                time.sleep(0.5 * 2**attempt)
        raise AssertionError

    def put(self, source: Path, path: Path) -> None:
        """Keep a file: ``source`` as it is now, under the name of ``path``."""
        fs, _ = self._place
        key = self._key(path)
        self._again(f"write {self.url} ({key})", lambda: fs.put_file(str(source), key), reading=False)

    def fetch(self, path: Path) -> bool:
        """Bring a file to the work folder; tell whether there is one.

        Raises:
            FineeduError: it cannot be read whole.
        """
        fs, _ = self._place
        key = self._key(path)

        def get() -> None:
            size = fs.info(key)["size"]
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".tmp-{secrets.token_hex(6)}-{path.name}")
            try:
                fs.get_file(key, str(temporary))
                if temporary.stat().st_size != size:
                    raise OSError(f"{temporary.stat().st_size:,} of {size:,} bytes came")
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

        try:
            self._again(f"read {self.url} ({key})", get)
        except FileNotFoundError:
            return False
        return True

    def pull(self) -> None:
        """Bring everything that is kept and is missing, or of another size or content, in the work folder."""
        fs, base = self._place
        try:
            found = self._again(f"list {self.url}", lambda: fs.find(base, detail=True))
        except FileNotFoundError:
            return
        for key, told in found.items():
            name = key.removeprefix(f"{base}/")
            path = self.root / name
            if _HERE_ONLY.search(name) or ".." in Path(name).parts or _is_same(path, told):
                continue
            self.fetch(path)

    def drop_unfinished(self) -> None:
        """Abort multipart uploads that killed runs have left: invisible, but paid for."""
        fs, base = self._place
        if not hasattr(fs, "call_s3"):
            return
        bucket, _, prefix = base.partition("/")
        with suppress(Exception):  # not every S3 lets everybody list them
            told = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{prefix}/" if prefix else "")
            for upload in told.get("Uploads", []):
                fs.call_s3("abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the remote store for one run.

        Raises:
            FineeduError: another run holds it, here or on another machine.
        """
        fs, base = self._place
        key, me = f"{base}/.lock", f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(8)}"
        holder = self._holder(key)
        if holder is not None:
            raise FineeduError(
                f"another run is writing to {self.url} ({holder}): wait for it, or take another --output. "
                f"A run that was lost with its machine frees it after {LOCK_DEAD_SECONDS / 60:.0f} minutes."
            )

        def beat() -> None:
            text = json.dumps({"holder": me, "updated": datetime.now(UTC).isoformat()}).encode()
            self._again(f"write {key}", lambda: fs.pipe_file(key, text), reading=False)

        beat()
        if self._read_lock(key).get("holder") != me:  # two came at the same moment: the last one to write has it
            raise FineeduError(f"another run is writing to {self.url}: wait for it, or take another --output")
        stop = threading.Event()

        def keep() -> None:
            while not stop.wait(LOCK_BEAT_SECONDS):
                with suppress(FineeduError):
                    beat()

        keeper = threading.Thread(target=keep, daemon=True)
        keeper.start()
        try:
            self.drop_unfinished()
            yield
        finally:
            stop.set()
            keeper.join()
            with suppress(Exception):
                fs.rm_file(key)

    def _read_lock(self, key: str) -> dict[str, Any]:
        fs, _ = self._place
        try:
            found = self._again(f"read {key}", lambda: json.loads(fs.cat_file(key)))
        except FileNotFoundError:
            return {}
        return found if isinstance(found, dict) else {}

    def _holder(self, key: str) -> str | None:
        """Return who holds the lock; None where nobody does, or the one who did is dead."""
        found = self._read_lock(key)
        if not found:
            return None
        host, process, _ = found["holder"].split()
        if host == socket.gethostname() and int(process) != os.getpid() and not Path(f"/proc/{process}").exists():
            return None
        age = (datetime.now(UTC) - datetime.fromisoformat(found["updated"])).total_seconds()
        return None if age > LOCK_DEAD_SECONDS else f"process {process} on {host}"


def _is_same(path: Path, told: dict[str, Any]) -> bool:
    try:
        size = path.stat().st_size
    except OSError:
        return False
    if size != told.get("size"):
        return False
    etag = str(told.get("ETag", "")).strip('"')
    if size > _SMALL or len(etag) != 32:
        return True
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() == etag


def as_url(output: str | Path) -> str | None:
    """Return the URL that an output names, None for a folder; ``Path`` has made one slash of two."""
    found = _URL.match(str(output))
    if found is None or found[1] == "file":
        return None
    return f"{found[1]}://{found[2]}"


def work_folder(output: str | Path) -> Path:
    """Return the folder to work in: the output itself, or for a URL one in ``FINEEDU_WORK`` or the user's cache."""
    url = as_url(output)
    if url is None:
        return Path(str(output).removeprefix("file://"))
    base = Path(os.environ.get("FINEEDU_WORK") or Path.home() / ".cache" / "fineedu")
    name = re.sub(r"[^A-Za-z0-9]+", "-", url)[:60].strip("-")
    return (base / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:8]}").absolute()


def register(root: Path, url: str) -> None:
    """Have everything that is written under ``root`` kept at ``url``, in this process."""
    if root not in _mirrors or _mirrors[root].url != url.rstrip("/"):
        _mirrors[root] = Mirror(root, url)


def mirror_of(path: Path) -> Mirror | None:
    """Return what keeps the files of the folder that a path lies in; None for what stays here."""
    for root, mirror in _mirrors.items():
        if path.is_relative_to(root):
            name = path.relative_to(root).as_posix()
            return None if _HERE_ONLY.search(name) else mirror
    return None


def open_output(output: str | Path) -> Path:
    """Return the folder of a store to read; one that is kept elsewhere is brought here first.

    Raises:
        FineeduError: it cannot be reached.
    """
    url, root = as_url(output), work_folder(output)
    if url is not None:
        register(root, url)
        _mirrors[root].pull()
    return root
