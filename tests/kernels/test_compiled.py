"""Compilation: wherever the cache can or cannot be written, and by several processes at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fineedu.kernels import compiled

MEASURE = (
    "import polars as pl; from fineedu.signals.heuristics import HeuristicSignals; family = HeuristicSignals(); "
    "print(family.is_compiled, family.compute(pl.DataFrame({'text': ['one two. three']}))['n_words'][0])"
)


def start(cache: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    return subprocess.Popen([sys.executable, "-c", MEASURE], env=environment, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_processes_that_compile_at_once_share_one_cache(tmp_path):
    processes = [start(str(tmp_path)) for _ in range(2)]
    assert [process.communicate()[0].split() for process in processes] == [["False", "4"]] * 2
    assert list(tmp_path.rglob("*.nbi"))
    assert start(str(tmp_path)).communicate()[0].split() == ["True", "4"]


def test_a_function_compiles_without_any_place_for_its_cache(monkeypatch):
    plain = compiled.numba.njit

    def njit(**options):
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return plain(**options)

    def double(value: int) -> int:
        return 2 * value

    with monkeypatch.context() as patch:
        patch.setattr(compiled.numba, "njit", njit)
        kernel = compiled.kernel(double)
    assert kernel(21) == 42
    assert not compiled.is_compiled(kernel)
