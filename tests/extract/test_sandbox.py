from __future__ import annotations

import multiprocessing
import os
import time

import pytest

from fineedu.extract.sandbox import Sandbox, SandboxLimits
from tests.archives import PARAGRAPH, html_page

GOOD = html_page(PARAGRAPH, PARAGRAPH)


def burn(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@pytest.mark.parametrize("backend", ["trafilatura", "resiliparse"])
def test_text_title_and_date(backend) -> None:
    page = html_page(
        PARAGRAPH,
        title="Leaves &amp; light",
        head='<meta property="article:published_time" content="2021-05-04T10:00:00Z">',
    )
    with Sandbox(SandboxLimits(backend=backend)) as sandbox:
        (found,) = sandbox.extract([("html", "utf-8", page)])
    assert PARAGRAPH in found.text
    assert (found.title, found.published, found.reason) == ("Leaves & light", "2021-05-04", None)


def test_page_over_its_cpu_time_is_named_and_the_next_ones_come() -> None:
    slow = b"<html><body>" + b"<p>word after <a href=x>word</a> and more</p>" * 60_000 + b"</body></html>"
    with Sandbox(SandboxLimits(cpu_seconds=0.4)) as sandbox:
        found = list(sandbox.extract([("html", None, body) for body in (GOOD, slow, GOOD, GOOD)]))
    assert [page.reason for page in found] == [None, "cpu_limit", None, None]


def test_memory_limit() -> None:
    heavy = b"<html><body>" + b"<p>a<b>b</b></p>" * 400_000 + b"</body></html>"
    with Sandbox(SandboxLimits(memory_mb=128, cpu_seconds=60)) as sandbox:
        found = list(sandbox.extract([("html", None, body) for body in (GOOD, heavy, GOOD)]))
    assert found[0].text == found[2].text != ""
    assert found[1].reason in ("memory_limit", "extractor_crash")


@pytest.mark.parametrize(
    "markup",
    [
        b"<div>" * 100_000 + b"deep",
        b"<table><tr><td>" * 100_000 + b"deep",
        b"<b " + b"a=1 " * 300_000 + b">x",
    ],
)
def test_hostile_markup_ends_well(markup: bytes) -> None:
    with Sandbox(SandboxLimits(cpu_seconds=10)) as sandbox:
        found = list(sandbox.extract([("html", None, b"<html><body>" + markup), ("html", None, GOOD)]))
    assert found[1].reason is None
    assert len(found) == 2


def test_a_busy_machine_loses_no_page() -> None:
    # Every processor is kept busy three times over: by the wall clock the pages take far longer than their limit.
    burners = [
        multiprocessing.get_context("forkserver").Process(target=burn, args=(6,))
        for _ in range(3 * (os.cpu_count() or 1))
    ]
    for burner in burners:
        burner.start()
    try:
        with Sandbox(SandboxLimits(cpu_seconds=1.0)) as sandbox:
            found = list(sandbox.extract([("html", None, GOOD)] * 40))
    finally:
        for burner in burners:
            burner.kill()
            burner.join()
    assert {page.reason for page in found} == {None}


def test_control_characters_and_surrogates_are_gone() -> None:
    page = "<html><body><p>one\x00 two\x1b[31m three &#0; &#xD800; four\u202e five six seven eight nine ten</p></body></html>"
    with Sandbox(SandboxLimits()) as sandbox:
        (found,) = sandbox.extract([("html", None, page.encode())])
    assert "\x00" not in found.text
    assert "\x1b" not in found.text
    found.text.encode()


def test_plain_text_is_taken_as_it_is() -> None:
    with Sandbox(SandboxLimits()) as sandbox:
        (found,) = sandbox.extract([("text", None, b"one\r\ntwo <b>\r\n")])
    assert found.text == "one\ntwo <b>"
