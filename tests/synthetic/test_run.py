"""From documents to report, on texts of the project's own making, and within source on real ones."""

from __future__ import annotations

import gzip
import json

import numpy as np
import polars as pl
import pytest
import yaml

from fineedu.errors import FineeduError
from fineedu.phrases.lexicon import ANY, combine, read_lexicon
from fineedu.synthetic.counting import CountJob, count
from fineedu.synthetic.recipe import InputConfig, load_recipe, shipped_recipes
from fineedu.synthetic.run import execute, plan
from fineedu.synthetic.source import open_source
from fineedu.synthetic.wording import headline, too_rare, warnings
from tests.synthetic.corpus import FILLER, documents, recipe, write

CLUSTER = {"period": "year", "cluster": ["id"]}


def run(folder, rows, **extra):
    data = write(folder / "texts.jsonl", rows)
    extra = {"input": {"path": data.name, **CLUSTER}, "resamples": 100} | extra
    return execute(plan(str(recipe(folder, data, **extra))), folder / "out", workers=1)


def phrase(found, name, lexicon="fineweb-proxy"):
    table = found.tables["phrases"].filter((pl.col("lexicon") == lexicon) & (pl.col("phrase") == name))
    return table.row(0, named=True)


def test_a_planted_rise_is_found_and_the_control_stays(tmp_path):
    rows = documents(rise=6.0, rate=0.001, per_host=8)
    result = run(tmp_path, rows, by={"source": "source"}, within="source", excess={"documents": 3})
    found = result.found
    row = phrase(found, "delve")
    assert row["verdict"] == "rose" and row["ratio_low"] < 6 < row["ratio_high"] and row["q"] < 0.001
    assert phrase(found, ANY, "control")["verdict"] == "no change shown"
    assert "they rose" in headline(found) and warnings(found) == []
    assert phrase(found, "rich tapestry")["verdict"] == "too rare to conclude from"
    assert any("rich tapestry" in sentence for sentence in too_rare(found))
    words = found.tables["excess_words"].filter(pl.col("is_excess") & pl.col("sure"))
    assert "delve" in words["word"].to_list() and words.filter(pl.col("word") == "delve")["kind"][0] == "style"
    assert not set(words["word"]) & set(FILLER)
    excess = found.tables["group_excess"].filter(lexicon="fineweb-proxy", period="2023").row(0, named=True)
    assert excess["excess_low"] > 0.1
    page = result.report.read_text(encoding="utf-8")
    assert "delve" in page and "<script" not in page and "http://" not in page.replace("http://www.w3.org", "")
    for name in ("ratio", "phrases", "by-source", "excess-words"):
        picture = (tmp_path / "out" / "charts" / f"{name}.png").read_bytes()
        assert picture[:8] == b"\x89PNG\r\n\x1a\n" and len(picture) > 3000
        svg = (tmp_path / "out" / "charts" / f"{name}.svg").read_text()
        assert "var(--" not in svg and "<text" in svg
    for path in (tmp_path / "out" / "tables").glob("*.csv"):
        assert (
            pl.read_csv(path, infer_schema_length=None).height == pl.read_parquet(path.with_suffix(".parquet")).height
        )


def test_the_same_input_gives_the_same_bytes_and_is_not_read_twice(tmp_path):
    result = run(tmp_path, documents())
    first = {
        path.relative_to(tmp_path): path.read_bytes() for path in (tmp_path / "out").rglob("*.*") if path.is_file()
    }
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "counts").rglob("*.parquet")}
    run(tmp_path, documents())
    assert all((tmp_path / name).read_bytes() == content for name, content in first.items())
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    run(tmp_path, documents(), lexicons=["fineweb-proxy", "control", "style"])
    assert len(list((tmp_path / "out" / "counts").iterdir())) == 2  # other phrases are other counts
    assert result.found.documents == 11 * 12 * 3


