"""What a selection beyond rules did, for the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fineedu.recipe import SelectConfig
from fineedu.report.display import count, megabytes, share, value


def beyond_rules(
    config: SelectConfig, selection: Mapping[str, Any], counts: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return what the template shows of cap, top, upsampling, mixture and budget; None where there is none of them.

    Args:
        config: the recipe's selection.
        selection: what it found in the whole pool, from the manifest.
        counts: the manifest's counts.
    """
    if not config.beyond_rules:
        return None
    reasons = counts["reasons"]
    return {
        "order": _order(config),
        "steps": [
            (name, told, sum(reasons.get(f"select.{name}{more}", 0) for more in ("", ":missing", ":not_wanted")))
            for name, told in _steps(config, selection)
        ],
        "amounts": list(_amounts(selection)),
        "copies": counts["copies"],
        "curve": selection.get("curve") or _fixed(config),
        "mixture": selection.get("mixture", []),
        "not_reached": selection.get("budget_not_reached"),
    }


def _order(config: SelectConfig) -> str:
    if config.by is None:
        return f"No score ranks the documents: which are taken is random by document id (seed {config.seed})."
    if config.sample is None:
        return f"Documents are ranked by {config.by}, equal scores by document id."
    return (
        f"Documents are drawn by {config.by} without replacement, chances as exp(score / "
        f"{config.sample.temperature:g}), by document id and seed {config.seed}."
    )


def _amount(number: float, unit: str | None) -> str:
    whole = round(number)
    return megabytes(whole) if unit == "bytes" else f"{count(whole)} {unit}"


def _steps(config: SelectConfig, selection: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the parts of the selection in the order in which they judge."""
    if config.by is not None:
        yield "by", f"{config.by} must be there"
    if config.upsample is not None:
        curve = config.upsample.curve
        told = f"repeats by {config.upsample.column}"
        if curve is not None:
            told += (
                f", a curve: nothing of the worst {curve.drop:.0%}, the best bucket {curve.highest:g} times, "
                f"the whole pool {curve.mean:g} times on average"
            )
        yield "upsample", told
    if config.cap is not None:
        hit = selection.get("capped")
        told = f"{count(config.cap.documents)} documents of a {config.cap.per} at most"
        yield "cap", told + (f"; {count(hit)} had more" if hit is not None else "")
    if config.top is not None:
        groups = f" of each {' and '.join(config.top.per)}" if config.top.per else ""
        yield "top", f"best {100 * config.top.share:.3g} % of the {config.unit}{groups}"
    if config.mixture is not None:
        often = f", repeats up to {config.mixture.max_repeat:g}" if config.mixture.max_repeat > 1 else ""
        yield "mixture", f"shares of {' and '.join(config.mixture.targets)}{often}"
    if config.budget is not None:
        told = f"{_amount(config.budget, config.unit)} at most, repeats counted"
        yield "budget", told + ("; the size of the mixture" if config.mixture is not None else "")


def _amounts(selection: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if "available" in selection:
        unit = selection["unit"]
        yield "to choose from, repeats counted", _amount(selection["available"], unit)
        chosen = _amount(selection["selected"], unit)
        yield "chosen", f"{chosen} ({share(selection['selected'], selection['available'])})"
    if selection.get("rounded_bits"):
        yield (
            "scores rounded",
            f"by {selection['rounded_bits']} bits: cuts are off by {value(selection['heaviest_cell'])}",
        )


def _fixed(config: SelectConfig) -> list[dict[str, Any]]:
    """Return the repeats that the recipe names, as a curve tells its own; the pool's shares are not known."""
    repeats = config.upsample.repeats if config.upsample else {}
    return [{"bucket": bucket, "share": None, "repeat": each} for bucket, each in repeats.items()]
