"""The upsampling curve: what it promises, against quadrature, and in a selection."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.integrate import quad

from fineedu.errors import FineeduError
from fineedu.recipe import CurveConfig, UpsampleConfig
from fineedu.select.curve import fit_curve
from tests.select.test_choose import choose, pool


@settings(max_examples=50)
@given(
    st.lists(st.floats(0.01, 1), min_size=3, max_size=25),
    st.floats(0, 0.6),
    st.floats(1, 10),
    st.floats(0.2, 1.5),
    st.floats(0, 5),
)
def test_curve_keeps_its_promises(mass: list[float], drop: float, highest: float, mean: float, growth: float) -> None:
    assume(mean < highest)
    weights = np.array(mass)
    config = CurveConfig(drop=drop, highest=highest, mean=mean, growth=growth)
    try:
        repeats = fit_curve(weights, config)
    except FineeduError as error:
        assert "change mean, highest, drop or growth" in str(error)
        return
    share = weights / weights.sum()
    assert repeats @ share == pytest.approx(mean, rel=1e-6)
    assert repeats[-1] == pytest.approx(highest)
    assert (np.diff(repeats) >= -1e-9).all() and (repeats >= 0).all()
    assert (repeats[np.cumsum(share) <= drop - 1e-9] == 0).all()


def test_curve_is_the_integral_of_the_published_family() -> None:
    config = CurveConfig(drop=0.4, highest=7, mean=1, growth=1.5)
    repeats = fit_curve(np.full(20, 1.0), config)

    def mean_of(low: float, high: float, power: float) -> float:
        found, _ = quad(lambda x: max(x - 0.4, 0) ** power * np.exp(1.5 * (x - 0.4)), low, high)
        return found / (high - low)

    # The power is not told: the ratio of two buckets gives it, and then all others must fit.
    powers = np.linspace(0, 20, 4001)
    ratios = [mean_of(0.9, 0.95, p) / mean_of(0.95, 1, p) for p in powers[::40]]
    power = np.interp(-repeats[-2] / repeats[-1], -np.array(ratios), powers[::40])
    for bucket in range(8, 20):
        wanted = 7 * mean_of(bucket / 20, (bucket + 1) / 20, power) / mean_of(0.95, 1, power)
        assert repeats[bucket] == pytest.approx(wanted, rel=0.02, abs=1e-3)
    assert repeats[:8].tolist() == [0.0] * 8


def test_curve_in_a_selection() -> None:
    frame = pool(20_000).with_columns(topic=pl.lit("any"))
    curve = {"drop": 0.4, "highest": 7, "mean": 1.2}
    found, cuts = choose(frame, upsample={"column": "bucket", "curve": curve})
    mass = frame["text_bytes"].cast(pl.Int64)
    assert (mass * found["repeat"].cast(pl.Int64)).sum() / mass.sum() == pytest.approx(1.2, rel=0.03)
    by_bucket = found.group_by("bucket").agg(pl.col("repeat").mean()).sort("bucket")["repeat"]
    assert by_bucket[-1] == pytest.approx(7, abs=0.1) and by_bucket[:7].sum() == 0
    assert [row["bucket"] for row in cuts.told["curve"]] == [str(n) for n in range(20)]
    shuffled, _ = choose(
        frame.sample(fraction=1, shuffle=True, seed=2), 333, upsample={"column": "bucket", "curve": curve}
    )
    assert shuffled.sort("id").equals(found.sort("id"))
    only, _ = choose(frame, rules={"none": "score > 99"}, upsample={"column": "bucket", "curve": curve})
    assert not only["keep"].any()


def test_wrong_curves() -> None:
    with pytest.raises(ValidationError, match="one of the two"):
        UpsampleConfig.model_validate({"column": "bucket"})
    with pytest.raises(ValidationError, match="not above its highest"):
        CurveConfig(highest=2, mean=3)
    with pytest.raises(FineeduError, match="numbered buckets"):
        choose(pool(50), upsample={"column": "topic", "curve": {}})
    with pytest.raises(FineeduError, match="not 5: change"):
        choose(pool(500), upsample={"column": "bucket", "curve": {"mean": 5}})
