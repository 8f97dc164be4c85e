"""What the rates would have been: the trend before the cut-off, fitted and carried on.

A generalised linear model of counts (statsmodels), log E[hits] = log words + level of the stratum + slope * time, on
the periods before. Intervals hold the error of the fit and the scatter of counts around it, which is the larger of two:
the Pearson dispersion of whole periods around the trend, and the design effect of domains.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fineedu.errors import FineeduError

Array = npt.NDArray[np.float64]
#: draws of the fitted coefficients; a p-value averages exact tails over them
_DRAWS = 2000
#: hits before the cut-off that give a stratum a level of its own; strata with fewer share one
_OWN_LEVEL = 5.0


class Series(NamedTuple):
    """Hits and words by stratum and period.

    Attributes:
        hits: (strata, periods).
        words: (strata, periods).
        years: (periods,) time from the cut-off, in years.
        effect: design effect of domains, at least 1.
    """

    hits: Array
    words: Array
    years: Array
    effect: float = 1.0

    @property
    def before(self) -> npt.NDArray[np.bool_]:
        """Periods whose middle lies before the cut-off."""
        return self.years < 0

    def comparable(self) -> Series:
        """Return the strata that have words before and after, in the periods that have any."""
        keep = (self.words[:, self.before].sum(1) > 0) & (self.words[:, ~self.before].sum(1) > 0)
        return self._replace(hits=self.hits[keep], words=self.words[keep])


@dataclass(frozen=True, slots=True)
class Excess:
    """Counts against their counterfactual; arrays have one entry a period, before and after.

    Attributes:
        state: ``ok``; ``no_baseline`` where no hit lies before; ``too_short`` with too few periods.
        expected: hits had the trend gone on.
        low: lower end of its 95 % prediction interval.
        high: upper end.
        ratio: hits over expected.
        ratio_low: of its 95 % interval.
        ratio_high: upper end.
        excess: hits per million words beyond the expected.
        pooled: ratio of all periods after the cut-off together, with its ends.
        expected_after: hits expected in them.
        hits_after: hits in them.
        hits_before: hits before.
        p: two-sided p-value of the pooled ratio against 1.
        dispersion: variance over mean of a period's count.
        detectable: smallest pooled rise that would be found significant with the power asked for.
        slope: change a year, as a factor; NaN where none was fitted.
    """

    state: str
    expected: Array
    low: Array
    high: Array
    ratio: Array
    ratio_low: Array
    ratio_high: Array
    excess: Array
    pooled: tuple[float, float, float]
    expected_after: float
    hits_after: float
    hits_before: float
    p: float
    dispersion: float
    detectable: float
    slope: float


def _nothing(series: Series, state: str) -> Excess:
    empty = np.full(len(series.years), np.nan)
    before, after = (float(series.hits[:, part].sum()) for part in (series.before, ~series.before))
    return Excess(
        state, empty, empty, empty, empty, empty, empty, empty, (np.nan, np.nan, np.nan), np.nan, after, before, np.nan,
        np.nan, np.inf, np.nan,
    )  # fmt: skip


def _levels(series: Series) -> npt.NDArray[np.intp]:
    """Return which level each stratum has: those with few hits before share one."""
    hits = series.hits[:, series.before].sum(1)
    order = np.argsort(-hits, kind="stable")
    own = order[hits[order] >= _OWN_LEVEL]
    rest = order[hits[order] < _OWN_LEVEL]
    level = np.zeros(len(hits), np.intp)
    level[own] = np.arange(len(own))
    # A level without hits would be minus infinity: it joins the smallest one that has some.
    level[rest] = len(own) if hits[rest].sum() >= _OWN_LEVEL or not len(own) else len(own) - 1
    return level


class _Fit(NamedTuple):
    expected: Array
    gradient: Array
    covariance: Array
    slope: float


def _fit(series: Series, slope: bool, negative_binomial: bool) -> tuple[_Fit, float, int]:
    """Fit the model; return it with the dispersion (or NB's alpha) and its degrees of freedom."""
    import statsmodels.api as sm

    level = _levels(series)
    n_levels = int(level.max()) + 1
    strata, periods = series.hits.shape
    design = np.zeros((strata, periods, n_levels + slope))
    design[np.arange(strata), :, level] = 1
    if slope:
        design[:, :, -1] = series.years
    used = (series.words > 0) & series.before
    with np.errstate(divide="ignore"):
        offset = np.log(series.words)
    freedom = max(1, int((series.words[:, series.before].sum(0) > 0).sum()) - 1 - slope)
    alpha = 0.0

    def fitted(alpha: float) -> _Fit:
        family = sm.families.NegativeBinomial(alpha=alpha) if alpha > 0 else sm.families.Poisson()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = sm.GLM(series.hits[used], design[used], family=family, offset=offset[used]).fit()
        mean = np.where(series.words > 0, series.words * np.exp(design @ model.params), 0.0)
        total = np.maximum(mean.sum(0), 1e-300)
        gradient = np.einsum("sp,spk->pk", mean, design) / total[:, None]
        trend = float(np.exp(model.params[-1])) if slope else float("nan")
        return _Fit(mean.sum(0), gradient, np.asarray(model.cov_params()), trend)

    fit = fitted(0.0)
    observed = series.hits.sum(0)

    def pearson(fit: _Fit, alpha: float) -> float:
        there = series.before & (fit.expected > 0)
        variance = fit.expected[there] * (1 + alpha * fit.expected[there])
        return float(((observed[there] - fit.expected[there]) ** 2 / variance).sum() / freedom)

    if negative_binomial:
        # The moment estimator: alpha for which the Pearson statistic is what it should be.
        low, high = 0.0, 10.0
        if pearson(fit, 0.0) > 1:
            for _ in range(30):
                alpha = (low + high) / 2
                low, high = (alpha, high) if pearson(fit, alpha) > 1 else (low, alpha)
            fit = fitted(alpha)
        return fit, alpha, freedom
    return fit, max(1.0, pearson(fit, 0.0)), freedom


def counterfactual(
    series: Series,
    *,
    slope: bool = True,
    negative_binomial: bool = False,
    power: float = 0.8,
    seed: int = 0,
) -> Excess:
    """Compare counts after the cut-off with the trend before it.

    Args:
        series: hits and words; strata without words on both sides are left out.
        slope: fit a trend; else a constant rate.
        negative_binomial: variance E + alpha E²; else dispersion times E.
        power: of ``detectable``.
        seed: of the draws.

    Raises:
        FineeduError: statsmodels is not installed.
    """
    require_statsmodels()
    series = series.comparable()
    there = series.words.sum(0) > 0
    needed = 3 + slope
    if not series.hits.size or (there & series.before).sum() < needed or not (there & ~series.before).any():
        return _nothing(series, "too_short")
    if not series.hits[:, series.before].sum():
        return _nothing(series, "no_baseline")
    fit, scatter, freedom = _fit(series, slope, negative_binomial)
    effect = max(1.0, series.effect)
    dispersion = effect if negative_binomial else max(scatter, effect)
    alpha = scatter if negative_binomial else 0.0
    covariance = fit.covariance * (effect if negative_binomial else dispersion)
    chance = np.random.default_rng(seed)
    moved = _draw(covariance, freedom, chance)
    after = ~series.before & there
    pooled_gradient = fit.expected[after] @ fit.gradient[after] / fit.expected[after].sum()
    gradient = np.vstack([fit.gradient, pooled_gradient])
    expected = np.append(fit.expected, fit.expected[after].sum())
    observed = np.append(series.hits.sum(0), series.hits.sum(0)[after].sum())
    drawn = np.minimum(expected * np.exp(np.clip(moved @ gradient.T, -50, 50)), 1e12)
    words = np.append(series.words.sum(0), series.words.sum(0)[after].sum())
    found = _compare(observed, expected, drawn, dispersion, alpha, chance)
    variance = float(pooled_gradient @ covariance @ pooled_gradient)
    ratio, low, high = (np.where(words > 0, part, np.nan) for part in found.ratio)
    return Excess(
        "ok",
        np.where(there, fit.expected, np.nan),
        np.where(there, found.prediction[0][:-1], np.nan),
        np.where(there, found.prediction[1][:-1], np.nan),
        ratio[:-1],
        low[:-1],
        high[:-1],
        1e6 * (observed - expected)[:-1] / np.where(there, words[:-1], np.nan),
        (float(ratio[-1]), float(low[-1]), float(high[-1])),
        float(expected[-1]),
        float(observed[-1]),
        float(series.hits[:, series.before].sum()),
        found.p,
        float(dispersion + alpha * expected[-1] / max(1, after.sum())),
        detectable_rise(float(expected[-1]), dispersion, alpha / max(1, after.sum()), variance, power),
        fit.slope,
    )


def _draw(covariance: Array, freedom: int, chance: np.random.Generator) -> Array:
    """Draw deviations of the coefficients; Student's t, as the scatter is itself estimated, from few periods."""
    normal = chance.standard_normal((_DRAWS, len(covariance)))
    scale = np.sqrt(freedom / chance.chisquare(freedom, _DRAWS))[:, None]
    return np.asarray(normal @ np.linalg.cholesky(covariance + 1e-12 * np.eye(len(covariance))).T * scale)


class _Comparison(NamedTuple):
    ratio: tuple[Array, Array, Array]
    prediction: tuple[Array, Array]
    p: float


def _compare(
    observed: Array, expected: Array, drawn: Array, dispersion: float, alpha: float, chance: np.random.Generator
) -> _Comparison:
    """Return ratios, prediction intervals, and the p-value of the last entry."""
    from scipy.stats import nbinom

    spread = dispersion + alpha * drawn
    inflated = np.maximum(spread, 1.0 + 1e-6)
    # A negative binomial with this mean and variance: Poisson where nothing is dispersed.
    size = drawn / (inflated - 1)
    size = np.maximum(size, 1e-9)  # a period without words expects nothing
    predicted = chance.negative_binomial(size, 1 / inflated)
    own = np.maximum(dispersion + alpha * observed, 1.0)
    shape = (observed + own / 2) / own
    counts = chance.gamma(shape, own, drawn.shape)
    low, high = np.quantile(counts / np.maximum(drawn, 1e-300), [0.025, 0.975], axis=0)
    low = np.where(observed > 0, low, 0.0)
    last = observed[-1]
    upper = nbinom.sf(last - 1, size[:, -1], 1 / inflated[:, -1]).mean()
    lower = nbinom.cdf(last, size[:, -1], 1 / inflated[:, -1]).mean()
    ends = np.quantile(predicted, [0.025, 0.975], axis=0)
    return _Comparison(
        (observed / np.maximum(expected, 1e-300), low, high), (ends[0], ends[1]), float(min(1.0, 2 * min(upper, lower)))
    )


def detectable_rise(expected: float, dispersion: float, alpha: float, fit_variance: float, power: float) -> float:
    """Return the smallest ratio that a two-sided test at 5 % finds with this power; infinity where none below 1000.

    Solves log r = (1.96 + z_power) * sqrt(dispersion / (expected r) + alpha + variance of the log expectation).
    """
    from scipy.stats import norm

    ratios = np.geomspace(1.001, 1000, 4000)
    reach = (norm.ppf(0.975) + norm.ppf(power)) * np.sqrt(dispersion / (expected * ratios) + alpha + fit_variance)
    found = np.log(ratios) >= reach
    return float(ratios[np.argmax(found)]) if found.any() else float("inf")


def placebos(series: Series, cutoffs: int, *, slope: bool, negative_binomial: bool, seed: int = 0) -> list[Excess]:
    """Move the cut-off into the time before it, where nothing should have happened.

    Args:
        series: hits and words.
        cutoffs: how many; each lies a period earlier, and is judged by up to as many periods as lie after the real one.
        slope: as in :func:`counterfactual`.
        negative_binomial: as there.
        seed: as there.

    Returns:
        What each shows, the latest first; ``pooled`` is its ratio.
    """
    before = np.flatnonzero(series.before & (series.words.sum(0) > 0))
    found = []
    for step in range(1, cutoffs + 1):
        at = len(before) - step
        if at < 3 + slope:
            break
        kept = before[: at + 1]
        years = series.years[kept] - (series.years[before[at - 1]] + series.years[before[at]]) / 2
        part = Series(series.hits[:, kept], series.words[:, kept], years, series.effect)
        found.append(counterfactual(part, slope=slope, negative_binomial=negative_binomial, seed=seed))
    return [part for part in found if part.state == "ok"]


def require_statsmodels() -> None:
    """Check that statsmodels is there.

    Raises:
        FineeduError: it is not.
    """
    try:
        import statsmodels.api  # noqa: F401
    except ImportError as error:
        raise FineeduError("fineedu synthetic needs statsmodels: pip install 'fineedu[synthetic]'") from error
