"""The share of machine-written documents behind a classifier's flag rate (Rogan and Gladen 1978)."""

from __future__ import annotations

import numpy as np

from fineedu.synthetic.boundary import Array, Share, invert


def rogan_gladen(
    rate: float,
    rate_variance: float,
    *,
    true_positives: int,
    machine_texts: int,
    false_positives: int,
    human_texts: int,
) -> Share:
    """Correct a flag rate for the errors of what flags.

    The share is (rate - FPR) / (TPR - FPR); its interval turns the test of "flagged at a + (1 - a)" round, with the
    errors of all three rates, so it holds near 0 too.

    Args:
        rate: share of documents flagged.
        rate_variance: of it, with documents of one domain taken as alike.
        true_positives: machine-written validation texts that were flagged.
        machine_texts: of so many.
        false_positives: human validation texts that were flagged.
        human_texts: of so many.
    """
    tpr, fpr = true_positives / machine_texts, false_positives / human_texts
    # Half a text more on either side keeps the variance of a detector without a known error above zero.
    near = [(k + 0.5) / (n + 1) for k, n in ((true_positives, machine_texts), (false_positives, human_texts))]
    tpr_variance, fpr_variance = (p * (1 - p) / n for p, n in zip(near, (machine_texts, human_texts), strict=True))

    def test(share: Array) -> tuple[Array, Array]:
        error = np.sqrt(rate_variance + share**2 * tpr_variance + (1 - share) ** 2 * fpr_variance)
        return (rate - share * tpr - (1 - share) * fpr) / error, error / (tpr - fpr)

    return invert(test, (rate - fpr) / (tpr - fpr))
