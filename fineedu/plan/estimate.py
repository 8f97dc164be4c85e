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


@dataclass(frozen=True, slots=True)
class Line:
    """A cost as a straight line: so much a byte of the archives, and so much a shard."""

    byte: float
    shard: float

    def at(self, size: float, shards: float) -> float:
        """Return the cost of so many bytes in so many shards."""
        return self.byte * size + self.shard * shards


def fit_line(short: float, full: float, short_size: int, size: int, shards: int) -> Line:
    """Fit the line through two runs over as many shards, of which the second read more of each.

    Neither part may be negative, as it can come out by noise.
    """
    byte = min(max((full - short) / max(size - short_size, 1), 0.0), full / size)
    return Line(byte, max((full - byte * size) / shards, 0.0))


def estimate(whole: Whole, sampled: Sampled, workers: int) -> Estimate:
    """Extrapolate.

    Args:
        whole: what the run will read.
        sampled: what the sample took.
        workers: processes that will each pay for start-up.

    Raises:
        FineeduError: the sample is too small.
    """
    size, slices = sum(length for length, _ in sampled.slices), len(sampled.slices)
    if size <= sampled.short_bytes:
        raise FineeduError("the sample is too small: take a larger --sample-mb")
    stages: dict[str, StageEstimate] = {}
    task_seconds = 0.0
    for name, full in sampled.full.items():
        short = sampled.short.get(name, StageCost())
        # A stage that runs once has its constant once, over however many shards.
        shards, fitted = (whole.shards, slices) if name in BY_SHARD else (1.0, 1)

        def at(
            field: str, short: StageCost = short, full: StageCost = full, shards: float = shards, fitted: int = fitted
        ) -> float:
            line = fit_line(getattr(short, field), getattr(full, field), sampled.short_bytes, size, fitted)
            return line.at(whole.bytes, shards)

        task_seconds += at("seconds") if name in BY_SHARD else 0.0
        stages[name] = StageEstimate(
            at("cpu_seconds") / 3600, at("bytes_read"), at("bytes_written"), name not in BY_SHARD
        )
    start = sum(
        max(cost.cpu_seconds - sampled.short[name].cpu_seconds / (slices if name in BY_SHARD else 1), 0.0)
        for name, cost in sampled.cold.items()
        if name in BY_SHARD and name in sampled.short
    )
    starts = min(workers, math.ceil(whole.shards))
    hours = sum(stage.core_hours for stage in stages.values()) + start * starts / 3600
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
        slices,
        size,
        sum(cost.cpu_seconds for run in (sampled.cold, sampled.short, sampled.full) for cost in run.values()),
    )


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
