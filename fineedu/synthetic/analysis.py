"""From counts to findings: every table of the report."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from fineedu.errors import FineeduError
from fineedu.phrases.lexicon import ANY, LexiconSet
from fineedu.synthetic.counterfactual import Excess, Series, counterfactual, placebos
from fineedu.synthetic.counting import Counted
from fineedu.synthetic.excess import ExcessWords, excess_words, group_excess
from fineedu.synthetic.period import Span, make_span
from fineedu.synthetic.rates import bootstrap, concentration, fixed_mix, panel, rate_table, standardised
from fineedu.synthetic.recipe import SyntheticRecipe
from fineedu.synthetic.summary import by_period, detector, summary

SERIES = ("lexicon", "phrase")
#: single domains that are left out in turn
_LEFT_OUT = 20


@dataclass(frozen=True, slots=True)
class Robust:
    """The headline's pooled ratio under changes that should not matter.

    Attributes:
        by_phrase: phrase left out and the ratio without it.
        by_cluster: domain left out and the ratio without it.
        placebos: ratios at placebo cut-offs.
        placebos_significant: of them, with p below 0.05.
        one_host: a single domain makes the trend: the ratio without it is no longer above 1 with its interval.
    """

    by_phrase: dict[str, float]
    by_cluster: dict[str, float]
    placebos: list[float]
    placebos_significant: int
    one_host: str | None


@dataclass(frozen=True, slots=True)
class Analysis:
    """All findings.

    Attributes:
        recipe: what was asked.
        span: the periods.
        headline: lexicon of the headline.
        documents: that counted.
        text_bytes: of them.
        left_out: documents by reason.
        excess: (lexicon, phrase) to its counts against the counterfactual.
        robust: of the headline.
        words: excess words by period after the cut-off.
        tables: name to table, as they are written to disk.
        mix: name of a stratum to the share of all words that its fixed mix covers.
    """

    recipe: SyntheticRecipe
    span: Span
    headline: str
    documents: int
    text_bytes: int
    left_out: dict[str, int]
    excess: dict[tuple[str, str], Excess]
    robust: Robust | None
    words: list[ExcessWords]
    tables: dict[str, pl.DataFrame]
    mix: dict[str, float] = field(default_factory=dict)


def analyse(recipe: SyntheticRecipe, lexicons: LexiconSet, counted: Counted, folder: Path | None = None) -> Analysis:
    """Turn counts into findings.

    Args:
        recipe: what is asked.
        lexicons: that were counted.
        counted: the counts.
        folder: that lexicons named by a relative path are looked for in first.

    Raises:
        FineeduError: no document counts, or a period has no place in time.
    """
    if not counted.documents:
        reasons = ", ".join(f"{name} {number:,}" for name, number in counted.left_out.items() if number)
        raise FineeduError(f"no document counts ({reasons or 'the input is empty'})")
    data = _Data(recipe, lexicons, counted)
    tables = {"rates": data.rates()}
    tables |= data.strata()
    mix = data.mixes
    excess = data.all_excess(tables["rates"])
    tables["counterfactual"] = by_period(data.span, excess)
    tables["phrases"] = summary(recipe, lexicons, excess)
    tables["concentration"] = concentration(data.with_hits(data.headline, ANY))
    tables["panel"] = data.panel()
    tables["group_excess"] = data.group_excess()
    robust = data.robust(excess[data.headline, ANY])
    words = data.words(counted, folder)
    if words:
        tables["excess_words"] = pl.concat(
            [found.words.select(pl.lit(found.period).alias("period"), pl.all()) for found in words if found.based_on]
            or [pl.DataFrame({"period": []}, schema={"period": pl.String})]
        )
    if recipe.detector is not None:
        tables["detector"] = detector(data.cells, recipe.detector)
    return Analysis(
        recipe, data.span, data.headline, counted.documents, counted.text_bytes, counted.left_out, excess, robust,
        words, tables, mix,
    )  # fmt: skip


class _Data:
    """Counts in the shapes that the estimators take."""

    def __init__(self, recipe: SyntheticRecipe, lexicons: LexiconSet, counted: Counted) -> None:
        self.recipe, self.lexicons = recipe, lexicons
        self.headline = recipe.headline or lexicons.lexicons[0].name
        if self.headline not in {lexicon.name for lexicon in lexicons.lexicons}:
            known = ", ".join(lexicon.name for lexicon in lexicons.lexicons)
            raise FineeduError(f"headline: {self.headline} is none of the lexicons ({known})")
        self.strata_names = ["length", *recipe.by]
        self.cells = counted.cells.with_columns(pl.col("length").cast(pl.String)).collect()
        self.hits = counted.hits.with_columns(pl.col("length").cast(pl.String)).collect()
        self.span = make_span(self.cells["period"].unique().to_list(), recipe.cutoff)
        self.mixes: dict[str, float] = {}

    def stratum(self, frame: pl.DataFrame) -> pl.Series:
        """Return the stratum that trends are fitted within; one for all where there is none."""
        within = self.recipe.within
        return frame[within] if within is not None else pl.Series([""]).new_from_index(0, frame.height)

    def with_hits(self, lexicon: str, phrase: str) -> pl.DataFrame:
        """Return the cells with the hits of one series, zeros where there are none."""
        keys = ["period", "cluster", *self.strata_names]
        hits = self.hits.filter(lexicon=lexicon, phrase=phrase)
        hits = hits.select(*keys, "hits", pl.col("documents").alias("hit_documents"))
        joined = self.cells.join(hits, on=keys, how="left", maintain_order="left")
        return joined.with_columns(pl.col("hits", "hit_documents").fill_null(0))

    def names(self, *, whole: bool = False) -> pl.DataFrame:
        """Return every series, also those without a hit: whole lexicons, and then their phrases."""
        names = [(lexicon.name, ANY) for lexicon in self.lexicons.lexicons]
        if not whole:
            names += zip(self.lexicons.names, self.lexicons.phrases, strict=True)
        return pl.DataFrame(names, schema=list(SERIES), orient="row")

    def rates(self) -> pl.DataFrame:
        """Return rates of all series by period; of whole lexicons with the bootstrap's interval too."""
        table = rate_table(self.cells, self.hits, ["period"], self.names())
        frames = []
        for lexicon in self.lexicons.lexicons:
            draws = bootstrap(
                self.with_hits(lexicon.name, ANY),
                self.span.names,
                ["words", "hits"],
                self.recipe.resamples,
                self.recipe.seed,
            )
            with np.errstate(divide="ignore", invalid="ignore"):
                low, high = np.nanpercentile(1e6 * draws["hits"] / draws["words"], [2.5, 97.5], axis=0)
            frames.append(
                pl.DataFrame({"period": self.span.names, "bootstrap_low": low, "bootstrap_high": high}).with_columns(
                    lexicon=pl.lit(lexicon.name), phrase=pl.lit(ANY)
                )
            )
        return self._in_order(table.join(pl.concat(frames), on=[*SERIES, "period"], how="left"))

    def _in_order(self, table: pl.DataFrame) -> pl.DataFrame:
        when = pl.DataFrame({"period": self.span.names, "middle": self.span.middles, "year": self.span.years})
        keys = [name for name in (*SERIES, "by", "value") if name in table.columns]
        joined = table.join(when, on="period").sort(*keys, "year")
        return joined.select(*keys, "period", "middle", pl.all().exclude(*keys, "period", "middle", "year"))

    def strata(self) -> dict[str, pl.DataFrame]:
        """Return rates by stratum, and standardised to a fixed mix, of whole lexicons."""
        by, fixed = [], []
        whole = self.hits.filter(pl.col("phrase") == ANY)
        before = pl.Series(self.span.before, dtype=pl.String)
        for name in self.strata_names:
            table = rate_table(self.cells, whole, ["period", name], self.names(whole=True))
            by.append(table.rename({name: "value"}).with_columns(by=pl.lit(name)))
            mix, covered = fixed_mix(self.cells, name, before)
            if not mix.height:
                continue
            self.mixes[name] = covered
            for lexicon in self.lexicons.lexicons:
                table = standardised(self.with_hits(lexicon.name, ANY), name, mix)
                keys = {"lexicon": pl.lit(lexicon.name), "phrase": pl.lit(ANY), "by": pl.lit(name)}
                fixed.append(table.with_columns(**keys))
        tables = {"by": self._in_order(pl.concat(by, how="diagonal"))}
        return tables | ({"standardised": self._in_order(pl.concat(fixed))} if fixed else {})

    def panel(self) -> pl.DataFrame:
        """Return rates of the domains that are in every period; empty where there are none."""
        cells = panel(self.cells)
        if not cells.height:
            return pl.DataFrame(schema={"period": pl.String, "clusters": pl.UInt32})
        hits = self.hits.filter(pl.col("phrase") == ANY).join(cells, on="cluster", how="semi")
        return self._in_order(rate_table(cells, hits, ["period"], self.names(whole=True)))

    def series(self, hits: pl.DataFrame, cells: pl.DataFrame | None = None, effect: float = 1.0) -> Series:
        """Lay hits and words out as strata times periods."""
        cells = self.cells if cells is None else cells
        within = self.recipe.within
        strata = cells[within].unique().sort().to_list() if within is not None else [""]
        grids = []
        for frame, column in ((hits, "hits"), (cells, "words")):
            key = pl.col(within) if within is not None else pl.lit("")
            sums = frame.group_by(key.alias("stratum"), "period").agg(pl.col(column).sum().cast(pl.Float64))
            grid = np.zeros((len(strata), len(self.span.names)))
            row = {name: number for number, name in enumerate(strata)}
            place = {name: number for number, name in enumerate(self.span.names)}
            for stratum, period, value in sums.iter_rows():
                grid[row[stratum], place[period]] = value
            grids.append(grid)
        return Series(grids[0], grids[1], np.array(self.span.years), effect)

    def _fit(self, series: Series) -> Excess:
        config = self.recipe.counterfactual
        return counterfactual(
            series,
            slope=config.slope,
            negative_binomial=config.model == "negative-binomial",
            power=self.recipe.power.power,
            seed=self.recipe.seed,
        )

    def all_excess(self, rates: pl.DataFrame) -> dict[tuple[str, str], Excess]:
        """Fit the counterfactual of every phrase and every lexicon."""
        weight = pl.col("hits") / pl.col("hits").sum()
        effects = rates.filter(pl.col("effect").is_finite()).group_by(SERIES).agg((pl.col("effect") * weight).sum())
        effect = {(lexicon, phrase): value for lexicon, phrase, value in effects.iter_rows()}
        parts = self.hits.partition_by(SERIES, as_dict=True)
        nothing = self.hits.clear()
        return {
            name: self._fit(self.series(parts.get(name, nothing), effect=effect.get(name) or 1.0))
            for name in self.names().iter_rows()
        }

    def robust(self, whole: Excess) -> Robust | None:
        """Vary what should not matter to the headline."""
        if whole.state != "ok":
            return None
        mine = self.hits.filter(pl.col("lexicon") == self.headline)
        every = mine.filter(pl.col("phrase") == ANY)
        effect = max(1.0, whole.dispersion) if whole.dispersion > 1 else 1.0
        total = self.series(every, effect=effect)
        by_phrase = {}
        for (phrase,), part in mine.filter(pl.col("phrase") != ANY).partition_by(["phrase"], as_dict=True).items():
            found = self._fit(total._replace(hits=total.hits - self.series(part).hits))
            by_phrase[str(phrase)] = found.pooled[0]
        after = pl.Series(self.span.after, dtype=pl.String)
        top = every.filter(pl.col("period").is_in(after.implode())).group_by("cluster").agg(pl.col("hits").sum())
        top = top.sort("hits", "cluster", descending=[True, False]).head(_LEFT_OUT)
        by_cluster, one_host = {}, None
        for cluster in top["cluster"]:
            rest = pl.col("cluster") != cluster
            found = self._fit(self.series(every.filter(rest), self.cells.filter(rest), effect))
            by_cluster[cluster] = found.pooled[0]
            if one_host is None and whole.pooled[1] > 1 and not found.pooled[1] > 1:
                one_host = cluster
        config = self.recipe.counterfactual
        fake = placebos(
            total,
            config.placebo,
            slope=config.slope,
            negative_binomial=config.model == "negative-binomial",
            seed=self.recipe.seed,
        )
        significant = sum(part.p < 0.05 for part in fake)
        return Robust(by_phrase, by_cluster, [part.pooled[0] for part in fake], significant, one_host)

    def group_excess(self) -> pl.DataFrame:
        """Return for each lexicon and period after the cut-off the excess of documents with any of its phrases."""
        before = self.span.before[-2:]
        schema = {"lexicon": pl.String, "period": pl.String, "share": pl.Float64, "expected": pl.Float64}
        schema |= dict.fromkeys(("excess", "excess_low", "excess_high"), pl.Float64)
        if len(before) < 2:
            return pl.DataFrame(schema=schema)
        years = dict(zip(self.span.names, self.span.years, strict=True))
        rows = []
        strata = self.stratum(self.cells).unique().sort().to_list()
        places = [f"{period}\t{stratum}" for period in self.span.names for stratum in strata]
        shape = (len(self.span.names), len(strata))
        for lexicon in self.lexicons.lexicons:
            cells = self.with_hits(lexicon.name, ANY)
            cells = cells.with_columns(period=cells["period"] + "\t" + self.stratum(cells))
            columns = ["hit_documents", "documents"]
            draws = bootstrap(cells, places, columns, self.recipe.resamples, self.recipe.seed)
            drawn = {name: values.reshape(-1, *shape) for name, values in draws.items()}
            sums = cells.group_by("period").agg(pl.col(columns).sum().cast(pl.Float64))
            total = {name: values for name, *values in sums.iter_rows()}
            grid = np.array([total.get(place, (0.0, 0.0)) for place in places]).reshape(*shape, 2)
            for period in self.span.after:
                at = [self.span.names.index(name) for name in (period, before[1], before[0])]
                ahead = (years[period] - years[before[1]]) / (years[before[1]] - years[before[0]])
                excess, low, high, expected = group_excess(
                    grid[at, :, 0], grid[at, :, 1], drawn[columns[0]][:, at], drawn[columns[1]][:, at], ahead
                )
                rows.append((lexicon.name, period, excess + expected, expected, excess, low, high))
        return pl.DataFrame(rows, schema=schema, orient="row")

    def words(self, counted: Counted, folder: Path | None) -> list[ExcessWords]:
        """Find the excess words of each period after the cut-off."""
        config = self.recipe.excess
        if config is None or counted.frequency is None:
            return []
        from fineedu.phrases.lexicon import read_lexicon

        listed = [
            {form for name in names for _, form in read_lexicon(name, folder).spellings()}
            for names in (config.style, config.content)
        ]
        cells = self.cells.with_columns(stratum=self.stratum(self.cells))
        documents = cells.group_by("period", "stratum").agg(pl.col("documents").sum())
        return [
            excess_words(
                counted.frequency,
                documents,
                dict(zip(self.span.names, self.span.years, strict=True)),
                period,
                minimum=config.minimum,
                least_documents=config.documents,
                style=listed[0],
                content=listed[1],
                pruned=counted.pruned,
            )
            for period in self.span.after
        ]
