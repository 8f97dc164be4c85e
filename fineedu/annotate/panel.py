"""Panels: several annotators on the same documents, and a dear one only where the cheap ones disagree."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fineedu.annotate.budget import Limits
from fineedu.annotate.engines.spec import EngineSpec
from fineedu.annotate.run import AnnotateJob, AnnotateResult, run_annotation
from fineedu.annotate.votes import Annotator, Tally
from fineedu.errors import FineeduError
from fineedu.labels import read_labels, write_labels


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Seat(_Strict):
    """One annotator of a panel."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,80}$")]
    engine: EngineSpec
    samples: int = Field(1, ge=1, le=100)
    temperature: float | None = Field(None, ge=0, le=2, description="None: the rubric's")

    @model_validator(mode="after")
    def _differs(self) -> Seat:
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("several samples at temperature 0 are the same answer: set a temperature, or samples: 1")
        return self


class Router(_Strict):
    """Who is asked where the panel disagrees."""

    seat: Seat
    spread: float = Field(1.0, ge=0, description="asked where scores span at least so much")
    topics: bool = Field(True, description="asked where topics differ")
    failures: bool = Field(True, description="asked where a vote is not ok")


class Panel(_Strict):
    """Annotators of the same documents."""

    annotators: list[Seat] = Field(min_length=1)
    router: Router | None = None
    aggregate: Literal["median", "majority", "dawid-skene"] = "median"

    @model_validator(mode="after")
    def _names(self) -> Panel:
        names = [seat.name for seat in self.annotators] + ([self.router.seat.name] if self.router else [])
        if len(set(names)) != len(names):
            raise ValueError("two annotators have the same name")
        return self


def load_panel(path: Path) -> Panel:
    """Load a panel recipe.

    Raises:
        FineeduError: no such file, not YAML, an unknown key or a bad value; names file and key.
    """
    try:
        return Panel.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise FineeduError(f"cannot read the panel {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FineeduError(f"{path}: not valid YAML") from error
    except ValidationError as error:
        first = error.errors()[0]
        told = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
        raise FineeduError(f"{path}: {'.'.join(map(str, first['loc']))}: {told}") from error


def disputed(votes: pl.DataFrame, router: Router) -> frozenset[str]:
    """Return the ids of documents on which a panel disagrees, as a router sees it.

    Args:
        votes: all votes of the panel.
        router: what counts as disagreement.
    """
    ok = pl.col("state") == "ok"
    score = pl.col("score").filter(ok)
    grounds = [(score.max() - score.min()).fill_null(0.0) >= router.spread]
    if router.topics:
        grounds.append(pl.col("topic").filter(ok).drop_nulls().n_unique() > 1)
    if router.failures:
        grounds.append(~ok.all())
    found = votes.group_by("id").agg(pl.any_horizontal(grounds).alias("disputed"))
    return frozenset(found.filter("disputed")["id"])


@dataclass(frozen=True, slots=True)
class PanelResult:
    """What a panel came to."""

    votes: Path
    labels: Path
    #: annotator to what it did
    results: dict[str, AnnotateResult]
    #: documents that the router's annotator was asked about; None without a router
    disputed: int | None
    documents: int


def _job_of(seat: Seat, job: AnnotateJob, limits: Limits, only: frozenset[str] | None) -> AnnotateJob:
    """Return the panel's job as one of its annotators does it, with a label file of its own."""
    rubric = job.annotator.rubric
    if seat.temperature is not None:
        sampling = rubric.sampling.model_copy(update={"temperature": seat.temperature})
        rubric = rubric.model_copy(update={"sampling": sampling})
    annotator = Annotator(seat.name, seat.engine.kind, rubric, seat.samples)
    output = job.output.with_name(f"{job.output.stem}.{seat.name}.parquet")
    return replace(job, annotator=annotator, engine=seat.engine, output=output, limits=limits, only=only)


def _less(limits: Limits, used: Tally) -> Limits:
    """Return what an annotator has left of the limits for the next one."""
    cost = None if limits.cost is None else max(limits.cost - used.cost, 0.0)
    tokens = None if limits.tokens is None else max(limits.tokens - used.prompt_tokens - used.completion_tokens, 0)
    return Limits(cost, tokens)


def run_panel(
    panel: Panel,
    job: AnnotateJob,
    watch: Callable[[AnnotateJob], AbstractContextManager[None]] = lambda _: nullcontext(),
    **how: Any,
) -> PanelResult:
    """Ask every annotator of a panel, then the router's where they disagree, and aggregate.

    Args:
        panel: who.
        job: documents, rubric, output (all votes) and limits (of the whole panel); its annotator and engine are
            replaced by the panel's.
        watch: as for :func:`fineedu.annotate.run.run_annotation`.
        how: tasks, workers and executor, likewise.

    Raises:
        FineeduError: as there.
    """
    from fineedu.annotate.aggregate import aggregate, as_labels

    seats = [*panel.annotators, *([panel.router.seat] if panel.router else [])]
    for seat in seats:
        seat.engine.check()
    results: dict[str, AnnotateResult] = {}
    left = job.limits

    def ask(seat: Seat, only: frozenset[str] | None) -> None:
        nonlocal left
        results[seat.name] = run_annotation(_job_of(seat, job, left, only), watch=watch, **how)
        left = _less(left, results[seat.name].tally)

    for seat in panel.annotators:
        ask(seat, None)
    votes = read_labels([result.output for result in results.values()])
    asked = None
    if panel.router is not None:
        asked = disputed(votes, panel.router)
        ask(panel.router.seat, asked)
        votes = read_labels([result.output for result in results.values()])
    facts: dict[str, object] = {"panel": panel.model_dump(mode="json"), "rubric_hash": job.annotator.rubric.hash}
    write_labels(job.output, votes, facts)
    for result in results.values():
        result.output.unlink()
    labels = job.output.with_name(f"{job.output.stem}.labels.parquet")
    final = as_labels(aggregate(votes, panel.aggregate), votes, panel.aggregate)
    write_labels(labels, final, facts | {"aggregate": panel.aggregate})
    return PanelResult(job.output, labels, results, len(asked) if asked is not None else None, votes["id"].n_unique())
