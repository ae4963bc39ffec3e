"""Nothing that a model, a file or a title contains can control the terminal."""

from __future__ import annotations

import random

import pyte
import pytest

from chat.system.terminal_text import (
    cell_width,
    count_text,
    counted,
    escape_control_characters,
    escape_line,
    filled,
    size_text,
)
from tests.grids import FULL

SPLITS = 10_000 if FULL else 1_000

PAYLOADS = (
    "\x1b[31mred\x1b[0m",
    "\x1b]0;owned title\x07",
    "\x1b]52;c;cm0gLXJmIC8=\x1b\\",
    "\x1b]8;;https://evil.example\x1b\\safe link\x1b]8;;\x1b\\",
    "\x1bP1$r0m\x1b\\",
    "\x1b[2J\x1b[H\x1b[6n\x1bc",
    "\x9b2J\x9d0;title\x9c\x90q\x9c\x85",
    "first\rsecond\x08\x08\x0b\x0c\x0e\x0f\x00\x7f",
    "user\u202etxt.exe\u202c \u2066iso\u2069 \u2067r\u2068f\u202a\u202b\u202d",
    "\ud800 lone \udfff",
    "line\u2028separated\u2029text",
    "plain\n\ttext é 日本語 👩‍👩‍👧 עברית\u200f ไทย",
)

STEERING = (
    {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))} - {"\n", "\t"}
    | {chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029)}
    | {chr(code) for code in range(0xD800, 0xE000)}
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "␛[31mred"),
        ("\x9b31mred", "␛[31mred"),
        ("a\x00b\x07c\rd\x7f", "a␀b␇c␍d␡"),
        ("user\u202etxt.exe", "user⟨RLO⟩txt.exe"),
        ("\u2066a\u2069", "⟨LRI⟩a⟨PDI⟩"),
        ("\ud83d", "\ufffd"),
        ("two\n\tlines\n", "two\n\tlines\n"),
        ("", ""),
    ],
)
def test_each_control_character_has_its_symbol(text: str, shown: str) -> None:
    assert escape_control_characters(text) == shown


@pytest.mark.slow
def test_every_control_character_of_unicode_is_replaced_and_no_other() -> None:
    others = "".join(character for character in map(chr, range(0x110000)) if character not in STEERING)
    assert escape_control_characters(others) == others
    for character in STEERING:
        shown = escape_control_characters(character)
        assert shown and not STEERING & set(shown), f"U+{ord(character):04X}"
    assert escape_control_characters(escape_control_characters("".join(PAYLOADS))) == escape_control_characters(
        "".join(PAYLOADS)
    )


def test_a_text_in_pieces_shows_the_same() -> None:
    """Tokens end anywhere: pieces shown one by one, and the screen after them, equal the whole shown at once."""
    seeded = random.Random(26)
    for _ in range(SPLITS):
        text = "".join(seeded.sample(PAYLOADS, 3))
        cuts = sorted(seeded.sample(range(len(text) + 1), seeded.randint(1, 12)))
        pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        shown = "".join(escape_control_characters(piece) for piece in pieces)
        assert shown == escape_control_characters(text)
        assert not STEERING & set(shown)
        shown.encode()


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_terminal_obeys_no_payload_split_at_any_place(payload: str) -> None:
    """Checked in a terminal emulator: its title stays, the earlier text stays, no reply is sent."""
    for cut in range(len(payload) + 1):
        screen = pyte.Screen(120, 8)
        replies: list[str] = []
        screen.write_process_input = replies.append  # type: ignore[method-assign]
        stream = pyte.Stream(screen)
        stream.feed("before ")
        for piece in (payload[:cut], payload[cut:]):
            stream.feed(escape_control_characters(piece).replace("\n", "\r\n"))
        assert (screen.title, replies) == ("", [])
        assert screen.display[0].startswith("before ")
        assert all(not cell.fg.startswith("red") for row in screen.buffer.values() for cell in row.values())


def test_a_line_stays_one_line() -> None:
    assert escape_line("a\nb\tc\rd\u2028e") == "a b c␍d␤e"


@pytest.mark.parametrize(
    ("count", "size", "number"),
    [
        (0, "0 bytes", "0"),
        (1, "1 byte", "1"),
        (999, "999 bytes", "999"),
        (65_536, "66 kB", "65,536"),
        (1_935_104, "2 MB", "1.94 million"),
        (7_248_023_552, "7.2 GB", "7.25 billion"),
    ],
)
def test_large_counts_have_the_largest_unit_that_fits(count: int, size: str, number: str) -> None:
    assert (size_text(count), count_text(count)) == (size, number)


def test_one_thing_is_counted_in_the_singular() -> None:
    assert [counted(count, "token") for count in (0, 1, 2, 1234)] == ["0 tokens", "1 token", "2 tokens", "1,234 tokens"]


@pytest.mark.parametrize("width", [20, 40, 80])
def test_rows_have_at_most_as_many_columns_as_the_terminal(width: int) -> None:
    """Rows were counted in characters, though a CJK one takes two columns: the terminal broke them inside of words."""
    text = "error: 日本語の長いファイル名のとても長いもの.txt、다음 파일: there is no 🎉🎉 such file, naïve 名前。"
    rows = filled(text, width, indent="  ").split("\n")
    assert all(cell_width(row) <= width for row in rows)
    assert "".join(row.strip() for row in rows).replace(" ", "") == text.replace(" ", "")
    assert not any(row.strip().startswith(("、", "。")) for row in rows)
    assert len(rows) <= 1 + cell_width(text) // (width - 6)  # none is broken early


def test_rows_break_behind_their_head_and_keep_spaces() -> None:
    assert filled("llama-cpp-python 1.0  x", 24, head="ok   library  ", indent="  ") == (
        "ok   library\n  llama-cpp-python 1.0\n  x"
    )
    assert filled("a  b", 10) == "a  b"
    assert (filled("", 10), filled("", 10, head="x ")) == ("", "x ")
