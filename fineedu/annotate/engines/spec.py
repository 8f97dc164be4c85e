"""Which engine, with which model: what travels to tasks, and becomes an engine there."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from fineedu.annotate.engines.base import Engine
from fineedu.errors import FineeduError

EngineKind = Literal["vllm", "vllm-server", "openai", "llamacpp"]
#: Requests in flight where nothing is said: vLLM fills its own batches, a laptop has few cores.
_CONCURRENCY: dict[str, int] = {"vllm": 256, "vllm-server": 256, "openai": 32, "llamacpp": 2}


class EngineSpec(BaseModel):
    """An engine's settings. Holds no secrets: the key is read from the environment where the engine runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: EngineKind
    model: str | None = Field(None, description="name, folder or GGUF file, as the engine takes it")
    url: str | None = Field(None, description="openai: base address, e.g. http://127.0.0.1:8000/v1")
    key_variable: str = "OPENAI_API_KEY"
    concurrency: int | None = Field(None, ge=1)
    context: int | None = Field(None, ge=128, description="tokens of prompt and answer together")
    threads: int = Field(0, ge=0, description="llamacpp: CPU threads; 0: its own choice")
    timeout: float = Field(300.0, gt=0, description="openai: seconds for one answer")
    attempts: int = Field(8, ge=1, description="openai: tries of one request")
    without: tuple[str, ...] = Field((), description="openai: fields of the request to leave out")
    vllm_python: str | None = Field(None, description="interpreter that has vLLM")
    arguments: dict[str, Any] = Field(default_factory=dict, description="further arguments of vLLM")

    @property
    def name(self) -> str:
        """What labels call the annotator: the model's name; a file's with what tells its content apart.

        Raises:
            FineeduError: no model is named, or the file is missing.
        """
        if self.kind == "llamacpp":
            from fineedu.annotate.engines.llamacpp import gguf_file

            path = gguf_file(self.model)
            with path.open("rb") as stream:
                head = stream.read(1 << 20)
            return f"{path.stem}@{sha256(head + str(path.stat().st_size).encode()).hexdigest()[:8]}"
        return Path(self._model).name if Path(self._model).is_dir() else self._model

    def check(self) -> None:
        """Say what is missing before anything starts.

        Raises:
            FineeduError: no model or no address is named, or the file is missing.
        """
        if self.kind == "openai" and not self.url:
            raise FineeduError("--engine openai needs --url, e.g. --url http://127.0.0.1:8000/v1")
        assert self.name

    @property
    def _model(self) -> str:
        if not self.model:
            raise FineeduError(f"--engine {self.kind} needs --model")
        return self.model

    def make(self) -> Engine:
        """Return the engine, not started.

        Raises:
            FineeduError: a setting that it needs is missing.
        """
        self.check()
        concurrency = self.concurrency or _CONCURRENCY[self.kind]
        if self.kind == "llamacpp":
            from fineedu.annotate.engines.llamacpp import LlamaCppEngine, gguf_file

            return LlamaCppEngine(gguf_file(self.model), concurrency, self.context or 8192, self.threads)
        if self.kind == "openai":
            from fineedu.annotate.engines.openai import Endpoint, OpenAIEngine

            return OpenAIEngine(
                Endpoint(
                    self.url or "",
                    self._model,
                    self.key_variable,
                    concurrency,
                    self.timeout,
                    self.attempts,
                    without=self.without,
                )
            )
        from fineedu.annotate.engines.vllm import VllmOfflineEngine, VllmServerEngine, VllmSettings

        python = {"python": self.vllm_python} if self.vllm_python else {}
        settings = VllmSettings(
            self._model, concurrency=concurrency, context=self.context, arguments=dict(self.arguments), **python
        )
        return VllmServerEngine(settings) if self.kind == "vllm-server" else VllmOfflineEngine(settings)
