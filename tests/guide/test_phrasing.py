"""Patterns unfold into the sentences they stand for."""

from __future__ import annotations

from chat.guide.phrasing import covering, patterns, unfold


def test_a_pattern_unfolds_by_the_parts_that_are_picked() -> None:
    assert unfold("{how|can i} {leave|quit}", lambda parts: parts[0]) == "how leave"
    assert unfold("{how|can i} {leave|quit}", lambda parts: parts[-1]) == "can i quit"


def test_an_empty_part_leaves_no_double_space() -> None:
    assert unfold("is it {really|} free", lambda parts: parts[-1]) == "is it free"


def test_slots_are_filled_also_from_within_a_part() -> None:
    slots = {"food": ("bread", "soup")}
    assert unfold("{bake <food>|eat}", lambda parts: parts[0], slots) == "bake bread"


def test_covering_shows_every_part_once_within_the_limit() -> None:
    assert list(covering("{a|b|c} {x|y}", 8)) == ["a x", "b y", "c x"]
    assert list(covering("{a|b|c} {x|y}", 2)) == ["a x", "b y"]
    assert list(covering("plain", 8)) == ["plain"]


def test_blank_lines_of_a_block_are_no_patterns() -> None:
    assert patterns("\n one \n\n two\n") == ("one", "two")
