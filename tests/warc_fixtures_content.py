"""Hostile WARC files: strange payloads, headers, record kinds and containers."""

from __future__ import annotations

import random

import zstandard

from tests.warc_bytes import (
    CRLF,
    gzip_member,
    header_block,
    http_response,
    record_id,
    warc_record,
    warcinfo,
)
from tests.warc_pages import between, good, good_text, hostile, html, packed, page, uri

# ---- payloads


@hostile(2)
def empty_body() -> bytes:
    """A response with headers and no body, and one whose block is empty altogether."""
    return between(page(http_response(b"")), warc_record(b"", uri(4)))


@hostile(3)
def other_content_types() -> bytes:
    """PDF, JPEG and JSON give nothing; text/plain is text as it stands, with its `<` and `&`."""
    pdf = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + random.Random(1).randbytes(3000) + b"\n%%EOF\n"
    jpeg = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + random.Random(2).randbytes(3000) + b"\xff\xd9"
    blocks = [
        http_response(pdf, "application/pdf"),
        http_response(jpeg, "image/jpeg"),
        http_response(b'{"title": "' + good_text(6).encode() + b'"}', "application/json"),
        http_response(f"if a < b & b < c:\n\n{good_text(7)}\n".encode(), "text/plain; charset=utf-8"),
    ]
    return between(*(page(block, 4 + i) for i, block in enumerate(blocks)))


@hostile(2)
def binary_declared_html() -> bytes:
    """A PNG served as text/html: nothing that looks like text may come of it."""
    body = b"\x89PNG\r\n\x1a\n" + random.Random(3).randbytes(20_000)
    return between(page(http_response(body)))


@hostile(4)
def content_type_missing_or_odd() -> bytes:
    """HTML without a Content-Type, and HTML with the type in capitals and stray semicolons."""
    odd = http_response(html(4), 'TEXT/HTML;; Charset = "UTF-8" ;')
    return between(page(http_response(html(3), None)), page(odd, 4))


@hostile(3)
def nul_bytes() -> bytes:
    """NULs inside words, tags and between paragraphs: the text before and after them stays."""
    body = html(3).replace(b"<p>", b"<p>\x00", 1).replace(b"</p>", b"</p>\x00\x00")
    body = body.replace(b"moorings", b"moor\x00ings")
    return between(page(http_response(body)))


@hostile(4)
def utf16_with_bom() -> bytes:
    """UTF-16 little and big endian with their byte order marks, the header silent about the charset."""
    text = html(3).decode()
    little, big = b"\xff\xfe" + text.encode("utf-16-le"), b"\xfe\xff" + text.encode("utf-16-be")
    return between(page(http_response(little, "text/html")), page(http_response(big, "text/html"), 4))


@hostile(3)
def declared_utf8_is_windows1251() -> bytes:
    """Header and meta say UTF-8, the bytes are windows-1251: the text should still come out Russian."""
    russian = (
        "Утром прилив сменился отливом, и лодки в гавани медленно развернулись. "
        "Ветер с запада держал флаги ровно. Барометр у двери конторы за ночь упал на четыре деления. "
        "Паром уйдёт, когда рассеется туман. "
    )
    head = "<html><head><meta charset=utf-8><title>Гавань</title></head>"
    body = f"{head}<body><p>{russian * 3}</p></body></html>".encode("cp1251")
    return between(page(http_response(body)))


@hostile(3)
def unknown_charset() -> bytes:
    """The charset label is one that does not exist."""
    return between(page(http_response(html(3), "text/html; charset=x-klingon-8")))


@hostile(5)
def charset_is_a_codec_that_is_no_charset() -> bytes:
    """The labels name Python codecs which are not charsets: base64, rot13 and idna."""
    labels = ["base64", "rot13", "idna"]
    pages = [http_response(html(3 + i), f"text/html; charset={label}") for i, label in enumerate(labels)]
    return between(*(page(block, 3 + i) for i, block in enumerate(pages)))


