"""Periods: dumps and spans of time, and where they lie from the cut-off."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

from fineedu.errors import FineeduError

_DUMP = re.compile(r"CC-MAIN-(\d{4})-(\d{2})$")


class Period(NamedTuple):
    """A dump or a span of time.

    Attributes:
        name: ``CC-MAIN-2024-10``, ``2024``, ``2024-H1``, ``2024-Q1`` or ``2024-03``.
        middle: where it lies in time.
        start: its first day; of a dump its Monday.
    """

    name: str
    middle: date
    start: date


def parse_period(name: str) -> Period:
    """Return where a period lies in time.

    Raises:
        FineeduError: the name is neither a dump's nor a date's.
    """
    dump = _DUMP.match(name)
    try:
        if dump:
            monday = date.fromisocalendar(int(dump[1]), int(dump[2]), 1)
            return Period(name, monday + timedelta(days=5), monday)
        year, _, part = name.partition("-")
        step = 12 if not part else (6 if part[0] == "H" else 3 if part[0] == "Q" else 1)
        number = int(part.lstrip("HQ")) if part else 1
        start = date(int(year), (number - 1) * step + 1, 1)
        months = start.year * 12 + start.month - 1 + step
        return Period(name, start + (date(months // 12, months % 12 + 1, 1) - start) / 2, start)
    except ValueError as error:
        raise FineeduError(
            f"period {name!r} has no place in time: dumps are named like CC-MAIN-2024-10; else set input.period to "
            "year, half, quarter or month"
        ) from error


@dataclass(frozen=True, slots=True)
class Span:
    """The periods, in time.

    Attributes:
        names: in order.
        middles: where each lies.
        years: from the cut-off.
    """

    names: tuple[str, ...]
    middles: tuple[date, ...]
    years: tuple[float, ...]

    @property
    def before(self) -> tuple[str, ...]:
        """Periods whose middle lies before the cut-off."""
        return tuple(name for name, year in zip(self.names, self.years, strict=True) if year < 0)

    @property
    def after(self) -> tuple[str, ...]:
        """The others."""
        return self.names[len(self.before) :]


def make_span(periods: Sequence[str], cutoff: date) -> Span:
    """Sort periods by time.

    Raises:
        FineeduError: one has no place in time.
    """
    found = sorted((parse_period(name) for name in periods), key=lambda period: (period.middle, period.name))
    years = tuple((period.middle - cutoff).days / 365.25 for period in found)
    return Span(tuple(period.name for period in found), tuple(period.middle for period in found), years)
