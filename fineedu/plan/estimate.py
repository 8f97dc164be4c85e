"""From costs of a sample to those of the whole, with an interval, and to money."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fineedu.errors import FineeduError
from fineedu.plan.sample import BY_SHARD, Sampled, Whole
from fineedu.status.collect import StageCost


class Prices(BaseModel):
    """What things cost; a price that is not given counts nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    currency: str = "USD"
    core_hour: float = Field(0.0, ge=0, description="an hour of one processor, its memory included")
    gpu_hour: float = Field(0.0, ge=0, description="an hour of one GPU")
    read_gb: float = Field(0.0, ge=0, description="a GB (10^9 bytes) read from the archives")
    stored_gb_month: float = Field(0.0, ge=0, description="a GB kept for a month")
    months: float = Field(1.0, ge=0, description="how long the store is kept")


def load_prices(path: Path) -> Prices:
    """Read a price file.

    Raises:
        FineeduError: it cannot be read, or holds something else.
    """
    try:
        return Prices.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise FineeduError(f"cannot read the price file {path}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        known = ", ".join(Prices.model_fields)
        raise FineeduError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}; known: {known}") from error


@dataclass(frozen=True, slots=True)
class StageEstimate:
    """What a stage will take over all of the input."""

    core_hours: float
    #: bytes
    read: float
    written: float
    #: whether it runs on one machine only, while the others wait
    alone: bool


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run will take. Times in hours, sizes in bytes."""

    archives: int
    bytes: float
    pages: float
    documents: float
    kept: float
    stages: dict[str, StageEstimate]
    #: with its 95 % interval, by the differences between slices
    core_hours: float
    low: float
    high: float
    gpu_hours: float
    #: of start-up: loading models, compiling kernels; once a worker
    start_hours: float
    #: of a worker
    memory: float
    bottleneck: str
    slices: int
    sampled_bytes: int
    seconds: float

    @property
    def written(self) -> float:
        """Bytes that the store will take."""
        return sum(stage.written for stage in self.stages.values())

    def wall_hours(self, cores: int) -> float:
        """Return the time it takes where so many cores are kept busy."""
        alone = sum(stage.core_hours for stage in self.stages.values() if stage.alone)
        together = sum(stage.core_hours for stage in self.stages.values() if not stage.alone)
        return self.start_hours + together / cores + alone

    def cost(self, prices: Prices) -> dict[str, float]:
        """Return what each thing costs."""
        return {
            "processors": self.core_hours * prices.core_hour,
            "GPUs": self.gpu_hours * prices.gpu_hour,
            "reading": self.bytes / 1e9 * prices.read_gb,
            "storage": self.written / 1e9 * prices.stored_gb_month * prices.months,
        }


def _rate(full: StageCost, warm: StageCost, field: str, more: int) -> float:
    """Return units a byte of input: what the larger run took more, by how much larger it was."""
    return max(float(getattr(full, field)) - float(getattr(warm, field)), 0.0) / more


def estimate(whole: Whole, sampled: Sampled, workers: int) -> Estimate:
    """Extrapolate.

    The stages that go shard by shard cost in proportion to the bytes of the archives; the ones that run once
    (clustering, report) what the small run took and in proportion beyond it.

    Args:
        whole: what the run will read.
        sampled: what the sample took.
        workers: processes that will each pay for start-up.
    """
    size = sum(length for length, _ in sampled.slices)
    more = size - sampled.warm_bytes
    if more <= 0:
        raise FineeduError("the sample is too small: take a larger --sample-mb or more --slices")
    stages: dict[str, StageEstimate] = {}
    task_seconds = 0.0
    for name, full in sampled.full.items():
        warm = sampled.warm.get(name, StageCost())
        beyond = whole.bytes - sampled.warm_bytes
        if name in BY_SHARD:
            cpu = full.cpu_seconds / size * whole.bytes
            task_seconds += full.seconds / size * whole.bytes
        else:
            cpu = warm.cpu_seconds + _rate(full, warm, "cpu_seconds", more) * beyond
        read = full.bytes_read / size * whole.bytes
        written = _written(full, warm, len(sampled.slices), size, sampled.warm_bytes) * whole.bytes
        stages[name] = StageEstimate(cpu / 3600, read, written, name not in BY_SHARD)
    start = sum(
        max(cost.cpu_seconds - sampled.warm.get(name, StageCost()).cpu_seconds, 0.0)
        for name, cost in sampled.cold.items()
    )
    hours = sum(stage.core_hours for stage in stages.values()) + start * workers / 3600
    error = _ratio_error(sampled.slices) * whole.bytes / 3600
    scale = whole.bytes / size
    return Estimate(
        whole.archives,
        whole.bytes,
        sampled.pages * scale,
        sampled.documents * scale,
        sampled.kept * scale,
        stages,
        hours,
        max(hours - error, 0.0),
        hours + error,
        task_seconds / 3600 * whole.plan.job.recipe.engine.gpus,
        start / 3600,
        max(cost.memory_bytes for cost in sampled.full.values()),
        max(stages, key=lambda name: stages[name].core_hours),
        len(sampled.slices),
        size,
        sum(cost.cpu_seconds for run in (sampled.cold, sampled.warm, sampled.full) for cost in run.values()),
    )


def _written(full: StageCost, warm: StageCost, files: int, size: int, warm_size: int) -> float:
    """Return bytes written a byte of input, without what a file costs whatever it holds.

    Slices give small files, of which a third can be schema and footer. Two runs give two equations for two unknowns.
    """
    plain = full.bytes_written / size
    own = (full.bytes_written - files * warm.bytes_written) / max(size - files * warm_size, 1)
    return own if plain / 3 < own < plain else plain


def _ratio_error(slices: Sequence[tuple[int, float]]) -> float:
    """Return the half width of the 95 % interval of CPU seconds a byte (ratio estimator; Cochran 1977, eq. 2.45)."""
    from scipy.stats import t

    n = len(slices)
    if n < 2:
        return math.inf
    ratio = sum(cpu for _, cpu in slices) / sum(length for length, _ in slices)
    mean = sum(length for length, _ in slices) / n
    variance = sum((cpu - ratio * length) ** 2 for length, cpu in slices) / (n - 1)
    quantile = float(t.ppf(0.975, n - 1))
    return quantile * math.sqrt(variance / n) / mean