@hostile(3)
def surrogates_and_noncharacters() -> bytes:
    """Encoded surrogates, U+FFFE and character references to both: the text must still encode as UTF-8."""
    body = html(3, "<p>&#xD800; &#xDFFF; &#xFFFE; &#0; &#x110000; \ufffe</p>")
    body = body.replace(b"flags", b"fl\xed\xa0\x80ags")
    return between(page(http_response(body)))


@hostile(2, 3)
def deep_divs() -> bytes:
    """A hundred thousand nested divs around the text: it may be lost, the stack may not."""
    body = html(3).replace(b"<article>", b"<div>" * 100_000).replace(b"</article>", b"</div>" * 100_000)
    return between(page(http_response(body)))


@hostile(2, 3)
def deep_tables() -> bytes:
    """A hundred thousand nested tables whose cells span a million columns and rows."""
    cell = b"<table><tr><td colspan=1000000 rowspan=1000000>"
    body = html(3).replace(b"<article>", cell * 100_000)
    return between(page(http_response(body)))


@hostile(2, 3)
def unclosed_inline_tags() -> bytes:
    """Twenty thousand unclosed formatting tags, which HTML5 tree builders reopen in every paragraph."""
    body = html(3, "<b><i><font color=red><a href=x>" * 5000 + "<p>" * 200)
    return between(page(http_response(body)))


@hostile(2, 3)
def million_attributes() -> bytes:
    """A million attributes: 100,000 different ones on one element, and 900 elements of 1,000."""
    one = "<p " + " ".join(f"a{i}=1" for i in range(100_000)) + ">"
    many = "<p " + " ".join(f"a{i}=1" for i in range(1000)) + "></p>"
    return between(page(http_response(html(3, one + many * 900))))


@hostile(3)
def many_entities() -> bytes:
    """A hundred thousand character references, named, numeric, unterminated and unknown."""
    body = html(3, "<p>" + "&amp;&#228;&#x1F600;&nbsp&notaname;" * 20_000 + "</p>")
    return between(page(http_response(body)))


@hostile(2, 3)
def doctype_entity_expansion() -> bytes:
    """An XHTML page with the "billion laughs" entities in its doctype."""
    levels = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))
    head = f'<?xml version="1.0"?><!DOCTYPE html [<!ENTITY l0 "lol">{levels}]>'
    body = head.encode() + html(3, "<p>&l9;</p>").removeprefix(b"<!DOCTYPE html>")
    return between(page(http_response(body, "application/xhtml+xml")))


@hostile(2, 3)
def one_endless_line() -> bytes:
    """Two million characters without a space in one paragraph: quadratic patterns show here."""
    return between(page(http_response(html(3, "<p>" + "a" * 2_000_000 + "</p>"))))


@hostile(3)
def breaks_terminals_and_tables() -> bytes:
    """Text with ANSI escapes, closing script tags, comment openers, formulas, quotes and RTL overrides."""
    nasty = (
        "<p>\x1b[2J\x1b[31mred\x1b[0m \x1b]0;title\x07 \x08\x08 &lt;/script&gt;&lt;script&gt;alert(1)"
        '&lt;/script&gt; &lt;!-- &lt;/td&gt; ]]&gt; =HYPERLINK("x") , "quoted", \'; DROP TABLE documents; -- '
        "\u202egnol\u202c \u2066x\u2069 "
        "{{ 7 * 7 }} ${HOME} %s %n \\u0000 &#8232; \u0085</p>"
    )
    return between(page(http_response(html(3, nasty))))


# ---- headers


@hostile(3)
def invalid_utf8_in_headers() -> bytes:
    """Latin-1 and stray bytes in WARC and HTTP header values."""
    http = http_response(html(3)).replace(b"200 OK", b"200 D\xe9j\xe0 vu\xff", 1)
    record = warc_record(http, uri(3), extra=[("X-Crawler", "caf@")]).replace(b"caf@", b"caf\xe9")
    return between(record)


@hostile(2, 3)
def missing_target_uri() -> bytes:
    """No WARC-Target-URI: the page may be kept with a null URL or dropped."""
    return between(warc_record(http_response(html(3)), None))


@hostile(4)
def missing_record_id() -> bytes:
    """No WARC-Record-ID on two pages: they get ids of their own, the same in every run."""
    return between(*(warc_record(http_response(html(n)), uri(n), identity=None) for n in (3, 4)))


