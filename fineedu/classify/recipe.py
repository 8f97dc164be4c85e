"""Training recipes: ``models/<name>/train.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fineedu.classify.calibration import Method
from fineedu.classify.text import TextPreparation
from fineedu.errors import FineeduError


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LabelFiles(_Strict):
    """Which scores to learn from: ``target`` sets the scale, ``second`` is mapped to it on the overlap."""

    target: str
    second: str | None = None
    documents: str | None = Field(None, description="store with the texts, where the label files have none")
    expected: bool = Field(False, description="soft labels: the expected score where the annotator gave one")
    second_weight: float = Field(0.6, ge=0, description="of a document that only the second annotator has scored")


class TopicFile(_Strict):
    """Which topics to learn from: numbers in a column of a text file, named in a JSON file."""

    file: str
    column: str = "topic_id"
    names: str
    key: str = "topics"


class ContrastFiles(_Strict):
    """Texts to tell apart: what is wanted, and the web at large. Files of rows with a text, no scores."""

    positive: tuple[str, ...] = Field(min_length=1)
    negative: tuple[str, ...] = Field(min_length=1)
    text: str = "text"
    per_side: int = Field(200_000, ge=10)


class TeacherSettings(_Strict):
    """A strong, slow model that scores unlabelled text for the small one: shares of its parts, 0 leaves one out."""

    word: float = Field(0.3, ge=0, description="ridge on TF-IDF of words and word pairs")
    character: float = Field(0.25, ge=0, description="ridge on TF-IDF of 3 to 5 characters")
    embedding: float = Field(0.0, ge=0, description="an encoder bundle's head, fitted anew")
    encoder: str = Field("edu-minilm", description="bundle whose encoder embeds")
    copies: int = Field(3, ge=1, description="how often a labelled text is shown for each time a taught one is")


class TrainingRecipe(_Strict):
    """What ``train.yaml`` holds."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,60}$")
    family: Literal["fasttext", "encoder", "static"]
    labels: LabelFiles | None = None
    topics: TopicFile | None = None
    contrast: ContrastFiles | None = None
    unlabelled: str | None = Field(None, description="web text that the teacher scores, and that percentiles are of")
    unlabelled_limit: int | None = Field(None, gt=0, description="read so many of them, chosen by the seed")
    preparation: TextPreparation = TextPreparation()
    model: dict[str, Any] = Field(default_factory=dict, description="settings of the family")
    teacher: TeacherSettings | None = None
    calibration: Method = "quantile"
    folds: int = Field(5, ge=2)
    seed: int = 1

    @model_validator(mode="after")
    def _has_a_task(self) -> TrainingRecipe:
        if self.contrast and (self.labels or self.topics or self.family != "fasttext"):
            raise ValueError("contrast stands alone, without labels and topics, and needs family: fasttext")
        if not (self.labels or self.topics or self.contrast):
            raise ValueError("give labels (a score), topics, both, or a contrast")
        if self.labels and self.topics and self.topics.file != self.unlabelled:
            raise ValueError("topics beside labels are a column of the unlabelled text: name the same file")
        if self.teacher and not self.unlabelled:
            raise ValueError("a teacher needs unlabelled text")
        return self


def read_recipe(path: Path) -> TrainingRecipe:
    """Read a training recipe.

    Raises:
        FineeduError: missing, no YAML, or a setting that does not fit; names the place.
    """
    try:
        return TrainingRecipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise FineeduError(f"no training recipe at {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise FineeduError(f"{path} is not valid YAML: {str(error).splitlines()[0]}") from error
    except ValidationError as error:
        raise FineeduError(f"{path}: {describe_error(error)}") from error


def describe_error(error: ValidationError) -> str:
    """Return the first problem that pydantic found, with its place, in one line."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place + ': ' if place else ''}{first['msg'].removeprefix('Value error, ')}"
