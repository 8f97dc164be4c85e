"""Ablations as YAML: a base recipe, and a grid of what is changed in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fineedu.assets import asset_dir
from fineedu.errors import FineeduError
from fineedu.recipe import EngineConfig
from fineedu.settings import located, read_settings

#: What documents are compared by, and the columns that may tell it, the first that is there.
SHIFTS: dict[str, tuple[str, ...]] = {
    "topic": ("topic", "topic_label"),
    "format": ("format", "format_label"),
    "language": ("language",),
    "length": ("text_bytes",),
    "host": ("host", "registered_domain"),
}
Property = Literal["topic", "format", "language", "length", "host"]
Plain = str | int | float | bool | None
#: One value of an axis: what a key or a parameter takes, or several settings together.
Choice = Plain | list[Any] | dict[str, Any]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelConfig(_Strict):
    """Labels that precision and recall are measured against."""

    files: list[Path] = Field(min_length=1, description="label files, see fineedu annotate")
    annotator: str | None = Field(None, description="whose labels: a name, or a pattern for their mean")
    positive: int = Field(3, ge=1, le=5, description="a document with this rounded label or a higher one is wanted")
    sample: Path | None = Field(None, description="what fineedu sample wrote: stratum and weight of each document")


class Recommend(_Strict):
    """A rule that chooses one cell."""

    rule: Literal["most_tokens", "f_beta", "budget"] = Field(
        description="most_tokens: at precision or more; f_beta: the best; budget: most precise of at least tokens"
    )
    precision: float = Field(0.8, ge=0, le=1, description="of most_tokens")
    beta: float = Field(0.5, gt=0, description="of f_beta: below 1 precision counts more than recall")
    tokens: float = Field(0, ge=0, description="of budget: tokens that a cell keeps at least")

    @property
    def words(self) -> str:
        """The rule in words."""
        if self.rule == "most_tokens":
            return f"most tokens at a precision of {self.precision:g} or more"
        if self.rule == "f_beta":
            return f"best F-beta at beta = {self.beta:g}"
        return f"highest precision with {self.tokens:,.0f} tokens or more"


class Slider(_Strict):
    """A threshold that the page lets its reader move."""

    low: float
    high: float
    step: float = Field(gt=0)


class ModelConfig(_Strict):
    """Shape of the small language model (a Llama)."""

    vocabulary: int = Field(2048, ge=300, le=200_000, description="tokens of the BPE vocabulary trained on the pool")
    width: int = Field(128, ge=16, description="hidden size")
    layers: int = Field(4, ge=1)
    heads: int = Field(4, ge=1)
    context: int = Field(256, ge=16, le=32_768, description="tokens of a sequence")


class TrainConfig(_Strict):
    """The same small language model on the corpus of every cell."""

    tokens: int = Field(ge=1000, description="token budget of a cell; a smaller corpus is repeated")
    seeds: list[int] = Field(default_factory=lambda: [0, 1, 2], min_length=1, description="of weights and order")
    model: ModelConfig = ModelConfig()
    batch: int = Field(16, ge=1, description="sequences of a step")
    learning_rate: float = Field(1e-3, gt=0, description="highest; warm-up over 5 % of the steps, a cosine to 10 %")
    held_out: float = Field(0.05, ge=0, lt=0.5, description="share that no model sees: the text set 'held out'")
    texts: dict[str, Path] = Field(default_factory=dict, description="name: text set, .txt, .jsonl or .parquet")
    tasks: list[str] = Field(default_factory=list, description="tasks of lm-evaluation-harness")
    task_folder: Path | None = Field(None, description="folder of tasks of your own (YAML of the harness)")
    cells: list[str] | None = Field(None, description="cells to train; default all")
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("the same seed twice")
        return seeds


class AblationConfig(_Strict):
    """An ablation: which cells there are, and what is told of them."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,60}$")]
    description: str = ""
    base: str = Field(description="recipe that every cell starts from: a shipped name or a file")
    set: dict[str, Any] = Field(default_factory=dict, description="key.key: value, for all cells; {axis} is filled in")
    ensembles: list[dict[str, Any]] = Field(
        default_factory=list,
        description="ensembles over the store's scores, as in a recipe; percentiles: auto takes them from this store",
    )
    grid: dict[str, list[Choice] | dict[str, Choice] | Literal["each"]] = Field(
        default_factory=dict,
        description="axis: values, or name: value. An axis is a recipe's key, dumps, or a name for {name} in settings",
    )
    cells: dict[str, dict[str, Any]] = Field(default_factory=dict, description="more cells: name to settings")
    shifts: list[Property] = Field(["topic", "format", "language", "length", "host"], description="what is compared")
    copies: str | None = Field(None, description="column that copies share; default dup_cluster, else exact_key")
    bytes_per_token: float = Field(4.3, gt=0, description="where no column n_tokens is there: tokens are bytes by this")
    labels: LabelConfig | None = None
    recommend: list[Recommend] = Field(default_factory=lambda: [Recommend(rule="f_beta")])
    sliders: dict[str, Slider] = Field(default_factory=dict, description="column: range; default from the grid")
    samples: int = Field(3, ge=0, le=50, description="documents shown that a cell keeps and its neighbour drops")
    resamples: int = Field(1000, ge=100, le=100_000, description="of the bootstrap over labels")
    seed: int = Field(0, ge=0)
    train: TrainConfig | None = None
    engine: EngineConfig = Field(EngineConfig(), exclude=True, description="where models are trained; see recipes")

    @field_validator("engine", mode="before")
    @classmethod
    def _by_name(cls, engine: Any) -> Any:
        return {"name": engine} if isinstance(engine, str) else engine