@hostile(4)
def duplicate_record_ids() -> bytes:
    """Two different pages under one WARC-Record-ID: both are there, and must not be taken for one."""
    return between(*(warc_record(http_response(html(n)), uri(n), identity=record_id("same")) for n in (3, 4)))


@hostile(3)
def missing_date() -> bytes:
    """No WARC-Date: null, not today and not 1970."""
    return between(warc_record(http_response(html(3)), uri(3), date=None))


@hostile(8)
def invalid_dates() -> bytes:
    """Dates that are words, out of range, of year 0 and 9999, with fractions, and in ARC's form."""
    dates = ["yesterday", "2024-13-45T99:99:99Z", "0000-00-00T00:00:00Z", "9999-12-31T23:59:59Z",
             "2024-03-05T12:00:00.123456789Z", "20240305120000"]  # fmt: skip
    pages = [http_response(html(3 + i)) for i in range(len(dates))]
    return between(*(warc_record(pages[i], uri(3 + i), date=date) for i, date in enumerate(dates)))


@hostile(2, 4)
def giant_headers() -> bytes:
    """A WARC header of one megabyte, then an HTTP header of one megabyte, with text after each."""
    long = [("X-Padding", "p" * 1_000_000)]
    return between(
        warc_record(http_response(html(3)), uri(3), extra=long),
        page(http_response(html(4), extra=long), 4),
    )


@hostile(2, 3)
def many_header_fields() -> bytes:
    """Fifty thousand HTTP header fields."""
    return between(page(http_response(html(3), extra=[(f"X-{i}", "v") for i in range(50_000)])))


@hostile(6)
def odd_http_heads() -> bytes:
    """HTTP/2 status line, no reason phrase, bare line feeds, and a folded header line."""
    plain = http_response(html(3))
    head, body = plain.split(CRLF + CRLF, 1)
    blocks = [
        plain.replace(b"HTTP/1.1 200 OK", b"HTTP/2 200", 1),
        plain.replace(b" OK", b"", 1),
        head.replace(CRLF, b"\n") + b"\n\n" + body,
        head + CRLF + b"X-Folded: one" + CRLF + b"\ttwo" + CRLF + CRLF + body,
    ]
    return between(*(page(block, 3 + i) for i, block in enumerate(blocks)))


@hostile(2, 3)
def no_http_head() -> bytes:
    """A response record whose block is HTML at once, without an HTTP head."""
    return between(page(html(3)))


@hostile(5)
def odd_uris() -> bytes:
    """URLs with spaces and quotes, with letters outside ASCII, and with control characters."""
    uris = ["https://fixtures.example/a b/\"c\" d.html", "https://bücher.example/straße/日本?q=ü",
            "https://fixtures.example/\x01\x7f\x1b[31m/x"]  # fmt: skip
    return between(*(warc_record(http_response(html(3 + i)), u) for i, u in enumerate(uris)))


@hostile(2, 4)
def odd_schemes() -> bytes:
    """A dns: record, which is no page, and pages under javascript: and data:, which may be kept or not."""
    dns = warc_record(b"20240305120000\nfixtures.example. 300 IN A 192.0.2.1\n", "dns:fixtures.example",
                      content_type="text/dns")  # fmt: skip
    uris = {3: "javascript:void(0)", 4: "data:text/html,x"}
    pages = [warc_record(http_response(html(n)), odd) for n, odd in uris.items()]
    return between(dns, *pages)


# ---- record kinds and containers


@hostile(3)
def revisit_records() -> bytes:
    """A page and two revisits of it, one with the HTTP head and one empty: no text of their own."""
    head = header_block("HTTP/1.1 200 OK", [("Content-Type", "text/html")])
    profile = [("WARC-Profile", "http://netpreserve.org/warc/1.0/revisit/identical-payload-digest")]
    date = "2024-03-06T12:00:00Z"
    with_head = warc_record(head, uri(3), "revisit", date=date, extra=profile)
    without = warc_record(b"", uri(3), "revisit", date=date, extra=profile, identity=record_id("revisit"))
    return between(good(3), with_head, without)