def test_one_host_does_not_make_a_trend_unseen(tmp_path):
    rows = documents(hosts=30, per_host=1, rise=60.0, host=3, rate=0.002)
    for row in rows:
        row["host"] = row["url"].split("/")[2].removeprefix("www.").replace(".example.org", ".example")
    result = run(tmp_path, rows, input={"path": "texts.jsonl", "period": "year", "cluster": ["host"]})
    found = result.found
    assert found.tables["concentration"].filter(period="2024")["top"][0] == "host3.example"
    assert any("single host" in warning for warning in warnings(found))
    assert phrase(found, "delve")["verdict"] != "rose" or found.robust.one_host == "host3.example"
    assert found.robust.by_cluster["host3.example"] < 1.5


def test_groups_of_domains_bound_the_counts_and_keep_rates_and_intervals(tmp_path):
    rows = documents(hosts=600, per_host=1, years=range(2019, 2025), rate=0.002)
    found = []
    for groups in (None, 100):
        folder = tmp_path / str(groups)
        folder.mkdir()
        source = {"path": "texts.jsonl", "period": "year", "cluster": ["url"], "groups": groups}
        for row in rows:
            row["url"] = row["url"].replace(".example.org", ".example")
        table = run(folder, rows, input=source).found.tables["rates"]
        found.append(table.filter((pl.col("lexicon") == "fineweb-proxy") & (pl.col("phrase") == ANY)).sort("period"))
    alone, grouped = found
    assert alone["clusters"].unique().to_list() == [600]
    assert grouped["clusters"].max() <= 100
    assert np.allclose(alone["rate"], grouped["rate"])
    width = ((grouped["rate_high"] - grouped["rate_low"]) / (alone["rate_high"] - alone["rate_low"])).mean()
    assert 0.85 < width < 1.2


def test_a_control_that_moves_is_a_warning(tmp_path):
    rows = documents(phrase="for example", rise=3.0)
    result = run(tmp_path, rows)
    assert any("control rose too" in warning for warning in warnings(result.found))


def test_detector_and_mixture(tmp_path):
    rng = np.random.default_rng(0)
    weights = np.linspace(1, 6, len(FILLER))
    human, machine = (part / part.sum() for part in (np.ones(len(FILLER)), weights))

    def text(chances):
        return " ".join(" ".join(rng.choice(FILLER, 25, p=chances)).capitalize() + "." for _ in range(6))

    rows = []
    for year in range(2017, 2026):
        for k in range(60):
            made = bool(year >= 2023 and rng.random() < 0.3)
            flag = rng.random() < (0.9 if made else 0.05)
            rows.append(
                {
                    "id": f"{year}-{k}",
                    "date": f"{year}-05-01",
                    "text": text(machine if made else human),
                    "detector": float(flag),
                }
            )
    write(tmp_path / "machine.jsonl", [{"text": text(machine), "id": str(k)} for k in range(150)])
    result = run(
        tmp_path, rows, mixture={"machine": "machine.jsonl"},
        detector={"flag": "detector > 0.5", "true_positives": 450, "machine_texts": 500, "false_positives": 25, "human_texts": 500},
    )  # fmt: skip
    for name in ("mixture", "detector"):
        table = {row["period"]: row for row in result.found.tables[name].to_dicts()}
        assert (
            sum(table[year]["share_low"] <= 0.3 <= table[year]["share_high"] for year in ("2023", "2024", "2025")) >= 2
        )
        assert sum(table[str(year)]["share_low"] == 0 for year in range(2017, 2023)) >= 5
    assert "Mixture estimate" in result.report.read_text(encoding="utf-8")
    assert (tmp_path / "out" / "charts" / "mixture.png").exists()


def job(folder, path, **more):
    source = open_source(InputConfig(path=str(path), **more), folder)
    lexicons = combine([read_lexicon("fineweb-proxy")])
    return CountJob(source, {}, None, lexicons, None, True, folder / "counted")


def totals(job, workers=1):
    counted = count(job, workers)
    return counted, {name: counted.hits.filter(phrase=name).collect()["hits"].sum() for name in ("delve", ANY)}


