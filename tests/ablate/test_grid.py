"""Grids to cells, and mistakes that are told in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fineedu.ablate.command import SHIPPED
from fineedu.ablate.config import AblationConfig, load_ablation, shipped_ablations
from fineedu.ablate.grid import make_cells, neighbours
from fineedu.errors import FineeduError


def config(**settings: Any) -> AblationConfig:
    return AblationConfig.model_validate({"name": "test", "base": "edu", **settings})


def test_product_of_axes() -> None:
    made = config(
        set={"select.rules.edu": "edu_score >= {edu}"},
        grid={"edu": [2, 2.5], "url": {"url rules": {}, "no url rules": {"select.rules.url": None}}},
    )
    cells = make_cells(made)
    assert [cell.name for cell in cells] == [
        "edu=2, url rules",
        "edu=2, no url rules",
        "edu=2.5, url rules",
        "edu=2.5, no url rules",
    ]
    assert cells[2].select.rules["edu"] == "edu_score >= 2.5"
    assert "url" in cells[2].select.rules and "url" not in cells[3].select.rules
    assert neighbours(cells) == [(0, 2), (2, 0), (0, 1), (1, 0), (1, 3), (3, 1), (2, 3), (3, 2)]


def test_names_and_hashes_stay() -> None:
    first, again = (
        make_cells(config(grid={"select.rules.edu": {"a": "edu_score > 1", "b": "edu_score > 2"}})) for _ in "12"
    )
    assert [cell.hash for cell in first] == [cell.hash for cell in again]
    assert len({cell.hash for cell in first}) == 2
    alone = make_cells(config(cells={"b": {"select.rules.edu": "edu_score > 2"}}))
    assert alone[0].hash == first[1].hash  # the hash is of what is kept, not of how the cell came about
    assert first[1].folder == f"b-{first[1].hash[:8]}"


def test_dumps_and_dedup() -> None:
    cells = make_cells(config(grid={"dumps": "each"}), ["A", "B"])
    assert [(cell.name, cell.dumps) for cell in cells] == [("A", ("A",)), ("B", ("B",))]
    scopes = make_cells(config(grid={"dedup.scope": ["dump", "global"]}))
    assert [cell.dedup.scope for cell in scopes if cell.dedup] == ["dump", "global"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "has no cells"),
        ({"grid": {"edu": [1, 2]}}, "no key of a recipe"),
        ({"grid": {"select.wrong": [1]}}, "unknown key"),
        ({"grid": {"select.budget": [-1]}}, "greater than 0"),
        ({"grid": {"edu": "each"}, "set": {"select.rules.edu": "edu_score > {edu}"}}, "no axis of dumps"),
        ({"grid": {"select.rules.edu": []}}, "has no values"),
        ({"grid": {"select.rules.edu": ["a > 1", "a > 1"]}}, "two cells are called"),
        ({"grid": {"n": list(range(80)), "m": list(range(80))}, "set": {"x": "{n}{m}"}}, "6,400 cells"),
        ({"base": "nothing", "grid": {"select.rules.edu": ["a > 1"]}}, "no recipe 'nothing'"),
    ],
)
def test_mistakes(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(FineeduError, match=message):
        make_cells(config(**settings))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: edu\nbass: x", "mine.yaml:2: bass: unknown key; known are name"),
        ("grid: {}", "base: is needed"),
        ("- a", "is a mapping"),
        ("base: [", "not valid YAML"),
        ("base: edu\ntrain: {tokens: 5}", "train.tokens: Input should be greater"),
        ("base: edu\ntrain: {tokens: 5000, seeds: [1, 1]}", "the same seed twice"),
    ],
)
def test_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(FineeduError, match=message):
        load_ablation(path)


def test_overrides_and_neighbouring_files(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text("{}")
    path = tmp_path / "mine.yaml"
    path.write_text("base: edu\nlabels: {files: [labels.jsonl]}\n")
    found = load_ablation(path, ["samples=7", "set.select.rules.edu=edu_score > 4", "grid.dumps=[A]"])
    assert found.samples == 7 and found.set == {"select.rules.edu": "edu_score > 4"} and found.grid == {"dumps": ["A"]}
    assert found.labels is not None and found.labels.files == [tmp_path / "labels.jsonl"]
    with pytest.raises(FineeduError, match="expected key=value"):
        load_ablation(path, ["samples"])
    with pytest.raises(FineeduError, match="no ablation 'x': shipped are"):
        load_ablation("x")


def test_help_names_what_is_shipped() -> None:
    assert list(shipped_ablations()) == SHIPPED.split(", ")


@pytest.mark.parametrize("name", list(shipped_ablations()))
def test_shipped_ablations_have_cells(name: str) -> None:
    found = load_ablation(name)
    assert found.description and len(make_cells(found, ["A", "B"])) >= 2
