"""What the figures of a phrase allow to be said, by rule."""

from __future__ import annotations

from typing import Literal

from fineedu.synthetic.counterfactual import Excess

Verdict = Literal["rose", "fell", "no change shown", "too rare to conclude from", "no baseline", "too few periods"]
#: hits after the cut-off below which one document or two decide
FEW_HITS = 20.0


def judge(found: Excess, q: float, *, fdr: float, rise: float) -> Verdict:
    """Return what may be said of a phrase.

    A phrase is too rare when a rise by ``rise`` would not have been seen with the power asked for, or when fewer than
    ``FEW_HITS`` hits were expected or seen after the cut-off and the ends of the ratio's interval lie further apart
    than ``rise``: then neither a change nor its absence follows, whatever the p-value.

    Args:
        found: counts against their counterfactual.
        q: p-value adjusted for the number of phrases.
        fdr: false-discovery rate.
        rise: that must be visible.
    """
    if found.state == "no_baseline":
        return "no baseline" if found.hits_after >= FEW_HITS else "too rare to conclude from"
    if found.state == "too_short":
        return "too few periods"
    _, low, high = found.pooled
    few = max(found.hits_after, found.expected_after) < FEW_HITS
    wide = low <= 0 or high / low > rise
    if found.detectable > rise or (few and wide):
        return "too rare to conclude from"
    if q <= fdr:
        return "rose" if found.pooled[0] > 1 else "fell"
    return "no change shown"
