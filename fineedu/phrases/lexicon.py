"""Lexicons: lists of phrases, with the forms that count as each and what kind of words they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fineedu.assets import asset_dir
from fineedu.errors import FineeduError
from fineedu.settings import located, read_settings

Kind = Literal["proxy", "style", "content", "control"]
#: name of the row that stands for "any phrase of the lexicon"
ANY = "*"


class Lexicon(BaseModel):
    """A lexicon as YAML, under ``pipelines/lexicons``; its name is the file's where it has none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,60}$")]
    prefix: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")]
    kind: Kind = "proxy"
    description: str = ""
    phrases: list[str] = Field(min_length=1, description="lower case, one space between words")
    forms: dict[str, list[str]] = Field(
        default_factory=dict, description="phrase: other forms that count as it, inflections for instance"
    )

    @field_validator("phrases", mode="before")
    @classmethod
    def _text(cls, phrases: Any) -> Any:
        wrong = [phrase for phrase in phrases if not isinstance(phrase, str)] if isinstance(phrases, list) else []
        if wrong:
            raise ValueError(f"{wrong[0]!r} is not text: put it in quotes")
        return phrases

    @field_validator("phrases")
    @classmethod
    def _plain(cls, phrases: list[str]) -> list[str]:
        plain = [plain_phrase(phrase) for phrase in phrases]
        twice = next((phrase for phrase in plain if plain.count(phrase) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} stands there twice")
        return plain

    @field_validator("forms")
    @classmethod
    def _plain_forms(cls, forms: dict[str, list[str]]) -> dict[str, list[str]]:
        return {plain_phrase(phrase): [plain_phrase(form) for form in others] for phrase, others in forms.items()}

    def spellings(self) -> list[tuple[int, str]]:
        """Return number of the phrase and form, the phrase itself first."""
        numbers = {phrase: number for number, phrase in enumerate(self.phrases)}
        own = [(number, phrase) for phrase, number in numbers.items()]
        return own + [(numbers[phrase], form) for phrase, forms in self.forms.items() for form in forms]


def plain_phrase(phrase: str) -> str:
    """Return a phrase as it is looked for: lower case, straight apostrophes, single spaces.

    Raises:
        ValueError: nothing is left, or it does not begin with a letter or digit.
    """
    plain = " ".join(phrase.lower().replace("’", "'").split())
    if not plain or not plain[0].isalnum():
        raise ValueError(f"{phrase!r}: a phrase begins with a letter or a digit")
    return plain


class LexiconSet(NamedTuple):
    """Several lexicons side by side: phrases numbered through.

    Attributes:
        lexicons: in the order given.
        names: lexicon of each phrase.
        phrases: all phrases.
        spellings: number of the phrase and form.
    """

    lexicons: tuple[Lexicon, ...]
    names: tuple[str, ...]
    phrases: tuple[str, ...]
    spellings: tuple[tuple[int, str], ...]


def lexicon_path(lexicon: str) -> Path:
    """Find a lexicon by name (``pipelines/lexicons/NAME.yaml``) or by path.

    Raises:
        FineeduError: there is no such file.
    """
    folder = asset_dir("pipelines") / "lexicons"
    path = Path(lexicon) if lexicon.endswith((".yaml", ".yml")) else folder / f"{lexicon}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml"))) or "none"
        raise FineeduError(f"no lexicon at {path}; give a path to a .yaml file or one of: {known}")
    return path


def read_lexicon(lexicon: str, folder: Path | None = None) -> Lexicon:
    """Read and check a lexicon.

    Args:
        lexicon: name of a shipped one, or a path that ends in ``.yaml``.
        folder: that a relative path is looked for in first.

    Raises:
        FineeduError: no such file, not YAML, an unknown key or a bad value; names file and line.
    """
    path = Path(lexicon)
    if folder is None or not lexicon.endswith((".yaml", ".yml")) or not (folder / path).is_file():
        path = lexicon_path(lexicon)
    else:
        path = folder / path
    raw, node = read_settings(path, "lexicon")
    try:
        found = Lexicon.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        message = {"extra_forbidden": "unknown key", "missing": "is needed"}.get(first["type"], first["msg"])
        raise located(path, node, first["loc"], message.removeprefix("Value error, ")) from error
    unknown = next((phrase for phrase in found.forms if phrase not in found.phrases), None)
    if unknown is not None:
        raise located(path, node, ("forms", unknown), "is none of the phrases")
    return found


def combine(lexicons: Sequence[Lexicon]) -> LexiconSet:
    """Number the phrases of several lexicons through.

    Raises:
        FineeduError: two lexicons of one name.
    """
    if len({lexicon.name for lexicon in lexicons}) < len(lexicons):
        raise FineeduError("two lexicons have the same name: give them different ones")
    names: list[str] = []
    phrases: list[str] = []
    spellings: list[tuple[int, str]] = []
    for lexicon in lexicons:
        spellings += [(len(phrases) + number, form) for number, form in lexicon.spellings()]
        names += [lexicon.name] * len(lexicon.phrases)
        phrases += lexicon.phrases
    return LexiconSet(tuple(lexicons), tuple(names), tuple(phrases), tuple(spellings))


def kinds(lexicons: LexiconSet) -> Mapping[str, Kind]:
    """Return lexicon name to kind."""
    return {lexicon.name: lexicon.kind for lexicon in lexicons.lexicons}
