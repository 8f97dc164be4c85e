from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineedu.dedup.curve import curve_table, expected_found, s_curve, threshold
from fineedu.dedup.signature import FINEWEB, NEMOTRON, MinHash, band_keys, sign, true_similarity
from fineedu.errors import FineeduError
from tests.dedup.pages import jaccard, pairs

TEXT = st.text(st.characters(codec="utf-8"), max_size=60)


def test_curve_has_the_published_points() -> None:
    # datatrove's docstring gives .924 at .8; NeMo's settings give .677 and .924 at .8 and .85
    assert s_curve(0.8, 14, 8) == pytest.approx(0.924, abs=5e-4)
    assert s_curve([0.8, 0.85], 20, 13) == pytest.approx([0.677, 0.924], abs=5e-4)
    assert s_curve(threshold(14, 8), 14, 8) == pytest.approx(0.5)
    table = curve_table(14, 8)
    assert (table[0]["similarity"], table[-1]) == (0.5, {"similarity": 1.0, "found": 1.0})


@pytest.mark.parametrize("config", [FINEWEB, NEMOTRON, MinHash("word", 3, 9, 4), MinHash("character", 8, 5, 6)])
def test_a_signature_is_of_the_text_alone(config: MinHash) -> None:
    texts = [*pairs(12)[0], "", "one", "Ein Würfel Öl", "漢字かな交じり文", None, "\U0001f600 \U00020000x"]
    whole = sign(pl.Series(texts, dtype=pl.String), config)
    for n, text in enumerate(texts):
        alone = sign(pl.Series([text], dtype=pl.String), config)
        assert (alone.signatures[0] == whole.signatures[n]).all()
        assert alone.shingles[0] == whole.shingles[n]
        assert alone.text_keys[0] == whole.text_keys[n]
    sliced = sign(pl.Series(texts, dtype=pl.String)[3:9], config)
    assert (sliced.signatures == whole.signatures[3:9]).all()


def test_case_space_and_punctuation_do_not_count_but_words_do() -> None:
    signed = sign(pl.Series(["The cat, sat\ton it!", "the CAT sat on   it", "the cat sat on them"]))
    assert signed.similarity([0, 0], [1, 2]).tolist() == [1.0, 0.0]
    assert signed.shingles.tolist() == [1, 1, 1]
    characters = sign(pl.Series(["The  cat sat on the mat today", "the cat sat on\nthe mat today"]), NEMOTRON)
    assert characters.similarity([0], [1]).tolist() == [1.0]


def test_counts_of_shingles() -> None:
    texts = pl.Series(["", "   ...  ", "one two", "a b c d e f g", "漢字かな交じり", "ไทย"])
    assert sign(texts).shingles.tolist() == [0, 0, 1, 3, 3, 1]
    assert sign(pl.Series(["x" * 30, "short", ""]), NEMOTRON).shingles.tolist() == [7, 1, 0]


@given(st.lists(TEXT, min_size=1, max_size=6))
def test_text_keys_agree_where_lower_case_and_spaces_do(texts: list[str]) -> None:
    plain = [" ".join("".join(c.lower() if len(c.lower()) == 1 else c for c in text).split()) for text in texts]
    for config in (FINEWEB, NEMOTRON):
        keys = sign(pl.Series([*texts, *plain]), config).text_keys
        groups: dict[str, set[int]] = {}
        for text, key in zip([*plain, *plain], keys.tolist(), strict=True):
            groups.setdefault(text, set()).add(key)
        assert all(len(group) == 1 for group in groups.values())
        assert len({key for group in groups.values() for key in group}) == len(groups)


