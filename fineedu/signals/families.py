"""The signal families by name, as recipes write them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from inspect import signature
from typing import Any

from fineedu.errors import FineeduError
from fineedu.signals.base import SignalFamily
from fineedu.store import fingerprint

#: name in recipes to the class; imported when asked for, so that a family's libraries load only where it is used
FAMILIES = {
    "heuristics": "fineedu.signals.heuristics:HeuristicSignals",
    "url": "fineedu.signals.url:UrlSignals",
    "edu": "fineedu.signals.edu:EduSignals",
    "classifier": "fineedu.signals.classifier:ClassifierSignals",
    "topic": "fineedu.signals.classifier:TopicSignals",
    "labels": "fineedu.signals.labels:LabelSignals",
    "tokens": "fineedu.signals.tokens:TokenSignals",
    "phrases": "fineedu.signals.phrases:PhraseSignals",
    "exact": "fineedu.signals.exact:ExactSignals",
    "ensemble": "fineedu.ensemble.family:EnsembleSignals",
}


def _family(name: str) -> type[SignalFamily]:
    module, _, attribute = FAMILIES[name].partition(":")
    found: type[SignalFamily] = getattr(import_module(module), attribute)
    return found


def needs_settings(name: str) -> bool:
    """Tell whether a family stands for nothing by its name alone, as ``classifier`` without a model."""
    return any(p.default is p.empty for p in signature(_family(name)).parameters.values())


def make_family(name: str, settings: dict[str, Any]) -> SignalFamily:
    """Construct a family by its name.

    Raises:
        FineeduError: no such family, or settings that it does not take.
    """
    if name not in FAMILIES:
        raise FineeduError(f"no signal family {name!r}: known are {', '.join(FAMILIES)}")
    made = _family(name)
    try:
        return made(**settings)
    except TypeError as error:
        raise FineeduError(f"signal family {name!r}: {str(error).partition('__init__() ')[2] or error}") from error


def parse_entry(entry: str | dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """Return name and settings of a recipe's entry, ``edu`` or ``{edu: {model: ...}}``.

    Raises:
        FineeduError: a mapping with other than one name.
    """
    if isinstance(entry, str):
        return entry, {}
    if len(entry) != 1:
        raise FineeduError("expected one family name, or one name with its settings")
    ((name, settings),) = entry.items()
    return name, dict(settings or {})


def signal_columns(families: Sequence[SignalFamily]) -> dict[str, str]:
    """Return column name to family name.

    Raises:
        FineeduError: two families give the same column.
    """
    owners: dict[str, str] = {}
    for family in families:
        for column in family.schema:
            if column in owners:
                raise FineeduError(f"signal families {owners[column]!r} and {family.name!r} both give {column!r}")
            owners[column] = family.name
    return owners


def made_by(families: Sequence[SignalFamily]) -> dict[str, dict[str, Any]]:
    """Return family name to everything its values depend on, the making of the families it reads included."""
    owners = signal_columns(families)
    made: dict[str, dict[str, Any]] = {}
    for family in families:
        read = {owners[column] for column in family.inputs if column in owners} - {family.name}
        marks = {name: fingerprint(made[name]) for name in sorted(read) if name in made}
        made[family.name] = family.fingerprint | ({"reads": marks} if marks else {})
    return made
