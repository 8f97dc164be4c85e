"""Rubrics: what an annotator is asked, as files in ``annotate/rubrics`` that anybody may edit or add to."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fineedu.assets import asset_dir
from fineedu.errors import FineeduError
from fineedu.store import fingerprint


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Scale(_Strict):
    """Whole numbers from ``min`` to ``max``."""

    min: int = Field(0, ge=0)
    max: int = Field(5, le=9, description="one digit, so that its probability can be read off one token")

    @model_validator(mode="after")
    def _rises(self) -> Scale:
        if self.min >= self.max:
            raise ValueError("min must be below max")
        return self

    @property
    def values(self) -> range:
        """Every score there is."""
        return range(self.min, self.max + 1)


class Topic(_Strict):
    """One topic of a taxonomy."""

    slug: str
    title: str
    about: str


class Sampling(_Strict):
    """How answers are drawn."""

    temperature: float = Field(0.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(300, ge=4)
    seed: int = 1


class Window(_Strict):
    """What of a long document is shown: its beginning, a seeded place in its middle, and its end."""

    chars: int = Field(6000, ge=200, description="characters shown; a document of no more is shown whole")
    middle: float = Field(0.25, ge=0, lt=1, description="share of them from the middle")
    end: float = Field(0.25, ge=0, lt=1, description="share of them from the end")

    @model_validator(mode="after")
    def _leaves_a_beginning(self) -> Window:
        if self.middle + self.end >= 1:
            raise ValueError("middle and end leave nothing of the beginning")
        return self


class Rubric(_Strict):
    """One question to annotators, and the shape of its answer.

    An answer is a JSON object: ``justification`` first, where one is asked for, so that the score follows from it; then
    ``score``, then ``topic``. Where ``abstain`` is allowed, ``null`` says that the extract does not let one tell.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,60}$")]
    version: int = Field(1, ge=1)
    description: str = ""
    instructions: str = Field(min_length=1)
    scale: Scale | None = None
    topics: tuple[Topic, ...] = ()
    justification_chars: int = Field(0, ge=0, le=4000, description="0: none is asked for")
    abstain: bool = True
    sampling: Sampling = Sampling()
    window: Window = Window()

    @model_validator(mode="after")
    def _asks_something(self) -> Rubric:
        if self.scale is None and not self.topics:
            raise ValueError("a rubric asks for a score (scale:), a topic (topics:) or both")
        return self

    @cached_property
    def hash(self) -> str:
        """16 hex digits over everything that an answer depends on."""
        return fingerprint(self.model_dump(mode="json", exclude={"description"}))

    @cached_property
    def schema_of_answer(self) -> dict[str, Any]:
        """JSON schema of an answer, its properties in the order in which they are given."""
        nothing: list[Any] = [None] if self.abstain else []
        properties: dict[str, Any] = {}
        if self.justification_chars:
            # Not a pattern: xgrammar 0.2.8 fails on one that repeats a class up to 200 times.
            properties["justification"] = {"type": "string", "minLength": 1, "maxLength": self.justification_chars}
        if self.scale is not None:
            properties["score"] = {"enum": [*self.scale.values, *nothing]}
        if self.topics:
            properties["topic"] = {"enum": [*(topic.slug for topic in self.topics), *nothing]}
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }


def rubric_folder() -> Path:
    """Return the folder of the rubrics that ship with the package."""
    return asset_dir("annotate") / "rubrics"


def shipped_rubrics() -> dict[str, Path]:
    """Return the rubrics that ship with the package, by name."""
    return {path.stem: path for path in sorted(rubric_folder().glob("*.yaml"))}


def _find(rubric: str | Path) -> Path:
    path = Path(rubric)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise FineeduError(f"no rubric file at {path}")
        return path
    shipped = shipped_rubrics()
    if str(rubric) not in shipped:
        raise FineeduError(f"no rubric {str(rubric)!r}: shipped are {', '.join(shipped)}; or give a .yaml file")
    return shipped[str(rubric)]


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise FineeduError(f"cannot read the rubric {path}: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise FineeduError(f"{path}{f':{mark.line + 1}' if mark else ''}: not valid YAML") from error
    if not isinstance(raw, dict):
        raise FineeduError(f"{path}: a rubric is a mapping of settings, this is {type(raw).__name__}")
    return raw


def _topics(path: Path, name: Any) -> list[dict[str, str]]:
    """Read a taxonomy: beside the rubric, or in the folder above it."""
    for folder in (path.parent, path.parent.parent):
        taxonomy = folder / str(name)
        if taxonomy.is_file():
            return [{"slug": slug, **told} for slug, told in _read(taxonomy).items()]
    raise FineeduError(f"{path}: topics: no file {name!r} beside it or in the folder above")


def load_rubric(rubric: str | Path) -> Rubric:
    """Load a shipped rubric by name or any by path.

    ``topics`` names a taxonomy file; ``include`` puts the instructions of other rubrics in front of its own.

    Args:
        rubric: ``edu``, ``topic``, ``edu-topic``, ``quality``, or the path of a YAML file.

    Raises:
        FineeduError: no such rubric, not YAML, an unknown key or a bad value; names file and key.
    """
    path = _find(rubric)
    raw = _read(path)
    included = raw.pop("include", [])
    if not isinstance(included, list):
        raise FineeduError(f"{path}: include: expected a list of rubric names")
    parts = [load_rubric(part).instructions.rstrip() for part in included]
    raw["instructions"] = "\n\n".join([*parts, str(raw.get("instructions", "")).rstrip()]).strip()
    raw.setdefault("name", path.stem)
    if raw.get("topics") is not None and not isinstance(raw["topics"], list):
        raw["topics"] = _topics(path, raw["topics"])
    try:
        return Rubric.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        told = "unknown key" if first["type"] == "extra_forbidden" else first["msg"]
        raise FineeduError(f"{path}: {f'{key}: ' if key else ''}{told}") from error
