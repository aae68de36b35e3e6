"""Text for people: foreign text made harmless, figures made short."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


@lru_cache(maxsize=4096)
def printable(text: str) -> str:
    """`text` with all that could move a cursor, colour, hide or reorder shown as `\\xNN`.

    Names and command lines are chosen by whoever runs on the host. Control and
    format characters, surrogates (bytes that were no UTF-8), line separators and
    unassigned code points are escaped; the rest stays.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _escape(char) if unicodedata.category(char) in _UNSAFE_CATEGORIES else char for char in text
    )


def _escape(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # surrogateescape: one raw byte
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def char_width(char: str) -> int:
    """Terminal columns of one character: 0, 1 or 2."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def width(text: str) -> int:
    """Terminal columns of `text`."""
    return len(text) if text.isascii() else sum(map(char_width, text))


def fit(text: str, columns: int, align: str = "<") -> str:
    """`text` cut with `…` or padded to exactly `columns` terminal columns."""
    if width(text) > columns:
        kept, used = [], 0
        for char in text:
            size = char_width(char)
            if used + size > columns - 1:
                break
            kept.append(char)
            used += size
        text = "".join(kept) + "…"
    padding = " " * (columns - width(text))
    return padding + text if align == ">" else text + padding


def duration(us: int | None) -> str:
    """Microseconds in three significant figures: `850 µs`, `9.1 ms`, `1.2 s`, `3 min`, `2 h`."""
    if us is None:
        return "–"
    if us < 1_000:
        return f"{us} µs"
    if us < 10_000:
        return f"{us / 1_000:.1f} ms"
    if us < 1_000_000:
        return f"{us // 1_000} ms"
    if us < 60_000_000:
        return f"{us / 1_000_000:.1f} s"
    if us < 7_200_000_000:
        return f"{us // 60_000_000} min"
    return f"{us // 3_600_000_000} h"


def percent(part: int, whole: int) -> str:
    """`part` of `whole`; `–` of nothing; never 100 % or 0 % unless exactly so."""
    if not whole:
        return "–"
    if part == whole:
        return "100%"
    share = 100 * part / whole
    if share and share < 1:
        return "<1%"
    return f"{min(99, round(share))}%"


def endpoint(address: str, port: int) -> str:
    """`10.0.0.1:80`, `[::1]:80`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
