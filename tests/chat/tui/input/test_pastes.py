"""Long pastes are folded to marks, and marks are unfolded."""

from __future__ import annotations

import pytest

from chat.tui.input import toolkit_parts
from chat.tui.input.pastes import Pastes
from chat.tui.input.toolkit_parts import MessageHistory

LONG = "first line of it\n" + "more\n" * 10


def test_unfolding_gives_the_folded_text_back() -> None:
    pastes = Pastes()
    mark = pastes.fold(LONG)
    assert mark == "[paste 1: 11 lines, first line of it]"
    assert pastes.unfold(f"a {mark} b {mark}") == f"a {LONG} b {LONG}"
    assert pastes.fold(LONG) == mark


def test_short_texts_are_not_folded() -> None:
    pastes = Pastes()
    text = "x\n" * 8
    assert pastes.fold(text) == text
    assert pastes.fold(text + "y") == "[paste 1: 9 lines, x]"


def test_a_mark_inside_of_a_paste_is_not_unfolded() -> None:
    pastes = Pastes()
    mark = pastes.fold(LONG)
    second = pastes.fold(f"{mark}\n" * 10)
    assert pastes.unfold(second) == f"{mark}\n" * 10


def test_a_typed_mark_is_only_text() -> None:
    assert Pastes().unfold("[paste 1: 11 lines, first line of it]") == "[paste 1: 11 lines, first line of it]"


def test_previews_contain_no_brackets_and_no_control_characters() -> None:
    mark = Pastes().fold("[\x1b[31m]" + "long " * 20 + "\n" * 20 + "x")
    assert mark == "[paste 1: 21 lines, 31mlong long long long l…]"


def test_the_mark_before_the_cursor_is_found() -> None:
    pastes = Pastes()
    mark = pastes.fold(LONG)
    assert pastes.mark_before(f"see {mark}") == mark
    assert pastes.mark_before(f"see {mark} ") is None


def test_one_long_line_is_folded_too() -> None:
    """Once a file of one line filled the screen, and each key after it took a second."""
    pastes = Pastes()
    assert pastes.fold("x" * 2000) == "x" * 2000
    mark = pastes.fold("x" * 2001)
    assert mark == "[paste 1: 2,001 characters, " + "x" * 24 + "…]"
    assert pastes.unfold(f"a {mark} b") == "a " + "x" * 2001 + " b"
    assert pastes.fold("y" * 25_000, 100) == "y" * 25_000


def test_mark_around_finds_the_mark_of_each_position() -> None:
    pastes = Pastes()
    mark = pastes.fold(LONG)
    text = f"{mark} and {mark}!"
    ends = [pastes.mark_around(text, at) for at in range(len(text) + 1)]
    first, second = (0, len(mark)), (len(mark) + 5, len(text) - 1)
    inside = len(mark) - 1
    assert ends == [None, *[first] * inside, *[None] * 6, *[second] * inside, None, None]


def test_the_editor_remembers_a_limited_number_of_lines_and_pastes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It remembered all of them: what was pasted stayed in memory twice, to the end of the program."""
    monkeypatch.setattr(toolkit_parts, "MOST_LINES", 4)
    monkeypatch.setattr(toolkit_parts, "MOST_CHARACTERS", 3 * len(LONG) + 9)
    pastes = Pastes()
    history = MessageHistory(lambda: (), pastes)
    marks = [pastes.fold(f"{LONG}{number}") for number in range(3)]  # of which the first one is never sent
    for line in ("a", "b", "c", *marks[1:]):
        history.append_string(line)
    assert history.get_strings() == ["b", "c", *marks[1:]]
    assert list(pastes.texts) == marks
    marks.append(pastes.fold(f"{LONG}3"))
    history.append_string(f"see {marks[3]}")
    assert history.get_strings() == [marks[2], f"see {marks[3]}"]
    assert list(pastes.texts) == marks[2:]
    assert pastes.fold(LONG) == "[paste 5: 11 lines, first line of it]"


def test_the_last_paste_is_kept_whatever_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolkit_parts, "MOST_CHARACTERS", 1)
    pastes = Pastes()
    history = MessageHistory(lambda: (), pastes)
    for text in (LONG, LONG + "again"):
        history.append_string(pastes.fold(text))
    assert pastes.unfold(history.get_strings()[-1]) == LONG + "again"
    assert len(history.get_strings()) == 1
