"""Stop strings are never shown, however the text is split; text that only resembles them is not lost."""

from __future__ import annotations

import itertools
import random

import pytest

from chat.inference.stop_strings import StopFilter


def through(stops: tuple[str, ...], parts: list[str]) -> tuple[list[str], bool]:
    stop_filter = StopFilter(stops)
    shown = []
    for part in parts:
        shown.append(stop_filter.push(part))
        if stop_filter.stopped:
            return shown, True
    return [*shown, stop_filter.flush()], False


def reference_cut(stops: tuple[str, ...], parts: list[str]) -> str:
    """The text up to the first stop string, searched after each part."""
    text = ""
    for part in parts:
        text += part
        found = [text.find(stop) for stop in stops if stop in text]
        if found:
            return text[: min(found)]
    return text


@pytest.mark.parametrize("cuts", list(itertools.product([False, True], repeat=7)))
def test_a_stop_string_is_cut_out_wherever_tokens_split_it(cuts: tuple[bool, ...]) -> None:
    text, parts = "abc</s>d", [""]
    for letter, cut in zip(text, (*cuts, False), strict=True):
        parts[-1] += letter
        if cut:
            parts.append("")
    shown, stopped = through(("</s>",), parts)
    assert ("".join(shown), stopped) == ("abc", True)


def test_random_texts_are_cut_as_by_a_plain_search() -> None:
    chance = random.Random(1)
    for _ in range(3000):
        stops = tuple("".join(chance.choices("ab\n", k=chance.randint(1, 4))) for _ in range(chance.randint(1, 3)))
        parts = ["".join(chance.choices("ab\nc", k=chance.randint(0, 3))) for _ in range(8)]
        shown, _ = through(stops, parts)
        assert "".join(shown) == reference_cut(stops, parts), (stops, parts)


def test_text_held_back_is_shown_if_it_is_no_stop_string() -> None:
    assert through(("STOP",), ["say ST", "ART", " ST"]) == (["say ", "START", " ", "ST"], False)


def test_without_stop_strings_nothing_is_held_back() -> None:
    assert through((), ["a", "b"]) == (["a", "b", ""], False)
    assert through(("",), ["a"]) == (["a", ""], False)


def test_nothing_comes_after_a_stop_string() -> None:
    stop_filter = StopFilter(("x",))
    assert [stop_filter.push("axb"), stop_filter.push("c"), stop_filter.flush()] == ["a", "", ""]
    assert stop_filter.stopped