def shipped_ablations() -> dict[str, Path]:
    """Return the ablations that ship with the package, by name."""
    return {path.stem: path for path in sorted((asset_dir("pipelines") / "ablations").glob("*.yaml"))}


def _find(ablation: str) -> Path:
    path = Path(ablation)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise FineeduError(f"no ablation file at {path}")
        return path
    shipped = shipped_ablations()
    if ablation not in shipped:
        raise FineeduError(
            f"no ablation {ablation!r}: shipped are {', '.join(shipped)}; or give the path of a .yaml file"
        )
    return shipped[ablation]


def _beside(raw: dict[str, Any], folder: Path) -> None:
    """Paths in an ablation that lie beside its file are taken from there."""

    def found(value: Any) -> Any:
        return str(folder / value) if isinstance(value, str) and (folder / value).is_file() else value

    labels = raw.get("labels")
    if isinstance(labels, dict):
        labels["sample"] = found(labels.get("sample"))
        if isinstance(labels.get("files"), list):
            labels["files"] = [found(value) for value in labels["files"]]
    texts = raw["train"].get("texts") if isinstance(raw.get("train"), dict) else None
    if isinstance(texts, dict):
        texts.update({name: found(value) for name, value in texts.items()})
    if str(raw.get("base", "")).endswith((".yaml", ".yml")):
        raw["base"] = found(raw["base"])


def load_ablation(ablation: str | Path, overrides: list[str] | None = None) -> AblationConfig:
    """Load a shipped ablation by name or any by path, apply overrides, and check it.

    Args:
        ablation: e.g. ``edu-thresholds``, or the path of a YAML file.
        overrides: ``key.key=value`` of the ablation itself, e.g. ``train.tokens=100000``.

    Raises:
        FineeduError: no such ablation, not YAML, an unknown key or a bad value.
    """
    path = _find(str(ablation))
    raw, node = read_settings(path, "ablation")
    _beside(raw, path.parent)
    for setting in overrides or []:
        _override(raw, setting)
    try:
        return AblationConfig.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        what = {"extra_forbidden": "unknown key", "missing": "is needed"}.get(first["type"], first["msg"])
        if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            what += f"; known are {', '.join(AblationConfig.model_fields)}"
        raise located(path, node, first["loc"], what) from error


def _override(raw: dict[str, Any], setting: str) -> None:
    """Apply one ``key.key=value`` to an ablation; keys below ``set`` hold dots themselves."""
    key, sign, text = setting.partition("=")
    parts = key.strip().split(".", 1) if key.startswith("set.") else key.strip().split(".")
    if not sign or not all(parts):
        raise FineeduError(f"--set {setting}: expected key=value, e.g. --set samples=5")
    node = raw
    for part in parts[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise FineeduError(f"--set {setting}: {part!r} holds no settings")
    try:
        node[parts[-1]] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FineeduError(f"--set {setting}: the value is not valid YAML") from error