@given(st.lists(st.sampled_from(["ant", "bee", "Cat", "dög", "eel", "漢", "fly-fly"]), max_size=30), st.integers(1, 6))
def test_true_similarity_is_that_of_sets(chosen: list[str], n: int) -> None:
    first, second = " ".join(chosen), " ".join(chosen[len(chosen) // 3 :])

    def shingles(text: str) -> set[tuple[str, ...]]:
        found = [word for run in re.findall(r"\w+", text.lower()) for word in re.findall("漢|[^漢]+", run)]
        return {tuple(found[i : i + n]) for i in range(max(len(found) - n + 1, 1 if found else 0))}

    ours, theirs = shingles(first), shingles(second)
    if len(chosen) // 3 > 0 and min(len(first.split()), len(second.split())) < n:
        return  # a text shorter than a shingle is one shingle of its own length
    expected = (len(ours & theirs) / len(ours | theirs), len(ours & theirs) / len(ours)) if ours and theirs else (0, 0)
    assert true_similarity(first, second, MinHash(n=n)) == pytest.approx(expected)


@pytest.mark.parametrize("config", [FINEWEB, MinHash("word", 5, 20, 13), MinHash("word", 5, 30, 3, seed=9)])
def test_estimates_and_finds_are_those_of_the_binomial(config: MinHash) -> None:
    first, second = pairs(1500, seed=3)
    truth = np.array([jaccard(a, b) for a, b in zip(first, second, strict=True)])
    signed = sign(pl.Series(first + second), config)
    left, right = np.arange(1500), np.arange(1500) + 1500
    inside = (truth > 0.02) & (truth < 0.98)
    error = signed.similarity(left, right) - truth
    scaled = error[inside] / np.sqrt(truth[inside] * (1 - truth[inside]) / config.hashes)
    assert abs(scaled.mean()) < 4 / np.sqrt(inside.sum())
    assert 0.9 < scaled.std() < 1.1
    keys = band_keys(signed, config)
    found = int((keys[:, left] == keys[:, right]).any(axis=0).sum())
    low, high = expected_found(truth, config.bands, config.rows)
    assert low <= found <= high


def test_estimates_agree_with_datasketch() -> None:
    datasketch = pytest.importorskip("datasketch", reason="pip install datasketch")
    first, second = pairs(60, seed=5)
    truth = np.array([jaccard(a, b) for a, b in zip(first, second, strict=True)])
    ours = sign(pl.Series(first + second)).similarity(np.arange(60), np.arange(60) + 60)

    def theirs(text: str) -> object:
        split = text.split()
        made = datasketch.MinHash(num_perm=112, seed=1)
        made.update_batch({" ".join(split[i : i + 5]).encode() for i in range(len(split) - 4)})
        return made

    estimates = np.array([theirs(a).jaccard(theirs(b)) for a, b in zip(first, second, strict=True)])  # type: ignore[attr-defined]
    spread = np.sqrt(truth * (1 - truth) / 112)
    assert np.abs(ours - truth).mean() == pytest.approx(np.abs(estimates - truth).mean(), rel=0.4)
    assert (np.abs(ours - estimates) <= 4.5 * np.sqrt(2) * spread + 1e-9).all()


@pytest.mark.parametrize("config", [FINEWEB, MinHash("word", 5, 20, 13)])
def test_real_revisions_are_found_as_the_curve_says(real_data: Path, config: MinHash) -> None:
    with gzip.open(real_data / "dups" / "revisions.jsonl.gz", "rt") as stream:
        texts = {row["id"]: row["text"] for row in map(json.loads, stream)}
    with gzip.open(real_data / "dups" / "pairs.jsonl.gz", "rt") as stream:
        found_pairs = [json.loads(line)["meta"] for line in stream]
    at = {name: n for n, name in enumerate(texts)}
    left, right = (np.array([at[pair[side]] for pair in found_pairs]) for side in "ab")
    truth = np.array([pair["jaccard_word5"] for pair in found_pairs])
    keys = band_keys(sign(pl.Series(list(texts.values())), config), config)
    found = (keys[:, left] == keys[:, right]).any(axis=0)
    low, high = expected_found(truth, config.bands, config.rows)
    assert low <= found.sum() <= high
    alike = truth >= 0.8
    low, high = expected_found(truth[alike], config.bands, config.rows)
    assert low <= found[alike].sum() <= high
    curve = s_curve(truth, config.bands, config.rows)
    expected_precision = curve[alike].sum() / curve.sum()
    precision = alike[found].mean()
    print(f"recall {found[alike].mean():.4f}, expected {curve[alike].mean():.4f}; precision {precision:.4f}")
    assert precision == pytest.approx(expected_precision, abs=0.015)


@pytest.mark.parametrize(
    "settings", [{"shingle": "line"}, {"n": 0}, {"bands": 0}, {"rows": -1}, {"bands": 100, "rows": 50}]
)
def test_settings_out_of_range(settings: dict[str, object]) -> None:
    with pytest.raises(FineeduError):
        MinHash(**settings)  # type: ignore[arg-type]
