"""Text preparation as data: the one implementation that training and scoring share.

The same published fastText model is fed four different newline treatments by four public tools, one of which glues the
last word of a line to the first of the next. So the steps travel with the weights, and are checked with golden scores.
"""

from __future__ import annotations

from typing import Any, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

Step = Literal["lowercase", "separate_punctuation", "digits_to_zero", "one_space", "strip", "join_lines"]


class TextPreparation(BaseModel):
    """How a document becomes one line of tokens.

    ``max_chars`` cuts first; then the steps in their order. ``one_space`` turns every run of whitespace, line ends
    included, into one space: a newline would end fastText's input. ``strip`` takes whitespace off both ends, and
    ``join_lines`` puts a space between lines as Python's ``str.splitlines`` sees them, both as DCLM does.
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


#: what ``str.splitlines`` ends a line at; a carriage return with a line feed is one end
_LINE_ENDS = r"\r\n|[\n\r\x0b\x0c\x1c\x1d\x1e\x{85}\x{2028}\x{2029}]"

#: what ``str.strip`` takes off: Unicode's whitespace and four separators more
_BLANKS = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())

_STEPS: dict[Step, Any] = {
    "lowercase": lambda texts: texts.str.to_lowercase(),
    "separate_punctuation": lambda texts: texts.str.replace_all(r"([.!?,;:()\[\]{}<>\"'`“”‘’/\\|*#•…–—-])", " $1 "),
    "digits_to_zero": lambda texts: texts.str.replace_all(r"\d", "0"),
    "strip": lambda texts: texts.str.strip_chars(_BLANKS),
    "join_lines": lambda texts: texts.str.replace_all(_LINE_ENDS, " "),
    "one_space": lambda texts: texts.str.replace_all(r"\s+", " ").str.strip_chars(),
}