def test_every_form_of_input_gives_the_same_counts(tmp_path):
    rows = documents(hosts=3, per_host=2)
    plain = write(tmp_path / "a.jsonl", rows)
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    zipped = tmp_path / "c.jsonl.zst"
    import zstandard

    zipped.write_bytes(zstandard.compress(plain.read_bytes()))
    frame = pl.DataFrame(rows)
    (tmp_path / "d").mkdir()
    for k in range(3):
        frame[k::3].write_parquet(tmp_path / "d" / f"{k}.parquet", row_group_size=7)
    expected = sum(row["text"].split().count("delve") for row in rows)
    for name, workers in (("a.jsonl", 1), ("b.jsonl.gz", 1), ("c.jsonl.zst", 1), ("d", 1), ("d", 3)):
        folder = tmp_path / f"{name}-{workers}"
        folder.mkdir()
        counted, found = totals(job(folder, tmp_path / name, period="year"), workers)
        assert found["delve"] == found[ANY] == expected and counted.documents == len(rows)
        assert counted.cells.collect()["words"].sum() == sum(len(row["text"].split()) for row in rows)
        words = counted.frequency.filter(word="delve").collect()["documents"].sum()
        assert words == sum("delve" in row["text"].split() for row in rows)


def test_documents_that_do_not_count_are_told_by_reason(tmp_path):
    rows = documents(hosts=1, per_host=1)
    rows += [{"id": "x", "date": None, "text": "delve"}, {"id": "y", "date": "2020-01-01", "text": None}]
    counted, _ = totals(job(tmp_path, write(tmp_path / "a.jsonl", rows), period="year", where="id != '2020-0-0'"))
    assert counted.left_out == {"where": 1, "no_text": 1, "no_period": 1} and counted.documents == 10


@pytest.mark.slow
def test_a_store_with_its_signals(tmp_path, crawl, cli):
    done = cli("run", "minimal", "--input", crawl, "--output", "out", "--workers", "1")
    assert done.returncode == 0, done.stderr
    rows = "\n".join(f"  {key}: {value}" for key, value in {"path": str(tmp_path / "out"), "period": "year"}.items())
    text = (
        f"name: store\ninput:\n{rows}\nby:\n  language: language\n  long: text_bytes > 500\nlexicons: [fineweb-proxy]\n"
    )
    (tmp_path / "r.yaml").write_text(text)
    ended = cli("synthetic", "r.yaml", "--output", "p")
    assert ended.returncode == 0, ended.stderr
    by = pl.read_parquet(tmp_path / "p" / "tables" / "by.parquet")
    assert {"language", "long", "length"} == set(by["by"])
    assert "too few periods" in ended.stdout.lower()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"cutof": "2022-01-01"}, "recipe.yaml:1: cutof: unknown key"),
        ({"within": "kind"}, "within: kind is none of by"),
        ({"by": {"kind": "nothing"}}, "by.kind: no column 'nothing'"),
        ({"by": {"kind": "source ="}}, "by.kind: 'source ='"),
        ({"by": {"words": "source"}}, "by: words is taken"),
        ({"headline": "style"}, "headline: style is none of the lexicons"),
        ({"lexicons": ["nope"]}, "no lexicon"),
        ({"input": {"path": "none.jsonl"}}, "no file"),
        ({"input": {"path": "texts.jsonl", "period": "dump"}}, "no column 'dump'"),
        ({"input": {"path": "texts.jsonl", "period": "year", "text": "body"}}, "no column 'body'"),
        ({"input": {"path": "texts.jsonl", "period": "year", "cluster": ["site"]}}, "input.cluster: none of site"),
        ({"mixture": {"machine": "gone.jsonl"}}, "gone.jsonl"),
        ({"detector": {"flag": "source = 'a'", "true_positives": 1, "machine_texts": 10, "false_positives": 5, "human_texts": 10}}, "tells nothing"),
    ],
)  # fmt: skip
def test_mistakes_are_named(tmp_path, extra, message):
    with pytest.raises(FineeduError) as caught:
        run(tmp_path, documents(hosts=1, per_host=1), **extra)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_damaged_line_is_named(tmp_path):
    rows = documents(hosts=1, per_host=1)
    data = write(tmp_path / "texts.jsonl", rows)
    path = recipe(tmp_path, data, input={"path": "texts.jsonl", **CLUSTER})
    planned = plan(str(path))
    data.write_text(data.read_text()[:-40] + "\n")
    with pytest.raises(FineeduError, match=r"texts.jsonl: lines 1 to 11"):
        execute(planned, tmp_path / "out", workers=1)


