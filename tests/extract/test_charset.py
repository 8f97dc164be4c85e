from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fineedu.extract.charset import decode_page

GERMAN = "Größe, Übermut und Straße – «Käse»"
RUSSIAN = "Это обычный русский текст, по которому легко узнать кодировку страницы."
JAPANESE = "これは日本語の文章です。文字コードを調べるために書きました。"


@pytest.mark.parametrize("charset", ["utf-8", "windows-1252", "iso-8859-15"])
def test_header_charset(charset: str) -> None:
    text = GERMAN.replace("«", "").replace("»", "").replace("–", "-")
    assert decode_page(text.encode(charset), charset)[0] == text


@pytest.mark.parametrize(
    ("text", "charset"),
    [(RUSSIAN, "windows-1251"), (RUSSIAN, "koi8-r"), (JAPANESE, "shift_jis"), (JAPANESE, "euc-jp")],
)
def test_meta_charset_where_the_header_has_none(text: str, charset: str) -> None:
    page = f'<html><head><meta charset="{charset}"></head><body>{text}</body>'
    assert decode_page(page.encode(charset), None)[0] == page


@pytest.mark.parametrize(
    ("text", "charset"),
    [(RUSSIAN * 5, "windows-1251"), (JAPANESE * 5, "euc-jp"), (JAPANESE * 5, "shift_jis")],
)
def test_header_that_lies(text: str, charset: str) -> None:
    assert decode_page(text.encode(charset), "utf-8")[0] == text


def test_utf8_declared_as_latin1_is_utf8() -> None:
    assert decode_page(GERMAN.encode(), "iso-8859-1") == (GERMAN, "utf-8")


@pytest.mark.parametrize(
    ("bom", "charset"),
    [(codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")],
)
def test_byte_order_mark_wins(bom: bytes, charset: str) -> None:
    assert decode_page(bom + GERMAN.encode(charset), "windows-1252") == (GERMAN, charset)


def test_iso_2022_jp_is_ascii_bytes() -> None:
    assert decode_page(JAPANESE.encode("iso-2022-jp"), "iso-2022-jp")[0] == JAPANESE


def test_unknown_label_and_a_few_broken_bytes() -> None:
    broken = (GERMAN * 20).encode() + b"\xff" + GERMAN.encode()
    text, charset = decode_page(broken, "no-such-charset")
    assert charset == "utf-8"
    assert text.count("\ufffd") == 1


@given(
    st.binary(max_size=400),
    st.none() | st.text(max_size=20) | st.sampled_from(["utf-8", "utf-7", "hex", "idna", "zlib", "replacement"]),
)
def test_any_bytes_give_text(body: bytes, declared: str | None) -> None:
    text, charset = decode_page(body, declared)
    assert isinstance(text, str)
    assert charset


def test_meta_wins_over_a_header_that_fits_all_bytes() -> None:
    text = "Это обычный русский текст, по которому легко узнать кодировку страницы. " * 5
    body = f'<meta charset="windows-1251"><p>{text}'.encode("windows-1251")
    assert decode_page(body, "windows-1252") == (body.decode("windows-1251"), "cp1251")
    french = f'<meta charset="windows-1251"><p>{"Voilà une élève française très appliquée. " * 5}'.encode(
        "windows-1252"
    )
    assert decode_page(french, "windows-1252")[1] == "cp1252"
