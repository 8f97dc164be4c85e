"""Hostile WARC files, each a function without arguments that returns bytes, and what a perfect reader gets.

`HOSTILE` maps a name to its builder, `EXPECTED` the same name to an `Expected`: between `least` and `most`
records with text. Where the two differ, the file leaves a choice (a page without a URL may be kept or not)
and the note, which is the builder's docstring, says which. Every good page carries `marker(n)`, so that a
test can ask which pages came through; pages 1 and 2 stand before and after the damage unless the docstring
says otherwise.
"""

from __future__ import annotations

from tests import warc_fixtures_content, warc_fixtures_damage
from tests.warc_fixtures_damage import big_page
from tests.warc_pages import EXPECTED, HOSTILE, Expected, good, html, marker, packed, uri

_REGISTERED = (warc_fixtures_content, warc_fixtures_damage)  # importing them fills the register

__all__ = ["EXPECTED", "HOSTILE", "Expected", "big_page", "good", "html", "marker", "packed", "uri"]
