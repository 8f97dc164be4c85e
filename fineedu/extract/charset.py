"""The real character set of a page, which is often not the one it declares."""

from __future__ import annotations

import codecs
import re

from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

#: Where the HTML standard lets a page declare its charset; real pages often need a bit more than its 1,024 bytes.
_PRESCAN_BYTES = 4096
_META_CHARSET = re.compile(rb"""charset\s*=\s*["']?\s*([\w.:-]{2,40})""", re.IGNORECASE)
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def _known(label: str | None) -> str | None:
    """Return the decoder that browsers use for a label, or None where there is no such charset."""
    if not label:
        return None
    try:
        name = map_encoding_to_html5(label.strip().lower())
        return codecs.lookup(name).name if name else None
    except (LookupError, ValueError):
        return None


def _decoded(body: bytes, charset: str) -> str | None:
    """Return the text, or None where the bytes are not valid in a charset."""
    try:
        return body.decode(charset)
    except (UnicodeDecodeError, LookupError):
        return None


def decode_page(body: bytes, declared: str | None) -> tuple[str, str]:
    """Decode a page by the charset it is really in.

    Order of evidence: byte-order mark; bytes that are valid UTF-8 and not plain ASCII (text in another charset
    is valid UTF-8 by accident almost never); the HTTP header; the page's own ``<meta>``; statistics of the
    bytes (uchardet). A declared charset counts only if the bytes are valid in it; where header and ``<meta>``
    differ and the statistics agree with the latter, it wins; where neither is valid, the statistics decide.

    Args:
        body: the page as sent, after content decoding.
        declared: charset parameter of the HTTP ``Content-Type``, if any.

    Returns:
        The text, and the name of the charset. Bytes invalid even in the best charset become U+FFFD.
    """
    for bom, name in _BOMS:
        if body.startswith(bom):
            return body[len(bom) :].decode(name, "replace"), name
    declarations = [_known(declared)]
    if (meta := _META_CHARSET.search(body[:_PRESCAN_BYTES])) is not None:
        declarations.append(_known(meta[1].decode("ascii", "ignore")))
    if not body.isascii() or not any(declarations):
        declarations.insert(0, "utf-8")
    valid = [
        (text, name) for name in dict.fromkeys(declarations) if name and (text := _decoded(body, name)) is not None
    ]
    if len(valid) > 1 and valid[0][1] != "utf-8" and _known(detect_encoding(body)) == valid[1][1]:
        return valid[1]  # any bytes are valid windows-1252: of two declarations the statistics choose
    if valid:
        return valid[0]
    # A few broken bytes in an otherwise good UTF-8 page must not turn all its accents into mojibake.
    text = body.decode("utf-8", "replace")
    if text.count("\ufffd") * 100 < sum(map(len, re.findall(r"[^\x00-\x7f]+", text))) * 5:
        return text, "utf-8"
    detected = detect_encoding(body) or "windows-1252"
    return str(bytes_to_str(body, detected, "replace")), str(detected)
