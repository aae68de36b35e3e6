"""Text for people: foreign text made harmless, figures made short."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from rich.cells import cell_len, set_cell_size

_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


@lru_cache(maxsize=4096)
def printable(text: str) -> str:
    r"""`text` with all that could move a cursor, colour, hide or reorder shown as `\xNN`.

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
    try:
        raw = char.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        raw = b""
    # One byte that was no UTF-8 (PEP 383), else the character by its number.
    is_byte = len(raw) == 1 and not char.isascii()
    return f"\\x{raw[0]:02x}" if is_byte else char.encode("unicode_escape").decode()


def json_safe(document: bytes) -> bytes:
    r"""JSON that says the same, with what printable() would escape written as `\uXXXX`.

    JSON's own rules leave all but the first 32 code points as they are, and a terminal obeys some of them.
    """
    if document.isascii() and b"\x7f" not in document:
        return document
    return "".join(
        _json_escape(char) if char > "~" and unicodedata.category(char) in _UNSAFE_CATEGORIES else char
        for char in document.decode()
    ).encode()


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def width(text: str) -> int:
    """Terminal columns of `text`, as Textual counts them too."""
    return cell_len(text)


def fit(text: str, columns: int, align: str = "<") -> str:
    """`text` cut with `…` or padded to exactly `columns` terminal columns."""
    if width(text) > columns:
        text = set_cell_size(text, columns - 1).rstrip() + "…"
    padding = " " * (columns - width(text))
    return padding + text if align == ">" else text + padding


_DURATIONS = (  # below this many microseconds, in this unit, with these decimals
    (1_000, 1, "µs", 0),
    (10_000, 1_000, "ms", 1),
    (1_000_000, 1_000, "ms", 0),
    (60_000_000, 1_000_000, "s", 1),
    (7_200_000_000, 60_000_000, "min", 0),
    (float("inf"), 3_600_000_000, "h", 0),
)


def duration(us: int | None) -> str:
    """Microseconds for people, rounded down: `850 µs`, `9.1 ms`, `88 ms`, `1.2 s`, `3 min`, `2 h`."""
    if us is None:
        return "–"
    _, unit_us, unit, decimals = next(row for row in _DURATIONS if us < row[0])
    tenths = us * 10 // unit_us
    return f"{tenths // 10}.{tenths % 10} {unit}" if decimals else f"{tenths // 10} {unit}"


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
