from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineedu.errors import FineeduError
from fineedu.recipe import load_recipe, shipped_recipes
from fineedu.runner import plan_run

RECIPE = """\
name: mine
signals:
  - exact
select:
  rules:
    language: language = 'en'
    length: text_bytes >= 250
write:
  columns: [id, text]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return path


def message(path: Path, text: str, *overrides: str) -> str:
    path.write_text(text)
    (path.parent / "a.warc").touch()
    with pytest.raises(FineeduError) as caught:
        plan_run(path, inputs=[str(path.parent / "a.warc")], output=path.parent / "out", overrides=overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["edu", "fineweb", "minimal"])
def test_shipped_recipes_are_sound(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.warc").touch()
    plan = plan_run(shipped_recipes()[name], inputs=[str(tmp_path / "a.warc")], output=tmp_path / "out")
    assert plan.job.recipe.description
    assert not (tmp_path / "out").exists()


def test_unknown_key_is_named_with_its_line(recipe: Path) -> None:
    found = message(recipe, RECIPE.replace("write:", "extract:\n  backedn: resiliparse\nwrite:"))
    assert f"{recipe}:9: extract.backedn: unknown key; known are backend, mode" in found


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "text_bytes >= 250",
            "text_byts >= 250",
            ":7: select.rules.length: 'text_byts >= 250' names 'text_byts', which is no column; did you mean text_bytes",
        ),
        ("language = 'en'", 'language = "en"', "a text value takes single quotes: 'en'"),
        ("text_bytes >= 250", "text_bytes >= ", "is no valid expression"),
        ("text_bytes >= 250", "text_bytes + 1", "gives"),
        ("text_bytes >= 250", "language >= 250", "is no valid expression"),
        ("text_bytes >= 250", "text_bytes > avg(text_bytes)", "calls 'avg'"),
        ("[id, text]", "[id, txt]", "no column 'txt'"),
        ("- exact", "- exakt", ":3: signals.0: no signal family 'exakt'"),
        ("- exact", "- {url: {nonsense: 1}}", ":3: signals.0: signal family 'url'"),
        ("name: mine", "name: [mine", "not valid YAML"),
        ("name: mine", "name: Mine!", ":1: name:"),
    ],
)
def test_mistakes_are_named(recipe: Path, old: str, new: str, expected: str) -> None:
    assert expected in message(recipe, RECIPE.replace(old, new))


def test_overrides(recipe: Path) -> None:
    loaded = load_recipe(
        recipe, ["extract.backend=resiliparse", "select.rules.length=", "select.rules.a.b=text_bytes > 1"]
    ).recipe
    assert loaded.extract.backend == "resiliparse"
    assert loaded.select.rules == {"language": "language = 'en'", "a.b": "text_bytes > 1"}
    assert loaded.hash != load_recipe(recipe).recipe.hash


@pytest.mark.parametrize(
    "setting", ["extract.backend", "=1", "extract.backend.deep=1", "extract.backend=[", "nonsense=1"]
)
def test_bad_overrides(recipe: Path, setting: str) -> None:
    with pytest.raises(FineeduError):
        load_recipe(recipe, [setting])


def test_no_such_recipe_lists_what_there_is() -> None:
    with pytest.raises(FineeduError, match="shipped are edu, fineweb, minimal"):
        load_recipe("edo")


def test_description_does_not_change_the_hash(recipe: Path) -> None:
    assert load_recipe(recipe, ["description=other words"]).recipe.hash == load_recipe(recipe).recipe.hash


@given(st.text(max_size=200))
def test_any_text_is_a_recipe_or_one_clear_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("recipes") / "any.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load_recipe(path)
    except FineeduError as error:
        assert str(path) in str(error)