@hostile(0)
def requests_only() -> bytes:
    """Requests and metadata, no response: a valid file without pages."""
    request = header_block("GET /page-1.html HTTP/1.1", [("Host", "fixtures.example")])
    kind = "application/http; msgtype=request"
    metadata = warc_record(b"fetchTimeMs: 12\r\n", uri(1), "metadata", "application/warc-fields")
    return packed(warc_record(request, uri(1), "request", kind), metadata)


@hostile(2)
def resource_records() -> bytes:
    """Pages as `resource` records, the block being the HTML itself, as browser-based crawlers write them."""
    return packed(*(warc_record(html(n), uri(n), "resource", "text/html") for n in (1, 2)))


@hostile(2)
def error_statuses() -> bytes:
    """Pages of text under 301, 404 and 503: not documents."""
    statuses = ["301 Moved Permanently", "404 Not Found", "503 Service Unavailable"]
    return between(*(page(http_response(html(3 + i), status=s), 3 + i) for i, s in enumerate(statuses)))


@hostile(0)
def zero_bytes() -> bytes:
    """An empty file: no pages, and worth a warning."""
    return b""


@hostile(0)
def random_bytes() -> bytes:
    """Not a WARC at all: an error that names the file."""
    return random.Random(4).randbytes(50_000)


@hostile(0)
def html_file() -> bytes:
    """An HTML file given for a WARC, for instance a server's error page saved under its name."""
    return html(1)


@hostile(0)
def gzip_of_text() -> bytes:
    """A gzip file of plain text, for instance the list of WARC paths itself."""
    return gzip_member(b"".join(b"crawl-data/segment/warc/file-%05d.warc.gz\n" % i for i in range(500)))


@hostile(3)
def uncompressed() -> bytes:
    """A valid WARC without compression."""
    return warcinfo("plain.warc", [("software", "fixtures")]) + good(1) + good(2) + good(3)


@hostile(2, 4)
def uncompressed_with_damage() -> bytes:
    """No compression, and page 3's length 200 too long, into page 2: only a `WARC/` line helps.

    Pages 1 and 4 must come; page 3 is whole but its length is not, and page 2 is found by looking back.
    """
    block = http_response(html(3))
    return good(1) + warc_record(block, uri(3), length=len(block) + 200) + good(2) + good(4)


@hostile(3)
def zstd_frames() -> bytes:
    """One Zstandard frame a record (.warc.zst) without a dictionary."""
    pack = zstandard.ZstdCompressor(level=3)
    return b"".join(pack.compress(good(n)) for n in (1, 2, 3))


@hostile(3)
def single_member() -> bytes:
    """All records in one gzip member, as `gzip file.warc` makes it."""
    return gzip_member(good(1) + good(2) + good(3))


def _arc_records() -> list[bytes]:
    """ARC 1.0: a version block, then `URL IP date type length` lines and their documents."""
    version = b"1 0 Fixtures\nURL IP-address Archive-date Content-type Archive-length\n"
    first = b"filedesc://fixtures.arc 192.0.2.1 20090305120000 text/plain %d\n" % len(version)
    parts = [first + version + b"\n"]
    for n in (1, 2):
        block = http_response(html(n))
        line = f"{uri(n)} 192.0.2.1 2009030512000{n} text/html {len(block)}\n"
        parts.append(line.encode() + block + b"\n")
    return parts


@hostile(0, 2)
def arc() -> bytes:
    """ARC 1.0, the format before WARC: read it, or say plainly that it is ARC."""
    return b"".join(_arc_records())


@hostile(0, 2)
def arc_gz() -> bytes:
    """ARC 1.0, one gzip member a record."""
    return packed(*_arc_records())


@hostile(2)
def wet() -> bytes:
    """A WET file: `conversion` records that hold plain text already."""
    texts = [
        warc_record(f"Harbour log {n}\n{good_text(n)}".encode(), uri(n), "conversion", "text/plain") for n in (1, 2)
    ]
    return packed(warcinfo("fixtures.warc.wet.gz", [("software", "fixtures")]), *texts)
