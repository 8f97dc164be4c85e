from __future__ import annotations

from html import unescape

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fineedu.extract.html import Backend, extract_page

#: letters, digits, punctuation and symbols of all scripts: what a reference stands for on a page
SHOWN = st.characters(categories=("Lu", "Ll", "Lo", "Nd", "Pd", "Po", "Pf", "Sc", "Sm"))
WORDS = "A paragraph of plain words that is long enough to be taken for the main text of a page, as it should be."


def page(inside: str) -> str:
    return f"<html><head><title>T {inside} t</title></head><body><article><p>{WORDS} {inside} {WORDS}</p></article></body></html>"


@pytest.mark.parametrize("backend", ["trafilatura", "resiliparse"])
@settings(max_examples=60, deadline=None)
@given(SHOWN, st.sampled_from(["&#{:d};", "&#x{:x};", "&#X{:X};", "&#00{:d};", "&#{:d}"]))
@example("'", "&#{:d};")
@example("'", "&#x{:x};")
@example("\u2019", "&#{:d};")
@example("\u2013", "&#{:d};")
@example("\U0001d49c", "&#{:d};")
def test_numeric_references_stand_for_their_characters(backend: Backend, character: str, form: str) -> None:
    reference = form.format(ord(character))
    assert unescape(reference) == character
    found = extract_page(page(f"before{reference} after"), backend, "fast")
    assert found.title == f"T before{character} after t"
    assert f"before{character} after" in found.text


@pytest.mark.parametrize("backend", ["trafilatura", "resiliparse"])
@pytest.mark.parametrize(
    "reference", ["&#0;", "&#x0;", "&#8;", "&#31;", "&#x1F;", "&#55296;", "&#xDFFF;", "&#65535;", "&#xFFFE;"]
)
def test_references_to_no_character_cost_nothing_but_themselves(backend: Backend, reference: str) -> None:
    found = extract_page(page(f"before{reference} after"), backend, "fast")
    assert "before after" in found.text
    assert found.text.count(WORDS) == 2
