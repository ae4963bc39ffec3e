"""Stop strings never leak, however the text is cut; text that only resembles them is not lost."""

from __future__ import annotations

import itertools
import random

import pytest

from chat.inference.stop_strings import StopFilter


def through(stops: tuple[str, ...], parts: list[str]) -> tuple[list[str], bool]:
    held = StopFilter(stops)
    shown = []
    for part in parts:
        shown.append(held.push(part))
        if held.stopped:
            return shown, True
    return [*shown, held.flush()], False


def plain_cut(stops: tuple[str, ...], parts: list[str]) -> str:
    """What a reader who sees part after part would show: cut at the first part whose end completes a stop string."""
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


def test_random_texts_are_cut_like_a_plain_search_does() -> None:
    chance = random.Random(1)
    for _ in range(3000):
        stops = tuple("".join(chance.choices("ab\n", k=chance.randint(1, 4))) for _ in range(chance.randint(1, 3)))
        parts = ["".join(chance.choices("ab\nc", k=chance.randint(0, 3))) for _ in range(8)]
        shown, _ = through(stops, parts)
        assert "".join(shown) == plain_cut(stops, parts), (stops, parts)


def test_what_was_held_back_is_shown_when_it_is_no_stop_string() -> None:
    assert through(("STOP",), ["say ST", "ART", " ST"]) == (["say ", "START", " ", "ST"], False)


def test_without_stop_strings_nothing_is_held_back() -> None:
    assert through((), ["a", "b"]) == (["a", "b", ""], False)
    assert through(("",), ["a"]) == (["a", ""], False)


def test_nothing_comes_after_a_stop_string() -> None:
    held = StopFilter(("x",))
    assert (held.push("axb"), held.push("c"), held.flush(), held.stopped) == ("a", "", "", True)
