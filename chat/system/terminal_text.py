"""Text for the terminal: visible symbols for control characters, lines of a width, sizes and counts in words."""

from __future__ import annotations

import re
from unicodedata import category

# Not LRM, RLM and ALM: Hebrew and Arabic text needs them, and they affect only the characters beside them.
_DIRECTIONS = {
    0x202A: "LRE",
    0x202B: "RLE",
    0x202C: "PDF",
    0x202D: "LRO",
    0x202E: "RLO",
    0x2066: "LRI",
    0x2067: "RLI",
    0x2068: "FSI",
    0x2069: "PDI",
}


def _table() -> dict[int, str]:
    table = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
    table[0x7F] = "␡"
    # A C1 control is the single-character form of ESC and the character 0x40 below it (ECMA-48, 5.3): CSI is `ESC [`.
    table |= {code: "␛" + chr(code - 0x40) for code in range(0x80, 0xA0)}
    table |= {code: f"⟨{name}⟩" for code, name in _DIRECTIONS.items()}
    table |= {0x2028: "␤", 0x2029: "␤␤"}  # some programs break lines and paragraphs here
    table |= dict.fromkeys(range(0xD800, 0xE000), "\ufffd")  # a lone surrogate cannot be written at all
    return table


# CJK punctuation, kana, ideographs and hangul; closing punctuation stays at the character before it
_WIDE_CHARACTER = (
    "([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\U00020000-\U0003ffff][、。」』】）！，：；？]*)"
)

_UNSEEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})  # general categories
# Letters, marks and symbols that show nothing: fillers, joiners, variation selectors (Default_Ignorable_Code_Point in
# https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt), and the empty pattern of Braille
_UNSEEN_LETTERS = (
    (0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
    range(0x180B, 0x1810),
    range(0xFE00, 0xFE10),
    range(0xE0100, 0xE01F0),
)

_TABLE = _table()
_JSON_TABLE = {code: f"\\u{code:04x}" for code in _TABLE}
_LINE_TABLE = _TABLE | {0x0A: " ", 0x09: " "}


def escape_control_characters(text: str) -> str:
    """The text with every control character but newline and tab shown as a symbol, such as `␛` for ESC.

    Covers C0, DEL, C1, the directional embeddings, overrides and isolates, the Unicode line separators and lone
    surrogates. Characters are replaced one by one, so a text may come in pieces. The result does not change if it is
    escaped again.
    """
    return text.translate(_TABLE)


def escape_line(text: str) -> str:
    """The text on one line, for a title, a name or a table cell: as above, and newlines and tabs become spaces."""
    return text.translate(_LINE_TABLE)


def escape_invisible(text: str) -> str:
    """The text with an escape such as `\\u200b` for every character that nobody sees, or takes for a space."""
    return "".join(_escaped(each) if _is_invisible(each) else each for each in text)


def _is_invisible(character: str) -> bool:
    if character.isascii():
        return False
    return category(character) in _UNSEEN or any(ord(character) in codes for codes in _UNSEEN_LETTERS)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def escape_json(text: str) -> str:
    """JSON with an escape of JSON for every control character, which all are within its strings but line breaks."""
    return text.translate(_JSON_TABLE)


def cell_width(text: str) -> int:
    """Columns that `text` takes on a terminal; CJK characters and emoji take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def filled(text: str, width: int, *, head: str = "", indent: str = "") -> str:
    """A text in rows of at most `width` columns, broken between words and around CJK characters.

    Only a word longer than a row, such as a path, runs over the end, so that it can be copied.

    Args:
        text: without newlines.
        width: columns.
        head: stands before the text in the first row.
        indent: stands before it in the others.
    """
    rows, used, is_begun = head, cell_width(head), False
    least = cell_width(indent)
    for gap, word in _words(text):
        size = cell_width(word)
        if (is_begun or used > least) and used + len(gap) + size > width >= least + size:
            rows, used = rows.rstrip(" ") + "\n" + indent, least
        elif is_begun:
            rows, used = rows + gap, used + len(gap)
        rows, used, is_begun = rows + word, used + size, True
        used = (used - 1) % width + 1 if used else 0
    return rows


def _words(text: str) -> list[tuple[str, str]]:
    """The parts between which a row may break, each with the space before it; a CJK character is one by itself."""
    parts: list[tuple[str, str]] = []
    for number, word in enumerate(text.split(" ")):
        gap = " " if number else ""
        pieces = [word] if word.isascii() else filter(None, re.split(_WIDE_CHARACTER, word))
        for piece in pieces:
            parts.append((gap, piece))
            gap = ""
    return parts


def size_text(byte_count: int) -> str:
    """A number of bytes: `14.5 GB`, `831 MB`, `12 kB`, `7 bytes`."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if byte_count >= limit:
            return f"{byte_count / limit:.1f} {unit}" if unit == "GB" else f"{byte_count / limit:.0f} {unit}"
    return f"{byte_count} bytes" if byte_count != 1 else "1 byte"


def counted(count: int, noun: str) -> str:
    """A number with its noun: `1 token`, `1,234 tokens`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def count_text(count: int) -> str:
    """A count: `7.25 billion`, `1.94 million`, `65,536`."""
    for limit, unit in ((1e9, "billion"), (1e6, "million")):
        if count >= limit:
            return f"{count / limit:.2f} {unit}"
    return f"{count:,}"
