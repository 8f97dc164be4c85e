"""Recipes: what a run does, as YAML checked before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fineedu.assets import asset_dir
from fineedu.download import download_recipe, is_url
from fineedu.errors import FineeduError
from fineedu.settings import located, override, read_settings
from fineedu.store import fingerprint


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CascadeConfig(_Strict):
    """Which pages of ``backend: cascade`` trafilatura reads: those whose resiliparse text may reach the corpus."""

    model: str = Field("edu-fasttext", description="bundle that scores resiliparse's text")
    low: float = Field(1.4, description="score from which on a page is worth trafilatura's time")
    languages: list[str] = Field(default_factory=lambda: ["en"], description="wanted languages; empty: all")
    sure: float = Field(0.65, ge=0, le=1, description="below this probability another language is not believed")


class ExtractConfig(_Strict):
    """How archives become documents."""

    backend: Literal["trafilatura", "resiliparse", "cascade"] = Field(
        "trafilatura",
        description="trafilatura: precise; resiliparse: about ten times faster, less precise; cascade: resiliparse, "
        "and trafilatura where the text scores well enough",
    )
    mode: Literal["fast", "standard", "precision", "recall"] = Field("fast", description="trafilatura's setting")
    page_cpu_seconds: float = Field(20.0, gt=0, le=600, description="CPU time a page may take")
    page_memory_mb: int = Field(768, ge=128, description="memory a page may take, MB")
    page_mb: float = Field(8.0, gt=0, le=256, description="a longer page is cut there, MB")
    split_mb: int = Field(256, ge=0, description="compressed MB of an archive that make one shard; 0: whole archives")
    cascade: CascadeConfig = CascadeConfig()


class TopConfig(_Strict):
    """The best share of the documents, of all or of each group."""

    share: float = Field(gt=0, le=1, description="share to keep, of the unit")
    per: list[str] = Field(default_factory=list, description="columns that make groups, e.g. language, host, topic")


class SampleConfig(_Strict):
    """Sampling by score without replacement: chances in proportion to exp(score / temperature)."""

    temperature: float = Field(gt=0, description="near 0: the best; large: any")


class CurveConfig(_Strict):
    """An upsampling curve over the quality percentile, of OLMo 3's family: see :mod:`fineedu.select.curve`."""

    drop: float = Field(0.4, ge=0, lt=1, description="worst share of the pool, of the unit, that is dropped")
    highest: float = Field(7.0, gt=0, le=1000, description="mean repeats of the best bucket")
    mean: float = Field(1.0, gt=0, le=1000, description="repeats of the whole pool: size of the corpus over the pool's")
    growth: float = Field(0.0, ge=0, le=50, description="exponent beside the power; 0: a power alone")

    @model_validator(mode="after")
    def _possible(self) -> CurveConfig:
        if self.mean > self.highest:
            raise ValueError("the mean of a curve that rises is not above its highest value")
        return self


class UpsampleConfig(_Strict):
    """How often documents of a quality bucket are repeated; 0 drops them, 2.5 is twice or three times."""

    column: str = Field(description="bucket or level, e.g. nemotron_cc_bucket")
    repeats: dict[str, float] = Field(
        default_factory=dict, description="value of the column: repeats; others are dropped"
    )
    curve: CurveConfig | None = Field(None, description="instead of repeats: a curve fitted to the pool's buckets")

    @field_validator("repeats", mode="before")
    @classmethod
    def _by_value(cls, repeats: Any) -> Any:
        if isinstance(repeats, list):
            repeats = dict(enumerate(repeats))
        return {str(value): number for value, number in repeats.items()} if isinstance(repeats, dict) else repeats

    @field_validator("repeats")
    @classmethod
    def _range(cls, repeats: dict[str, float]) -> dict[str, float]:
        if not all(0 <= number <= 1000 for number in repeats.values()):
            raise ValueError("repeats lie between 0 and 1000")
        return repeats

    @model_validator(mode="after")
    def _one_of_both(self) -> UpsampleConfig:
        if bool(self.repeats) == (self.curve is not None):
            raise ValueError("give repeats (by bucket) or a curve, one of the two")
        return self

    @property
    def highest(self) -> float:
        """Most repeats of any bucket."""
        return self.curve.highest if self.curve else max(self.repeats.values())


