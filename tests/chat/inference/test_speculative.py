"""Guesses say again what was said; how long a draft is follows what guesses bring and cost, within what may be lost."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence

import pytest

from chat.inference.speculative import ALLOWANCE, LARGEST_PURSE, LONGEST, DraftBudget, PromptLookupDrafter

SECONDS = (0.0, 1.0, 1.66, 2.21, 2.74, 3.33, 3.99, 4.56)  # of so many rows, measured on two cores with a 7B


def propose(ids: Sequence[int], most: int = LONGEST) -> list[int]:
    return PromptLookupDrafter().propose(array("i", ids), most)


def test_what_followed_the_newest_place_with_the_last_four_ids_is_guessed() -> None:
    said = [1, 2, 3, 4, 50, 1, 2, 3, 4, 60, 61, 62, 63, 64, 65, 66, 67]
    assert propose([*said, 1, 2, 3, 4]) == [60, 61, 62, 63, 64, 65]
    assert propose([*said, 1, 2, 3, 4], 2) == [60, 61]
    assert propose([*said, 9, 2, 3, 4]) == []
    assert propose([1, 2, 3, 4]) == propose([]) == []


def test_a_longer_pattern_says_better_which_place_is_said_again() -> None:
    """Code that is said again has many lines that begin alike: the newest of them is seldom the right one."""
    one, other = [7, 20, 21, 22, 1, 2, 3, 4, 100], [8, 30, 31, 32, 1, 2, 3, 4, 200]
    assert propose([*one, *other, *one[:8]], 1) == [100]
    assert propose([*one, *other, *other[:8]], 1) == [200]
    assert propose([*one, *other, 9, 9, 9, 9, 1, 2, 3, 4], 1) == [200]  # of no longer one: the newest


@pytest.mark.parametrize("period", [1, 3, 5, 40])
def test_a_draft_is_always_full_where_a_pattern_goes_on(period: int) -> None:
    loop = list(range(100, 100 + period))
    said = [5, 6, *loop, *loop, *loop, *loop, *loop]
    assert propose(said) == [loop[at % period] for at in range(LONGEST)]


def test_ids_whose_bytes_only_look_like_a_place_are_none() -> None:
    """The pattern is found among bytes: one that begins in the middle of an id does not count."""
    last = [0x01000000, 0x01000000, 0x01000000, 0x01000000]
    assert propose([0x00000001, 0x00000001, 0x00000001, 0x00000001, 0x00000001, 9, *last]) == []


def lost(said: Sequence[int], prompt: Sequence[int], purse: DraftBudget) -> tuple[float, list[int]]:
    """Part of the time of an answer that drafts lose (wins are negative), and the length of each draft."""
    ids, at, seconds, lengths = array("i", prompt), 0, 0.0, []
    while at < len(said) - 1:
        ids.append(said[at])
        draft = PromptLookupDrafter().propose(ids, min(purse.longest, len(said) - at - 2)) if purse.longest > 0 else []
        came = next((k for k, token in enumerate(draft) if token != said[at + 1 + k]), len(draft))
        taken = SECONDS[len(draft) + 1]
        if draft:
            purse.settle(len(draft), came, taken)
            lengths.append(len(draft))
        else:
            purse.earn(taken)
        seconds += taken
        ids.extend(said[at + 1 : at + 1 + came])
        at += came + 1
    return seconds / (len(said) - 1) - 1, lengths


def test_where_all_is_said_again_drafts_soon_are_full_and_nearly_all_that_can_be_won_is() -> None:
    purse = DraftBudget()
    first, lengths = lost([5] * 96, [9, 10, 11] * 8, purse)
    assert lengths[:7] == [1, 1, 2, 3, 5, 6, 6]
    assert 1 / (1 + first) > 1.46
    again, lengths = lost([5] * 96, [9, 10, 11] * 8, purse)
    assert lengths[:-1] == [LONGEST] * (len(lengths) - 1)
    assert 1 / (1 + again) > 1.5


@pytest.mark.parametrize("length", [48, 96, 400])
@pytest.mark.parametrize("seed", range(5))
def test_where_nobody_can_tell_what_follows_at_most_three_hundredths_are_lost(length: int, seed: int) -> None:
    draw = random.Random(seed)
    assert lost([draw.choice((1, 2, 3)) for _ in range(length)], [1, 2, 3] * 8, DraftBudget())[0] <= 0.03


def test_a_new_text_after_one_that_repeats_loses_no_more_than_was_won_and_drafts_get_short() -> None:
    draw, purse = random.Random(1), DraftBudget()
    lost([5] * 96, [], purse)
    part, lengths = lost([draw.choice((1, 2)) for _ in range(96)], [], purse)
    assert part * 96 <= LARGEST_PURSE + ALLOWANCE * 96
    assert lengths[-3:] == [1, 1, 1]
    assert lost([draw.choice((1, 2)) for _ in range(400)], [], purse)[0] <= 0.03


@pytest.mark.parametrize("cost", [1.5, 2.0])
def test_drafts_that_cost_more_than_they_bring_are_hardly_made(cost: float) -> None:
    """On a machine where a row takes longer than a token by itself; all that is guessed comes."""
    purse, over = DraftBudget(), 0.0
    purse.earn(1.0)
    for _ in range(2000):
        length = purse.longest
        if length > 0:
            purse.settle(length, length, 1 + cost * length)
            over += (cost - 1) * length
        else:
            purse.earn(1.0)
    assert 0 < over < 0.02 * 2000


def test_one_slow_draft_does_not_end_them_for_ever() -> None:
    """A machine that slept in the middle of a draft made it seem to cost thousands of tokens."""
    purse = DraftBudget()
    lost([5] * 96, [], purse)
    purse.settle(3, 0, 10_000.0)
    for _ in range(2000):
        purse.earn(1.0)
    assert purse.longest > 0


def test_what_a_drafter_reads_before_a_draft_is_paid_for() -> None:
    purse = DraftBudget()
    purse.earn(1.0)
    assert purse.longest == 1
    purse.pay(3.0)
    assert purse.longest <= 0
    for _ in range(int(3 / ALLOWANCE)):
        purse.earn(1.0)
    assert purse.longest == 1
