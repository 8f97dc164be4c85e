"""Text preparation as data: the one implementation that training and scoring share.

The same published fastText model is fed four different newline treatments by four public tools, one of which glues the
last word of a line to the first of the next. So the steps travel with the weights, and are checked with golden scores.
"""

from __future__ import annotations

from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

Step = Literal["lowercase", "separate_punctuation", "digits_to_zero", "one_space"]


class TextPreparation(BaseModel):
    """How a document becomes one line of tokens.

    ``max_chars`` cuts first; then the steps in their order. ``one_space`` turns every run of whitespace, line ends
    included, into one space: a newline would end fastText's input.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_chars: int = Field(10_000, gt=0)
    steps: tuple[Step, ...] = ("lowercase", "separate_punctuation", "one_space")

    def apply(self, texts: pl.Series) -> pl.Series:
        """Prepare texts; null stays null."""
        prepared = texts.str.slice(0, self.max_chars)
        for step in self.steps:
            prepared = _STEPS[step](prepared)
        return prepared


_STEPS: dict[Step, Any] = {
    "lowercase": lambda texts: texts.str.to_lowercase(),
    "separate_punctuation": lambda texts: texts.str.replace_all(r"([.!?,;:()\[\]{}<>\"'`“”‘’/\\|*#•…–—-])", " $1 "),
    "digits_to_zero": lambda texts: texts.str.replace_all(r"\d", "0"),
    "one_space": lambda texts: texts.str.replace_all(r"\s+", " ").str.strip_chars(),
}
