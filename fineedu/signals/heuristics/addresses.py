"""Kernel that recognises a URL, a bare host name or an e-mail address, so that it stays one word."""

from __future__ import annotations

from typing import Any

from fineedu.kernels.compiled import inner
from fineedu.signals.heuristics.characters import ALPHANUMERIC, DECIMAL, HOST, LOWER

_LONGEST_LABEL = 64
_LONGEST_TOP_LEVEL = 63


@inner
def _after_scheme(points: Any, classes: Any, lo: int, hi: int) -> int:
    """Where the host starts if the chunk starts with ``scheme://``, else -1."""
    i = lo
    while i < hi:
        point = points[i]
        if not (
            classes[i] & ALPHANUMERIC
            or point == ord("_") or point == ord("+") or point == ord("-") or point == ord(".")
        ):  # fmt: skip
            break
        i += 1
    if i - lo < 2 or i + 2 >= hi:
        return -1
    slashes = points[i + 1] == ord("/") and points[i + 2] == ord("/")
    return i + 3 if points[i] == ord(":") and slashes else -1


@inner
def _ends_well(points: Any, classes: Any, i: int, hi: int) -> Any:
    """Whether nothing, a port or a path follows the host that ends at ``i``."""
    if i < hi and points[i] == ord(":"):
        i += 1
        start = i
        while i < hi and classes[i] & DECIMAL:
            i += 1
        if i - start < 2 or i - start > 5:
            return False
    return i == hi or points[i] == ord("/") or points[i] == ord("?") or points[i] == ord("#")


@inner
def _is_label(points: Any, start: int, end: int) -> Any:
    """Whether a part of a host name has 1 to 64 characters and no hyphen or underscore at its ends."""
    if not 1 <= end - start <= _LONGEST_LABEL:
        return False
    first = points[start]
    last = points[end - 1]
    return first != ord("-") and first != ord("_") and last != ord("-") and last != ord("_")


@inner
def _is_public_ip(points: Any, start: int, end: int) -> bool:
    """Whether the span is a dotted address outside the private and reserved networks."""
    octets = [0, 0, 0, 0]
    count = 0
    digits = 0
    for i in range(start, end):
        if points[i] == ord("."):
            if digits == 0 or count == 3:
                return False
            count += 1
            digits = 0
        elif ord("0") <= points[i] <= ord("9") and digits < 3:
            octets[count] = octets[count] * 10 + int(points[i]) - ord("0")
            digits += 1
        else:
            return False
    if count != 3 or digits == 0:
        return False
    a, b, c, d = octets
    if not 1 <= a <= 223 or b > 255 or c > 255 or not 1 <= d <= 254:
        return False
    if a == 10 or a == 127 or (a == 169 and b == 254) or (a == 192 and b == 168):
        return False
    return not (a == 172 and 16 <= b <= 31)


@inner
def _is_host(points: Any, classes: Any, start: int, hi: int) -> bool:
    """Whether a host name (with a lower-case top level) or an IP address starts here and the rest fits."""
    i = start
    label = start
    lower = True
    labels = 0
    while i < hi and classes[i] & HOST:
        if points[i] == ord("."):
            if not _is_label(points, label, i):
                return False
            label = i + 1
            labels += 1
            lower = True
        elif not classes[i] & LOWER:
            lower = False
        i += 1
    if labels == 0 or not _ends_well(points, classes, i, hi):
        return False
    if lower and 2 <= i - label <= _LONGEST_TOP_LEVEL:
        return True
    return labels == 3 and _is_public_ip(points, start, i)


@inner
def is_address(points: Any, classes: Any, lo: int, hi: int) -> bool:
    """Whether the whole chunk is an address; every ``@`` may end a user name."""
    if _is_host(points, classes, lo, hi):
        return True
    start = _after_scheme(points, classes, lo, hi)
    if start >= 0 and _is_host(points, classes, start, hi):
        return True
    i = lo + 1
    while i < hi and not (points[i] == ord("@") and _is_host(points, classes, i + 1, hi)):
        i += 1
    return i < hi