class MixtureConfig(_Strict):
    """Shares that the values of columns have in the corpus; several columns are raked to all their shares at once."""

    targets: dict[str, dict[str, float]] = Field(min_length=1, description="column: {value: share}; '*': all others")
    max_repeat: float = Field(1.0, ge=1, le=1000, description="how often a document of a scarce value may be repeated")

    @field_validator("targets")
    @classmethod
    def _shares(cls, targets: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
        for column, shares in targets.items():
            if min(shares.values(), default=-1) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
                raise ValueError(f"the shares of {column} are not negative and sum to 1, not {sum(shares.values()):g}")
        return targets


class CapConfig(_Strict):
    """At most so many documents of a group; a document without the column is not counted."""

    per: str = Field("host", description="column that makes groups")
    documents: int = Field(ge=1, description="documents of a group to keep: the best, or any where there is no score")


class VerifyConfig(_Strict):
    """Comparing every document that would go with the one that stays, shingle by shingle."""

    measure: Literal["jaccard", "containment"] = Field(
        "jaccard", description="jaccard: shared shingles over all of both; containment: over those of the one that goes"
    )
    at_least: float = Field(0.7, gt=0, le=1, description="a document less alike than this leaves the cluster")


class LinesConfig(_Strict):
    """Lines that stand in many documents; the outcome is the signals ``repeated_*``."""

    unit: Literal["line", "paragraph"] = Field("line", description="paragraph: between empty lines")
    documents: int = Field(6, ge=2, description="a line in so many documents of the scope is a repeated one")
    characters: int = Field(10, ge=1, description="shorter lines are never counted as repeated")


class SubstringsConfig(_Strict):
    """Runs of bytes that stand in the texts more than once; the outcome is the signals ``repeated_byte*``."""

    bytes: int = Field(200, ge=16, le=100_000, description="shorter runs do not count; 200 are about 50 tokens")


class DedupConfig(_Strict):
    """Which documents count as copies of one, and which of them stays; the outcome is the signals ``dup_*``."""

    by: list[Literal["minhash", "exact", "url"]] = Field(
        ["minhash", "exact"],
        min_length=1,
        description="minhash: alike; exact: same text but for case and space; url: same canonical address",
    )
    shingle: Literal["word", "character"] = Field("word", description="what n-grams are of; NeMo: character")
    n: int = Field(5, ge=1, le=100, description="words or characters of an n-gram; NeMo: 24")
    bands: int = Field(14, ge=1, le=1024, description="bands of a signature; NeMo: 20")
    rows: int = Field(8, ge=1, le=1024, description="hashes of a band; NeMo: 13")
    seed: int = Field(1, ge=0, description="of the hash functions")
    scope: Literal["dump", "language", "global"] = Field(
        "dump", description="what is compared: documents of one dump (FineWeb), of one language (FineWeb-2), all"
    )
    keep: Literal["best", "newest", "longest", "first"] = Field(
        "longest", description="who stays: highest score, latest date, most text, earliest date; by url alone: newest"
    )
    score: str = Field("edu_score", description="signal that keep: best goes by")
    lines: LinesConfig | None = Field(None, description="measure lines that many documents share")
    substrings: SubstringsConfig | None = Field(None, description="measure runs of bytes that stand in texts twice")
    verify: VerifyConfig | None = Field(None, description="compare texts before a document counts as a copy")
    index: str | None = Field(None, description="folder of an index that several stores share; default in the store")
    memory_mb: int = Field(4000, ge=100, description="resident memory of the process that clusters, MB")
    max_host_loss: float | None = Field(
        None, gt=0, le=1, description="stop before selection when a host would lose more than this share"
    )
    host_documents: int = Field(20, ge=1, description="hosts with fewer documents cannot stop a run")

    @model_validator(mode="before")
    @classmethod
    def _newest_of_an_address(cls, found: Any) -> Any:
        if isinstance(found, dict) and found.get("by") == ["url"]:
            return {"keep": "newest"} | found  # two captures of one page: the later one is the page
        return found


class SelectConfig(_Strict):
    """Which documents the corpus holds: rules first, then cap, top, mixture and budget, in this order."""

    rules: dict[str, str] = Field(
        default_factory=dict, description="name: SQL expression over signals that a kept document fulfils"
    )
    by: str | None = Field(None, description="score that ranks documents; without it their order is random")
    unit: Literal["tokens", "bytes", "documents"] = Field("bytes", description="what budget and shares are of")
    budget: float | None = Field(None, gt=0, description="units to keep at most, repeats counted")
    top: TopConfig | None = None
    sample: SampleConfig | None = None
    upsample: UpsampleConfig | None = None
    mixture: MixtureConfig | None = None
    cap: CapConfig | None = None
    seed: int = Field(0, ge=0, description="of every random choice, made by document id")

    @property
    def beyond_rules(self) -> bool:
        """Whether more than rules decides."""
        return any(part is not None for part in (self.budget, self.top, self.upsample, self.mixture, self.cap))

    @property
    def repeats(self) -> bool:
        """Whether a document may be in the corpus more than once."""
        often = self.upsample is not None and self.upsample.highest > 1
        return often or (self.mixture is not None and self.mixture.max_repeat > 1)

    @model_validator(mode="after")
    def _fit_together(self) -> SelectConfig:
        if self.sample is not None and self.by is None:
            raise ValueError("sample needs by: a score")
        if (self.sample or self.by) and not (self.budget or self.top or self.mixture or self.cap):
            raise ValueError("by and sample only rank: say how much to keep, with budget, top, mixture or cap")
        return self

    @field_validator("rules")
    @classmethod
    def _names(cls, rules: dict[str, str]) -> dict[str, str]:
        for name in rules:
            if not name.replace("_", "").replace("-", "").replace(".", "").isalnum():
                raise ValueError(f"rule name {name!r}: letters, digits, '.', '_' and '-' only")
        return rules


class WriteConfig(_Strict):
    """How the corpus is written."""

    format: Literal["parquet", "jsonl.zst"] = "parquet"
    columns: list[str] = Field(
        default_factory=lambda: ["id", "url", "dump", "date", "language", "title", "text"],
        min_length=1,
        description="columns of documents and signals, in order",
    )
    shard_mb: float = Field(256.0, gt=0, description="MB of text in a file of the corpus")


class ReportConfig(_Strict):
    """What the report shows."""

    samples: int = Field(5, ge=0, le=100, description="kept and dropped sample documents per reason")
    borderline: int = Field(12, ge=0, le=100, description="documents nearest to a bound")


EngineName = Literal["local", "ray", "slurm"]


class EngineConfig(_Strict):
    """Where tasks run, and what each is given there; the result depends on none of it."""

    name: EngineName = Field("local", description="local: this machine; ray, slurm: a cluster")
    cpus: int = Field(1, ge=1, description="processors of a task, on a cluster")
    memory_gb: float = Field(2.0, gt=0, description="memory of a task, GB, on a cluster")
    gpus: int = Field(0, ge=0, description="GPUs of a task, on a cluster")
    partition: str = Field("main", description="Slurm's partition")
    time: str = Field("24:00:00", description="Slurm's time limit of a task")
    qos: str | None = Field(None, description="Slurm's quality of service")
    sbatch: dict[str, str] = Field(default_factory=dict, description="further options of sbatch, e.g. account")


SignalEntry = str | dict[str, dict[str, Any]]


class Recipe(_Strict):
    """A filter pipeline: extract, signals, select, write, report."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,60}$")]
    description: str = ""
    extract: ExtractConfig = ExtractConfig()
    signals: list[SignalEntry] = Field(default_factory=list, description="signal families, in order, with settings")
    dedup: DedupConfig | None = Field(None, description="find copies, between signals and selection")
    select: SelectConfig = SelectConfig()
    write: WriteConfig = WriteConfig()
    report: ReportConfig = ReportConfig()
    # Left out of hash and manifest: two engines give the same bytes.
    engine: EngineConfig = Field(EngineConfig(), exclude=True, description="where tasks run; a name, or settings")

    @field_validator("engine", mode="before")
    @classmethod
    def _by_name(cls, engine: Any) -> Any:
        return {"name": engine} if isinstance(engine, str) else engine

    @property
    def hash(self) -> str:
        """16 hex digits over everything in the recipe but its description."""
        return fingerprint(self.model_dump(mode="json", exclude={"description"}))


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that ship with the package, by name."""
    return {path.stem: path for path in sorted((asset_dir("pipelines") / "recipes").glob("*.yaml"))}


def _find(recipe: str | Path) -> Path:
    if is_url(str(recipe)):
        return download_recipe(str(recipe))
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise FineeduError(f"no recipe file at {path}")
        return path
    shipped = shipped_recipes()
    if str(recipe) not in shipped:
        raise FineeduError(
            f"no recipe {str(recipe)!r}: shipped are {', '.join(shipped)}; or give the path of a .yaml file"
        )
    return shipped[str(recipe)]


class RecipeSource:
    """A parsed recipe with its origin, to name the file and line of what is wrong in it."""

    def __init__(self, recipe: Recipe, path: Path, node: yaml.Node | None) -> None:
        self.recipe = recipe
        self.path = path
        self._node = node

    def error(self, location: tuple[int | str, ...], message: str) -> FineeduError:
        """Return an error that names file, line and key."""
        return located(self.path, self._node, location, message)


def load_recipe(recipe: str | Path, overrides: list[str] | None = None) -> RecipeSource:
    """Load a shipped recipe by name or any by path, apply overrides, and check it.

    Args:
        recipe: ``edu``, ``fineweb``, ``minimal``, or the path of a YAML file.
        overrides: ``key.key=value`` strings.

    Raises:
        FineeduError: no such recipe, not YAML, an unknown key or a bad value; names file, line and key.
    """
    path = _find(recipe)
    raw, node = read_settings(path, "recipe")
    for setting in overrides or []:
        override(raw, setting)
    try:
        return RecipeSource(Recipe.model_validate(raw), path, node)
    except ValidationError as error:
        first = error.errors()[0]
        location = tuple(part for part in first["loc"])
        message = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
        if message == "unknown key":
            message += _suggest(location)
        raise located(path, node, location, message) from error


def _suggest(location: tuple[int | str, ...]) -> str:
    """List the keys that are known where an unknown one stands."""
    model: Any = Recipe
    for part in location[:-1]:
        found = model.model_fields.get(str(part)) if isinstance(model, type) and issubclass(model, BaseModel) else None
        model = found.annotation if found is not None else None
        model = next((part for part in get_args(model) if isinstance(part, type)), model)  # of "Block | None"
    if isinstance(model, type) and issubclass(model, BaseModel):
        return f"; known are {', '.join(model.model_fields)}"
    return ""
