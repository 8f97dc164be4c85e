"""Estimators against published examples and against other implementations."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineedu.errors import FineeduError
from fineedu.synthetic.counterfactual import Series, counterfactual, detectable_rise, placebos
from fineedu.synthetic.detector import rogan_gladen
from fineedu.synthetic.excess import counterfactual_share, excess_words, is_excess, machine_share, mix_factors
from fineedu.synthetic.mixture import fit_words, published_share
from fineedu.synthetic.period import make_span, parse_period
from fineedu.synthetic.rates import bootstrap, concentration, fixed_mix, panel, rate_table, standardised
from fineedu.synthetic.recipe import CHATGPT
from fineedu.synthetic.verdict import judge


def series(before=400.0, after=400.0, *, scale=1.0, periods=(12, 4), seed=0):
    rng = np.random.default_rng(seed)
    years = np.arange(-periods[0], periods[1]) / 4 + 0.125
    mean = np.where(years < 0, before, after)[None, :] * scale * np.array([[0.5], [0.5]])
    return Series(rng.poisson(mean).astype(float), np.full(mean.shape, 1e6), years)


def test_rogan_gladen_published_example():
    # Graphite 2025: 52 % flagged, false positives 4.2 %, false negatives 0.6 %: 50.2 %
    found = rogan_gladen(
        0.52, 0.52 * 0.48 / 65_000, true_positives=994, machine_texts=1000, false_positives=668, human_texts=15_894
    )
    assert found.value == pytest.approx(0.502, abs=5e-4) and found.low < found.value < found.high


def test_a_flag_rate_below_the_false_positives_is_consistent_with_nothing():
    found = rogan_gladen(0.03, 1e-5, true_positives=90, machine_texts=100, false_positives=50, human_texts=1000)
    assert found.raw < 0 and found.value == found.low == 0.0 and found.high > 0


def test_kobak_published_examples():
    # Kobak et al.: excess from the share of the year and of those two and three years before
    assert counterfactual_share(np.array([0.02]), np.array([0.015]))[0] == pytest.approx(0.03)
    assert counterfactual_share(np.array([0.02]), np.array([0.03]))[0] == pytest.approx(
        0.02
    )  # a fall is not carried on
    # on the line from (1e-4, ratio 2) to (1, ratio 1), and the large excess of "potential" with ratio about 1.1
    p = np.array([1e-4, 1e-4, 0.5, 0.5])
    q = p / np.array([2.01, 1.99, 1.13, 1.01])
    assert is_excess(p, q).tolist() == [True, False, True, False]
    assert is_excess(np.array([0.45]), np.array([0.398]))[0]
    # 13.5 % of abstracts is the bound; had half of all machine-written ones such a word and no other, twice that
    assert machine_share(0.135, 1.0, 0.0) == pytest.approx(0.135)
    assert machine_share(0.135, 0.5, 0.0) == pytest.approx(0.27)
    assert machine_share(0.1, 1.0, 0.2) >= 0.1


def test_published_mixture_equals_a_grid_search():
    rng = np.random.default_rng(0)
    p, q = np.full(30, 0.1), rng.uniform(0.05, 0.3, 30)
    machine = rng.random(4000) < 0.175  # Liang et al.: 17.5 % of abstracts in computer science
    present = rng.random((4000, 30)) < np.where(machine[:, None], q, p)
    n = 10_000
    model = fit_words([str(k) for k in range(30)], p * n, n, q * n, n)
    ratios = present @ model.weights + model.constant
    by_hand = (np.where(present, q, 1 - q) / np.where(present, p, 1 - p)).prod(1)
    assert np.exp(ratios) == pytest.approx(by_hand)
    grid = np.linspace(0, 1, 10_001)
    best = grid[np.argmax([np.log((1 - a) + a * by_hand).sum() for a in grid])]
    assert published_share(ratios) == pytest.approx(best, abs=1e-4) and abs(best - 0.175) < 0.05
    assert published_share(np.full(5, -1e4)) == 0.0 and published_share(np.full(5, 1e4)) == 1.0


def test_the_trend_equals_statsmodels():
    import statsmodels.api as sm

    data = series(300, 600)
    found = counterfactual(data)
    before = data.before
    design = np.column_stack([np.repeat([1, 0], 16), np.repeat([0, 1], 16), np.tile(data.years, 2)]).astype(float)
    used = np.tile(before, 2)
    fit = sm.GLM(
        data.hits.ravel()[used], design[used], family=sm.families.Poisson(), offset=np.log(data.words.ravel()[used])
    ).fit()
    expected = np.exp(design @ fit.params + np.log(data.words.ravel())).reshape(2, 16).sum(0)
    assert found.expected == pytest.approx(expected, rel=1e-8)
    assert found.pooled[0] == pytest.approx(data.hits[:, ~before].sum() / expected[~before].sum())
    assert found.slope == pytest.approx(np.exp(fit.params[2])) and found.p < 1e-6


@pytest.mark.parametrize("model", [False, True])
def test_a_rise_is_found_and_its_absence_too(model):
    rose, same = (counterfactual(series(300, after), negative_binomial=model) for after in (600, 300))
    assert rose.pooled[1] > 1.5 and rose.p < 0.001
    assert same.pooled[1] < 1 < same.pooled[2] and same.p > 0.05


def test_scatter_between_periods_widens_the_interval():
    calm = series(400, 400)
    rng = np.random.default_rng(1)
    wild = calm._replace(hits=np.round(calm.hits * rng.gamma(9, 1 / 9, 16)))
    widths = []
    for part in (calm, wild, calm._replace(effect=9.0)):
        found = counterfactual(part)
        widths.append(found.pooled[2] / found.pooled[1])
    assert np.log(widths[1]) > 2 * np.log(widths[0]) and np.log(widths[2]) > 2 * np.log(widths[0])


def test_a_source_that_comes_or_goes_makes_no_rise():
    data = series(300, 300)
    hits, words = data.hits.copy(), data.words.copy()
    hits[1] *= 20  # a source where the phrase is common, and of which there is ten times as much later
    words[1, ~data.before] *= 10
    hits[1, ~data.before] *= 10
    new_hits, new_words = (
        np.vstack([part, np.where(data.before, 0, extra)]) for part, extra in ((hits, 900), (words, 1e5))
    )
    found = counterfactual(Series(new_hits, new_words, data.years))
    assert 0.8 < found.pooled[0] < 1.25


def test_states_instead_of_figures():
    none = counterfactual(series(0, 50))
    assert none.state == "no_baseline" and np.isnan(none.pooled[0]) and none.hits_after > 0
    short = counterfactual(series(50, 50, periods=(2, 2)))
    assert short.state == "too_short"
    assert judge(none, np.nan, fdr=0.05, rise=3) == "no baseline"
    assert judge(short, np.nan, fdr=0.05, rise=3) == "too few periods"


def test_rare_phrases_are_called_rare_by_rule():
    for scale, verdict in ((0.002, "too rare to conclude from"), (1.0, "rose")):
        found = counterfactual(series(300, 900, scale=scale))
        assert judge(found, found.p, fdr=0.05, rise=3) == verdict
    common = counterfactual(series(300, 300))
    assert judge(common, common.p, fdr=0.05, rise=3) == "no change shown"
    assert judge(counterfactual(series(900, 300)), 0.001, fdr=0.05, rise=3) == "fell"


def test_what_can_be_detected_is_detected():
    """At the rise that is said to be visible with 80 % power, about 80 % of simulated corpora show it."""
    variance = 0.0
    rise = detectable_rise(60.0, 1.0, 0.0, variance, 0.8)
    rng = np.random.default_rng(0)
    hits = rng.poisson(60 * rise, 4000)
    from scipy.stats import poisson

    assert 0.7 < np.mean(2 * poisson.sf(hits - 1, 60.0) < 0.05) < 0.9
    assert detectable_rise(1.0, 1.0, 0.0, 0.1, 0.8) > detectable_rise(100.0, 1.0, 0.0, 0.1, 0.8) > 1
    assert detectable_rise(1e-9, 1.0, 0.0, 1.0, 0.8) == np.inf


def test_placebo_cutoffs_show_nothing_where_nothing_is():
    found = placebos(series(400, 4000), 4, slope=True, negative_binomial=False)
    assert len(found) == 4 and all(0.7 < part.pooled[0] < 1.4 for part in found)


def cells(rows):
    return pl.DataFrame(
        rows, schema=["period", "cluster", "kind", "words", "documents", "hits", "hit_documents"], orient="row"
    )


def table(rows, by=("period",)):
    frame = cells(rows)
    return rate_table(
        frame, frame.select("period", "cluster", "kind", "hits", pl.col("hit_documents").alias("documents")), list(by)
    )


def test_alike_documents_of_a_host_widen_the_interval():
    spread = [("2024", f"h{k}", "x", 1000, 10, 5, 5) for k in range(40)]
    clumped = [("2024", f"h{k}", "x", 1000, 10, 50 if k < 4 else 0, 10 if k < 4 else 0) for k in range(40)]
    one, other = (table(rows).to_dicts()[0] for rows in (spread, clumped))
    assert one["rate"] == other["rate"] == 5000.0
    assert other["effect"] > 5 and other["rate_high"] - other["rate_low"] > 3 * (one["rate_high"] - one["rate_low"])


def test_no_hit_is_no_zero_width():
    row = table([("2024", f"h{k}", "x", 1000, 10, 0, 0) for k in range(100)]).to_dicts()[0]
    assert row["rate"] == row["rate_low"] == 0 and row["rate_high"] == pytest.approx(3.689e6 / 1e5, rel=1e-3)


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.integers(1, 500), st.integers(0, 20)),
        min_size=1,
        max_size=40,
    )
)
def test_rates_do_not_depend_on_order_or_splitting(rows):
    whole = [(period, f"h{c}", "x", words, 1, hits, min(hits, 1)) for period, c, words, hits in rows]
    first, second = table(whole), table(whole[::-1])
    for name in first.columns[1:]:
        assert first[name].to_numpy() == pytest.approx(second[name].to_numpy(), nan_ok=True, rel=1e-9)
    # the formula, by hand
    for row in first.to_dicts():
        sums = {}
        for period, cluster, _, words, _, hits, _ in whole:
            if period == row["period"]:
                w, h = sums.get(cluster, (0, 0))
                sums[cluster] = (w + words, h + hits)
        total_w, total_h = (sum(pair[k] for pair in sums.values()) for k in (0, 1))
        rate = total_h / total_w
        g = len(sums)
        if g > 1 and total_h:
            variance = sum((h - rate * w) ** 2 for w, h in sums.values()) / total_w**2 * g / (g - 1)
            assert row["effect"] == pytest.approx(variance / (rate / total_w), rel=1e-6, abs=1e-9)


def test_bootstrap_agrees_with_linearisation_and_is_seeded():
    rng = np.random.default_rng(0)
    rows = [
        ("2024", f"h{k}", "x", int(w), 1, int(rng.poisson(w * 0.01 * rng.gamma(2, 0.5))), 1)
        for k, w in enumerate(rng.integers(500, 2000, 200))
    ]
    drawn = bootstrap(cells(rows), ["2024"], ["words", "hits"], 2000, 1)
    low, high = np.percentile(1e6 * drawn["hits"] / drawn["words"], [2.5, 97.5])
    (row,) = table(rows).to_dicts()
    assert [low, high] == pytest.approx([row["rate_low"], row["rate_high"]], rel=0.05)
    again = bootstrap(cells(rows[::-1]), ["2024"], ["words", "hits"], 2000, 1)
    assert np.array_equal(drawn["hits"], again["hits"])


def test_a_change_of_the_mix_is_no_change_of_the_rate():
    rows = []
    for period, share in (("2021", 0.5), ("2022", 0.5), ("2024", 0.1)):
        for k in range(20):
            rows.append((period, f"a{k}", "often", int(10_000 * share), 5, int(100 * share), 3))
            rows.append((period, f"b{k}", "rare", int(10_000 * (1 - share)), 5, int(10 * (1 - share)), 3))
    frame = cells(rows)
    plain = dict(table(rows).select("period", "rate").iter_rows())
    mix, covered = fixed_mix(frame, "kind", pl.Series(["2021", "2022"]))
    fixed = dict(standardised(frame, "kind", mix).select("period", "standardised").iter_rows())
    assert plain["2024"] < 0.5 * plain["2022"] and covered == 1.0
    assert fixed["2024"] == pytest.approx(fixed["2022"], rel=1e-9) == pytest.approx(plain["2022"], rel=1e-9)


def test_a_period_without_a_stratum_has_no_standardised_rate():
    rows = [
        (str(year), "h", kind, 100, 1, 1, 1)
        for year in range(2010, 2025)
        for kind in ("x", "y")
        if (year, kind) != (2020, "y")
    ]
    mix, covered = fixed_mix(cells(rows), "kind", pl.Series(["2019"]))
    periods = standardised(cells(rows), "kind", mix)["period"].to_list()
    assert "2020" not in periods and len(periods) == 14 and covered == 1.0


def test_panel_and_concentration():
    rows = [("2023", "a", "x", 100, 1, 9, 1), ("2024", "a", "x", 100, 1, 1, 1), ("2024", "b", "x", 300, 1, 3, 1)]
    assert panel(cells(rows))["cluster"].unique().to_list() == ["a"]
    found = {row["period"]: row for row in concentration(cells(rows)).to_dicts()}
    assert found["2024"]["top"] == "b" and found["2024"]["top_share"] == 0.75
    assert found["2024"]["effective"] == pytest.approx(1 / (0.75**2 + 0.25**2)) and found["2024"]["rate_without"] == 1e4


def test_excess_words_hold_the_mix_of_strata_fixed():
    documents = pl.DataFrame(
        [(period, stratum, n) for period in ("2021", "2022", "2024") for stratum, n in (("a", 900), ("b", 100 if period != "2024" else 2900))],
        schema=["period", "stratum", "documents"], orient="row",
    )  # fmt: skip
    rows = []
    for period, b in (("2021", 100), ("2022", 100), ("2024", 2900)):
        rows += [(period, "b", "often", b), (period, "a", "plain", 90)]
        rows.append((period, "a", "jumped", 9 if period != "2024" else 180))
    frequency = pl.DataFrame(rows, schema=["period", "stratum", "word", "documents"], orient="row")
    years = dict(zip(("2021", "2022", "2024"), (-1.4, -0.4, 1.6), strict=True))
    found = excess_words(
        frequency.lazy(), documents, years, "2024", minimum=1e-4, least_documents=1, style={"jumped"}, content=set()
    )
    words = {row["word"]: row for row in found.words.to_dicts()}
    assert not words["often"]["is_excess"] and words["often"]["p"] == pytest.approx(words["often"]["q"])
    assert words["jumped"]["is_excess"] and words["jumped"]["sure"] and words["jumped"]["kind"] == "style"
    assert words["jumped"]["p"] == pytest.approx(181 / 1001) and words["jumped"]["q"] == pytest.approx(10 / 1001)
    assert mix_factors(documents, ["2024", "2022", "2021"])["size"].unique().to_list() == [1000.0]


@pytest.mark.parametrize(
    ("name", "middle"),
    [
        ("2024", "2024-07-02"),
        ("2024-H2", "2024-10-01"),
        ("2024-Q1", "2024-02-15"),
        ("2024-12", "2024-12-16"),
        ("CC-MAIN-2024-10", "2024-03-09"),
    ],
)
def test_periods_lie_in_time(name, middle):
    assert parse_period(name).middle.isoformat() == middle


def test_periods_are_put_in_order_and_wrong_ones_named():
    span = make_span(["CC-MAIN-2023-06", "CC-MAIN-2022-49", "CC-MAIN-2021-04"], CHATGPT)
    assert span.before == ("CC-MAIN-2021-04",) and span.after == ("CC-MAIN-2022-49", "CC-MAIN-2023-06")
    with pytest.raises(FineeduError, match="local"):
        make_span(["local"], CHATGPT)
