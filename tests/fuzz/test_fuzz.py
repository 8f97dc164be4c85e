"""Whatever is read from outside ends with a value or with one clear error: archives, recipes, expressions, bundles.

``make fuzz`` does the same for longer: ``FINEEDU_FUZZ`` is the number of examples of each test, chosen anew each time.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
import yaml
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fineedu.classify.bundle import load_bundle
from fineedu.download import unpack
from fineedu.errors import FineeduError
from fineedu.extract.archive import Archive
from fineedu.recipe import load_recipe, shipped_recipes
from fineedu.select.rules import Rules
from tests.archives import html_page, numbered_pages, response
from tests.conftest import ROOT

EXAMPLES = int(os.environ.get("FINEEDU_FUZZ", "0"))
bounded = settings(
    max_examples=EXAMPLES or 60,
    derandomize=not EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
if EXAMPLES:
    pytestmark = pytest.mark.timeout(3600)

_RECORDS = [
    *numbered_pages(3),
    response(gzip.compress(html_page("x" * 500)), headers="Content-Type: text/html\r\nContent-Encoding: gzip"),
    response(b"5\r\nhello\r\n0\r\n\r\n", headers="Content-Type: text/plain\r\nTransfer-Encoding: chunked"),
]
_ARC = b"filedesc://a.arc 0.0.0.0 20200101000000 text/plain 69\n1 0 A\nURL IP-address Archive-date Content-type Archive-length\n\n"
_PACKED = [
    b"".join(_RECORDS),
    b"".join(gzip.compress(record) for record in _RECORDS),
    b"".join(zstandard.compress(record) for record in _RECORDS),
    _ARC + b"http://a.example/ 1.2.3.4 20200101000000 text/html 30\nHTTP/1.0 200 OK\n\n<p>hello</p>\n\n",
]


def mutated(data: bytes, seed: int) -> bytes:
    """Return data with a few bytes flipped, cut out, repeated, or replaced by numbers that break parsers."""
    chance, found = random.Random(seed), bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(found) + 1)
        match chance.randrange(5):
            case 0:
                found[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del found[at : at + chance.randint(1, 40)]
            case 2:
                found[at:at] = found[at : at + chance.randint(1, 60)]
            case 3:
                found[at : at + 4] = chance.choice([b"\x00" * 4, b"\xff" * 4, b"-1\r\n", b"9" * 30, b"\r\n\r\n"])
            case _:
                del found[at:]
    return bytes(found)


@bounded
@given(st.sampled_from(_PACKED), st.integers(0, 2**32))
def test_archives(data: bytes, seed: int) -> None:
    archive = Archive(io.BytesIO(mutated(data, seed)), page_bytes=5000)
    pages = list(archive)
    assert all(len(page.body) <= 5000 for page in pages)
    assert len(pages) <= 40


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)
_KEYS = [
    "extract",
    "signals",
    "dedup",
    "select",
    "write",
    "report",
    "engine",
    "name",
    "rules",
    "top",
    "mixture",
    "lines",
]


@bounded
@given(st.sampled_from(list(shipped_recipes().values())), st.sampled_from(_KEYS), _VALUES, st.integers(0, 2**32))
def test_recipes(tmp_path: Path, shipped: Path, key: str, value: object, seed: int) -> None:
    path = tmp_path / "recipe.yaml"
    raw = yaml.safe_load(shipped.read_text())
    raw[key] = value
    for content in (
        mutated(shipped.read_bytes(), seed),
        yaml.safe_dump(raw, allow_unicode=True).encode("utf-8", "surrogatepass"),
    ):
        path.write_bytes(content)
        try:
            load_recipe(path)
        except FineeduError as error:
            assert "recipe.yaml" in str(error)


def test_a_recipe_that_grows_without_end(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    levels = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))
    path.write_text(f"a0: &a0 [x, x]\n{levels}\n")
    with pytest.raises(FineeduError, match="unknown key"):
        load_recipe(path)
    path.write_text("signals: " + "[" * 5000)
    with pytest.raises(FineeduError, match=r"recipe\.yaml"):
        load_recipe(path)
    path.write_text("signals: !!python/object/apply:os.system ['touch planted']\n")
    with pytest.raises(FineeduError, match="not valid YAML"):
        load_recipe(path)


_FRAME = pl.DataFrame(
    {"n": [1, None, 3], "x": [0.5, float("nan"), None], "s": ["a", None, "bäé"], "b": [True, None, False]}
)
_WORDS = "n x s b 1 0 -5 2.5 1e308 'a' '%' ( ) , + - * / % = <> < >= and or not is null in between like case when then else end"
_CALLS = (
    "abs( coalesce( length( lower( regexp_like( substr( round( pow( ln( cast( strpos( left( count( sum( as int date"
)
_EXPRESSIONS = st.lists(st.sampled_from([*_WORDS.split(), *_CALLS.split()]) | st.text(max_size=4), max_size=14)


@bounded
@given(_EXPRESSIONS.map(" ".join))
def test_expressions(sql: str) -> None:
    try:
        rules = Rules({"rule": sql}, dict(_FRAME.schema))
        judged = rules.judge(_FRAME)
    except FineeduError:
        return
    assert judged.height == 3


@bounded
@given(st.sampled_from(["edu-fasttext", "edu-static"]), st.integers(0, 2**32), st.booleans())
def test_bundles(tmp_path: Path, model: str, seed: int, structure: bool) -> None:
    folder = tmp_path / f"{model}-{seed}-{structure}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    source = ROOT / "models" / model
    content = (source / "bundle.json").read_bytes()
    if structure:  # valid JSON with one value replaced
        told = json.loads(content)
        chance = random.Random(seed)
        key = chance.choice(list(told))
        told[key] = chance.choice([None, -1, "../../etc/passwd", [], {"a": "\0"}, "x" * 100, [[1, 2]], {"../x": "y"}])
        content = json.dumps(told).encode()
    else:
        content = mutated(content, seed)
    (folder / "bundle.json").write_bytes(content)
    for path in source.iterdir():
        if path.is_file() and path.name != "bundle.json":
            (folder / path.name).symlink_to(path)
    try:
        load_bundle(folder)
    except FineeduError as error:
        assert str(folder.name) in str(error) or "model" in str(error)
    finally:
        shutil.rmtree(folder)


def _zip(names: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in names.items():
            zipped.writestr(name, content)
    return stream.getvalue()


@bounded
@given(st.integers(0, 2**32))
def test_zips(tmp_path: Path, seed: int) -> None:
    archive, folder = tmp_path / "a.zip", tmp_path / "out"
    archive.write_bytes(mutated(_zip({"bundle.json": b"{}", "deep/weights.bin": b"w" * 3000}), seed))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with suppress(FineeduError):
        unpack(archive, folder, "a.zip", limit=10_000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zip", "out"]
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 10_000 + 2**20
