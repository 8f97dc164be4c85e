"""Ensembles as YAML: which scores, combined how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from fineedu.assets import asset_dir
from fineedu.ensemble.percentiles import DriftPolicy
from fineedu.errors import FineeduError

#: what to do with a document that lacks some of the scores
Missing = Literal["require", "ignore"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,60}$")]
    description: str = ""

    @property
    def prefix(self) -> str:
        """Beginning of the names of the columns that the ensemble gives."""
        return self.name.replace("-", "_") + "_"


class _Calibrated(_Strict):
    percentiles: Path | None = Field(None, description="table of fineedu calibrate, for buckets")
    drift: DriftPolicy = DriftPolicy()
    missing: Missing = Field(
        "require", description="require: no result where a score is missing; ignore: combine those that are there"
    )


class BucketEnsemble(_Calibrated):
    """Each score to its percentile bucket, then the maximum, then a level: Nemotron-CC's."""

    method: Literal["max_bucket"]
    scores: list[str] = Field(min_length=1, description="score columns")
    percentiles: Path = Field(description="table of fineedu calibrate")
    levels: dict[str, int] = Field(description="name: lowest bucket of the level")

    @field_validator("levels")
    @classmethod
    def _levels(cls, levels: dict[str, int]) -> dict[str, int]:
        if 0 not in levels.values() or len(set(levels.values())) < len(levels) or min(levels.values()) < 0:
            raise ValueError("each level has a lowest bucket of its own, and one begins at 0")
        return levels


class MeanEnsemble(_Calibrated):
    """Mean of scores, plain or weighted, of their values or of their percentile buckets."""

    method: Literal["mean", "weighted"]
    scores: list[str] = Field(default_factory=list, description="score columns of a plain mean")
    weights: dict[str, float] = Field(default_factory=dict, description="score column: weight, of a weighted mean")
    scale: Literal["raw", "bucket"] = Field("raw", description="raw: values as they are; bucket: percentile buckets")

    @model_validator(mode="after")
    def _complete(self) -> MeanEnsemble:
        if self.method == "mean" and (not self.scores or self.weights):
            raise ValueError("a mean takes scores, and no weights")
        if self.method == "weighted" and (not self.weights or self.scores):
            raise ValueError("a weighted mean takes weights (score: weight), and no scores")
        if any(weight <= 0 for weight in self.weights.values()):
            raise ValueError("weights are above 0")
        if self.scale == "bucket" and self.percentiles is None:
            raise ValueError("scale: bucket needs percentiles")
        return self

    @property
    def by_score(self) -> dict[str, float]:
        """Weight of each score."""
        return self.weights or dict.fromkeys(self.scores, 1.0)


class VoteEnsemble(_Strict):
    """Conditions that each say yes or no, of which so many must hold."""

    method: Literal["vote", "and", "or"]
    conditions: dict[str, str] = Field(min_length=1, description="name: SQL over columns, e.g. edu_score > 2.5")
    at_least: int | None = Field(None, ge=1, description="conditions of a vote that must hold")

    @model_validator(mode="after")
    def _complete(self) -> VoteEnsemble:
        if (self.at_least is not None) != (self.method == "vote"):
            raise ValueError("a vote takes at_least; and takes all conditions, or takes one")
        if self.at_least is not None and self.at_least > len(self.conditions):
            raise ValueError(f"at_least {self.at_least} of {len(self.conditions)} conditions never holds")
        return self

    @property
    def needed(self) -> int:
        """Conditions that must hold."""
        return self.at_least or (len(self.conditions) if self.method == "and" else 1)


class StackEnsemble(_Strict):
    """A combination learned from labels (``fineedu ensemble stack``)."""

    method: Literal["stack"]
    model: Path = Field(description="file that fineedu ensemble stack wrote")


class CascadeEnsemble(_Strict):
    """A cheap score first, the dear one only where it can still change the decision (``fineedu ensemble cascade``)."""

    method: Literal["cascade"]
    bands: Path = Field(description="file that fineedu ensemble cascade wrote")
    dear: str = Field(description="bundle of the dear scorer: a shipped name or a folder")


Ensemble = Annotated[
    BucketEnsemble | MeanEnsemble | VoteEnsemble | StackEnsemble | CascadeEnsemble, Field(discriminator="method")
]
_ADAPTER: TypeAdapter[Ensemble] = TypeAdapter(Ensemble)


def shipped_ensembles() -> dict[str, Path]:
    """Return the ensembles that ship with the package, by name."""
    return {path.stem: path for path in sorted((asset_dir("pipelines") / "ensembles").glob("*.yaml"))}


def load_ensemble(use: str, settings: dict[str, Any]) -> Ensemble:
    """Load a shipped ensemble by name or any by path, with settings of its own over those of the file.

    Raises:
        FineeduError: no such ensemble, not YAML, an unknown key, a bad value or a missing one.
    """
    path = Path(use)
    if path.suffix not in (".yaml", ".yml"):
        shipped = shipped_ensembles()
        if use not in shipped:
            raise FineeduError(
                f"no ensemble {use!r}: shipped are {', '.join(shipped)}; or give the path of a .yaml file"
            )
        path = shipped[use]
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise FineeduError(f"cannot read the ensemble {path}: {error}") from error
    except yaml.YAMLError as error:
        raise FineeduError(f"{path} is not valid YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(raw, dict):
        raise FineeduError(f"{path}: an ensemble is a mapping of settings, this is {type(raw).__name__}")
    merged = {"name": path.stem} | raw | settings
    for key in ("percentiles", "model", "bands"):
        beside = path.parent / str(merged.get(key))
        if key in raw and key not in settings and beside.is_file():
            merged[key] = beside
    try:
        return _ADAPTER.validate_python(merged)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"][1:])
        what = {"extra_forbidden": "unknown key", "missing": "is needed"}.get(first["type"], first["msg"])
        raise FineeduError(f"ensemble {use}: {key + ': ' if key else ''}{what}") from error
