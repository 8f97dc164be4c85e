"""Recipes and models from a URL: taken only with the hash that whoever gave the URL gave with it."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from fineedu.errors import FineeduError

_HASHED = re.compile(r"^([a-z][a-z0-9+.-]+://[^#]+)#sha256=([0-9a-f]{64})$")
_CHUNK = 2**20
#: Bytes that a recipe and an unpacked model may have, and files of a model.
RECIPE_BYTES, MODEL_BYTES, MODEL_FILES = 2**20, 8 * 2**30, 1000
#: Parameters of a URL that hold a key or a signature: of S3, Google, Azure, and what people call them.
_SECRET = re.compile(
    r"signature|credential|token|secret|password|passwd|api_?key|access_?key|^sig$|^se$|^sp$|^key$", re.IGNORECASE
)


def public_url(url: str) -> str:
    """Return a URL without what must not be written down: name and password, keys and signatures."""
    if "://" not in url or not ("@" in url or "?" in url):
        return url
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        pairs = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return url.partition("?")[0]
    if not any(_SECRET.search(name) for name, _ in pairs):
        return urlunsplit(parts._replace(netloc=host))
    kept = [(name, value) for name, value in pairs if not _SECRET.search(name) and not name.startswith("X-Amz-")]
    return urlunsplit(parts._replace(netloc=host, query=urlencode(kept)))


def is_url(name: str) -> bool:
    """Tell whether a recipe or model is named by a URL."""
    return "://" in name


def download(url: str, limit: int) -> Path:
    """Bring ``URL#sha256=HASH`` here, once, and return the file.

    Args:
        url: anything that fsspec reads, with the SHA-256 of its content.
        limit: bytes it may have.

    Raises:
        FineeduError: no hash in the URL, another content, too much of it, or it cannot be read.
    """
    found = _HASHED.match(url)
    if found is None:
        raise FineeduError(
            f"{public_url(url)}: a file from elsewhere is taken only with its hash: add #sha256=<64 hex digits>"
        )
    place, expected = found[1], found[2]
    kept = _cache() / expected
    if kept.is_file() and _hash(kept) == expected:
        return kept
    temporary = kept.with_name(f".{expected}-{secrets.token_hex(6)}")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        actual = _copy(place, temporary, limit)
        if actual != expected:
            raise FineeduError(
                f"{public_url(place)} has the hash {actual}, not {expected}: it is not what you asked for"
            )
        temporary.replace(kept)
    except OSError as error:
        raise FineeduError(f"cannot keep {public_url(place)} in {kept.parent}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return kept


def _cache() -> Path:
    return Path(os.environ.get("FINEEDU_CACHE") or Path.home() / ".cache" / "fineedu") / "files"


def _copy(place: str, target: Path, limit: int) -> str:
    import fsspec

    digest, size = hashlib.sha256(), 0
    with target.open("wb") as out:
        try:
            with fsspec.open(place, "rb") as stream:
                while part := stream.read(_CHUNK):
                    size += len(part)
                    if size > limit:
                        raise FineeduError(f"{public_url(place)} has more than {limit:,} bytes")
                    digest.update(part)
                    out.write(part)
        except FineeduError:
            raise
        except Exception as error:  # every file system of fsspec raises its own kind
            raise FineeduError(f"cannot read {public_url(place)}: {type(error).__name__}: {error}") from error
    return digest.hexdigest()


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def download_recipe(url: str) -> Path:
    """Return a recipe's file; see :func:`download`."""
    path = download(url, RECIPE_BYTES)
    named = path.with_name(f"{path.name}.yaml")
    shutil.copyfile(path, named)
    return named


def download_bundle(url: str) -> Path:
    """Return the folder of a model's bundle, unpacked from a zip; see :func:`download`.

    Raises:
        FineeduError: not a zip of a bundle, or one that reaches outside its folder or is too large.
    """
    archive = download(url, MODEL_BYTES)
    folder = archive.with_name(f"{archive.name}-bundle")
    if not (folder / "bundle.json").is_file():
        with tempfile.TemporaryDirectory(dir=archive.parent, prefix=".unpack-") as place:
            unpack(archive, Path(place), public_url(url))
            inner = [path.parent for path in sorted(Path(place).rglob("bundle.json"))]
            if not inner:
                raise FineeduError(f"{public_url(url)}: no bundle.json in it: it is no model bundle")
            shutil.rmtree(folder, ignore_errors=True)
            shutil.move(inner[0], folder)
    return folder


def unpack(archive: Path, folder: Path, name: str, limit: int = MODEL_BYTES) -> None:
    """Unpack a zip.

    Args:
        archive: the file.
        folder: an empty folder, which nothing leaves.
        name: what to call it in errors.
        limit: bytes that may come out; counted as they come, whatever the zip says of itself.

    Raises:
        FineeduError: it is damaged, too large, or holds links or paths that lead elsewhere.
    """
    room = limit
    try:
        with zipfile.ZipFile(archive) as zipped:
            entries = zipped.infolist()
            if len(entries) > MODEL_FILES:
                raise FineeduError(f"{name}: {len(entries):,} files in a zip; a model has at most {MODEL_FILES:,}")
            for entry in entries:
                path = PurePosixPath(entry.filename.replace("\\", "/"))
                link = stat.S_ISLNK(entry.external_attr >> 16)
                if path.is_absolute() or ".." in path.parts or ":" in entry.filename or link:
                    raise FineeduError(f"{name}: {entry.filename!r} leads out of its folder")
                if entry.is_dir():
                    continue
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with zipped.open(entry) as packed, target.open("wb") as out:
                    while part := packed.read(_CHUNK):
                        room -= len(part)
                        if room < 0:
                            raise FineeduError(f"{name}: more than {limit:,} bytes come out of the zip")
                        out.write(part)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError, OSError) as error:
        raise FineeduError(f"{name}: not a zip that can be unpacked: {error}") from error
    except Exception as error:
        if isinstance(error, FineeduError):
            raise
        raise FineeduError(f"{name}: damaged: {type(error).__name__}: {error}") from error
