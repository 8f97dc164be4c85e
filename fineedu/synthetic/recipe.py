"""What ``fineedu synthetic`` does, as YAML checked before anything runs."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fineedu.assets import asset_dir
from fineedu.errors import FineeduError
from fineedu.settings import located, override, read_settings
from fineedu.store import fingerprint

#: beginning of public access to ChatGPT
CHATGPT = datetime.date(2022, 11, 30)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputConfig(_Strict):
    """Documents: a store with its signals, parquet, or JSON lines; and which of their columns say what."""

    path: str = Field(description="store, parquet file, folder or glob, or .jsonl, .jsonl.gz, .jsonl.zst")
    text: str = Field("text", description="column of the text")
    period: Literal["dump", "year", "half", "quarter", "month"] = Field(
        "dump", description="what is compared: dumps, or periods of the date"
    )
    date: str = Field("date", description="column of the date, a time or text that begins YYYY-MM-DD")
    cluster: list[str] = Field(
        default_factory=lambda: ["registered_domain", "url", "host"],
        min_length=1,
        description="columns of what makes documents alike: of a document, the first with a value; an address "
        "counts as its registered domain",
    )
    groups: int | None = Field(
        None,
        ge=100,
        description="for whole dumps: domains are put into so many groups, by hash, and a group counts as one domain. "
        "Counts and memory then do not grow with the number of domains; warnings name groups, not hosts",
    )
    where: str | None = Field(None, description="SQL over columns: documents that count")
    since: datetime.date | None = Field(None, description="earlier documents do not count")

    @property
    def dump_or_date(self) -> str:
        """Column that places a document in time."""
        return "dump" if self.period == "dump" else self.date


class CounterfactualConfig(_Strict):
    """The trend before the cut-off, carried on."""

    model: Literal["poisson", "negative-binomial"] = Field(
        "poisson", description="poisson: with Pearson dispersion; negative-binomial: variance grows with the square"
    )
    slope: bool = Field(True, description="false: the rate before is constant")
    placebo: int = Field(4, ge=0, le=50, description="placebo cut-offs before the real one")
    fdr: float = Field(0.05, gt=0, lt=1, description="false-discovery rate over phrases (Benjamini-Hochberg)")


class PowerConfig(_Strict):
    """When a phrase is too rare to conclude from."""

    rise: float = Field(3.0, gt=1, description="rise that must be visible; FineWeb saw its proxies about triple")
    power: float = Field(0.8, gt=0.5, lt=1, description="with this probability")


class ExcessConfig(_Strict):
    """Words whose share of documents jumped (Kobak et al. 2025)."""

    minimum: float = Field(1e-4, gt=0, lt=1, description="share of documents that a word must be in")
    documents: int = Field(10, ge=1, description="and so many documents at least")
    content: list[str] = Field(["content"], description="lexicons of content words; other excess words are style")
    style: list[str] = Field(["style", "common-ten"], description="lexicons of style words")


class MixtureConfig(_Strict):
    """Share of machine-written text from two reference corpora (Liang et al. 2024)."""

    machine: str = Field(description="machine-written texts: parquet or JSON lines")
    human: str | None = Field(None, description="human texts; default: documents before the cut-off")
    unit: Literal["sentence", "document"] = Field("sentence", description="what is told apart")
    words: int = Field(2000, ge=10, le=100_000, description="vocabulary: the commonest words of both corpora")
    bins: int = Field(20, ge=4, le=200, description="bins of the log-likelihood ratio")


class DetectorConfig(_Strict):
    """A classifier's flag, corrected for its errors (Rogan and Gladen 1978)."""

    flag: str = Field(description="SQL over columns, e.g. detector_score > 0.9")
    true_positives: int = Field(ge=0, description="machine-written texts of a validation set that it flagged")
    machine_texts: int = Field(ge=1, description="of so many")
    false_positives: int = Field(ge=0, description="human texts of a validation set that it flagged")
    human_texts: int = Field(ge=1, description="of so many")

    @model_validator(mode="after")
    def _possible(self) -> DetectorConfig:
        if self.true_positives > self.machine_texts or self.false_positives > self.human_texts:
            raise ValueError("more texts flagged than there are")
        if self.true_positives * self.human_texts <= self.false_positives * self.machine_texts:
            raise ValueError("a detector that flags human texts as often as machine-written ones tells nothing")
        return self


class SyntheticRecipe(_Strict):
    """An analysis of prevalence over dumps or periods."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,60}$")]
    description: str = ""
    input: InputConfig
    lexicons: list[str] = Field(["fineweb-proxy", "control"], min_length=1, description="shipped names, or .yaml files")
    headline: str | None = Field(None, description="lexicon of the headline; default: the first")
    cutoff: datetime.date = CHATGPT
    within: str | None = Field(
        None, description="one of by: trends are fitted within its values and the mix is held fixed over it"
    )
    by: dict[str, str] = Field(default_factory=dict, description="name: SQL over columns, e.g. language: language")
    counterfactual: CounterfactualConfig = CounterfactualConfig()
    power: PowerConfig = PowerConfig()
    excess: ExcessConfig | None = None
    mixture: MixtureConfig | None = None
    detector: DetectorConfig | None = None
    resamples: int = Field(500, ge=100, le=20_000, description="of the bootstrap over domains")
    seed: int = Field(0, ge=0, description="of the bootstrap")

    @model_validator(mode="after")
    def _fit_together(self) -> SyntheticRecipe:
        if self.within is not None and self.within not in self.by:
            raise ValueError(f"within: {self.within} is none of by ({', '.join(self.by) or 'which is empty'})")
        reserved = {"period", "cluster", "length", "documents", "words", "phrase", "hits", "text"} & set(self.by)
        if reserved:
            raise ValueError(f"by: {sorted(reserved)[0]} is taken; choose another name")
        return self

    @property
    def hash(self) -> str:
        """16 hex digits over everything in the recipe but its description."""
        return fingerprint(self.model_dump(mode="json", exclude={"description"}))


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that ship with the package, by name."""
    return {path.stem: path for path in sorted((asset_dir("pipelines") / "synthetic").glob("*.yaml"))}


def load_recipe(recipe: str | Path, overrides: list[str] | None = None) -> tuple[SyntheticRecipe, Path]:
    """Load a shipped recipe by name or any by path, apply overrides, and check it.

    Args:
        recipe: a name, or the path of a YAML file.
        overrides: ``key.key=value`` strings.

    Returns:
        The recipe and the path of its file; relative paths in it are looked for beside it first.

    Raises:
        FineeduError: no such recipe, not YAML, an unknown key or a bad value; names file, line and key.
    """
    path = Path(recipe)
    if path.suffix not in (".yaml", ".yml"):
        shipped = shipped_recipes()
        if str(recipe) not in shipped:
            raise FineeduError(
                f"no recipe {str(recipe)!r}: shipped are {', '.join(shipped)}; or give the path of a .yaml file"
            )
        path = shipped[str(recipe)]
    raw, node = read_settings(path, "recipe")
    for setting in overrides or []:
        override(raw, setting)
    try:
        return SyntheticRecipe.model_validate(raw), path
    except ValidationError as error:
        first = error.errors()[0]
        message = {"extra_forbidden": "unknown key", "missing": "is needed"}.get(first["type"], first["msg"])
        raise located(path, node, first["loc"], message.removeprefix("Value error, ")) from error
