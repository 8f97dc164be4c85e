"""How the kernels are compiled: numba, cached on disk wherever that is possible."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def _sources_digest() -> str:
    """Digest of every file of the package that holds kernels.

    Numba invalidates a cached kernel when its own file changes, not when a kernel that it calls from another
    file does. The digest goes into the cached file's name, so an edit anywhere compiles everything anew.
    """
    digest = hashlib.blake2b(digest_size=6)
    for path in sorted(Path(__file__).parent.parent.rglob("*.py")):
        source = path.read_bytes()
        if b"fineedu.kernels.compiled" in source or path == Path(__file__):
            digest.update(source)
    return digest.hexdigest()


_DIGEST = _sources_digest()
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}


def inner(function: Function) -> Function:
    """Compile a function that only other kernels call; it is cached as part of them.

    Without wrappers for a call from Python, which saves about a tenth of the time to compile.
    """
    return numba.njit(**_OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)  # type: ignore[no-any-return]


def kernel(function: Function) -> Function:
    """Compile a function that Python calls, and cache the machine code on disk.

    Numba writes to ``$NUMBA_CACHE_DIR``, else to ``__pycache__`` beside this file, else to the user's cache
    folder; files are renamed into place, so several processes may compile at once. Where none of the three
    can be written, every process compiles for itself (about 17 s) and nothing fails.
    """
    function.__qualname__ = f"{function.__qualname__}_{_DIGEST}"
    try:
        return numba.njit(**_OPTIONS, cache=True)(function)  # type: ignore[no-any-return]
    except RuntimeError:  # "cannot cache function: no locator available"
        return numba.njit(**_OPTIONS)(function)  # type: ignore[no-any-return]


def is_compiled(function: Callable[..., Any]) -> bool:
    """Tell whether the machine code of a :func:`kernel` lies on this machine's disk, so that no call compiles it."""
    try:
        folder = Path(function.stats.cache_path)  # type: ignore[attr-defined]
    except (AttributeError, TypeError):  # nowhere to keep it
        return False
    return any(folder.glob(f"*.{function.__qualname__}-*.nbi"))