def test_nothing_to_count_is_an_error(tmp_path):
    with pytest.raises(FineeduError, match="no document counts"):
        run(tmp_path, documents(hosts=1, per_host=1), input={"path": "texts.jsonl", **CLUSTER, "where": "id = 'none'"})


def test_shipped_recipes_are_sound():
    assert set(shipped_recipes()) == {"proxies", "vocabulary"}
    for name in shipped_recipes():
        found, _ = load_recipe(name, ["resamples=200"])
        assert found.description and found.resamples == 200


@pytest.mark.slow
def test_the_command(tmp_path, cli):
    data = write(tmp_path / "texts.jsonl", documents(rise=4.0))
    recipe(tmp_path, data, input={"path": data.name, **CLUSTER}, resamples=100)
    dry = cli("synthetic", "recipe.yaml", "--dry-run")
    assert dry.returncode == 0 and "23 phrases" in dry.stdout and not (tmp_path / "synthetic-test").exists()
    done = cli("synthetic", "recipe.yaml")
    assert done.returncode == 0, done.stderr
    assert "they rose" in " ".join(done.stdout.split()) and (tmp_path / "synthetic-test" / "report.html").exists()
    made = cli("synthetic", "index", "recipe.yaml", "--index", "phrases")
    assert made.returncode == 0, made.stderr
    counted = cli("synthetic", "count", "delve", "rich tapestry", "--index", "phrases", "--csv")
    hits = [line.split(",") for line in counted.stdout.splitlines() if line.startswith("delve,2024")]
    table = pl.read_csv(tmp_path / "synthetic-test" / "tables" / "rates.csv")
    assert int(hits[0][4]) == table.filter(phrase="delve", period=2024)["hits"][0]
    shown = cli("synthetic", "count", "delve", "--index", "phrases")
    assert "ms)" in shown.stdout and "2024" in shown.stdout
    assert "fineweb-proxy" in cli("synthetic", "list").stdout
    wrong = cli("synthetic", "nope")
    assert wrong.returncode == 2 and "no recipe" in wrong.stderr and "Traceback" not in wrong.stderr
    assert "RECIPE" in cli("synthetic", "--help").stdout


def test_real_text_within_source(tmp_path, real_data):
    """Dated documents of 12 sources: "delve" alone is too rare there to conclude from, and the report says so."""
    settings = {
        "name": "dated", "by": {"source": "source"}, "within": "source", "lexicons": ["fineweb-proxy", "control"],
        "input": {"path": str(real_data / "text" / "dated.jsonl.gz"), "period": "year", "since": "2012-01-01", "cluster": ["url", "id"]},
    }  # fmt: skip
    (tmp_path / "dated.yaml").write_text(yaml.safe_dump(settings))
    result = execute(plan(str(tmp_path / "dated.yaml")), tmp_path / "out", workers=2)
    row = phrase(result.found, "delve")
    assert 0 < row["hits_before"] + row["hits_after"] < 60 and row["verdict"] == "too rare to conclude from"
    page = result.report.read_text(encoding="utf-8")
    assert "“delve” alone is too rare here to conclude from" in page
    assert phrase(result.found, ANY, "control")["verdict"] == "no change shown"
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["recipe"]["within"] == "source"
