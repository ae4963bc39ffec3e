"""Prompt lookup proposes ids that occurred before; a draft is as long as its acceptance and its cost allow."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence

import pytest

from chat.inference.speculative import ALLOWANCE, LARGEST_BUDGET, LONGEST_DRAFT, DraftBudget, PromptLookupDrafter

SECONDS = (0.0, 1.0, 1.66, 2.21, 2.74, 3.33, 3.99, 4.56)  # by rows of a batch, measured on two cores with a 7B model


def propose(ids: Sequence[int], most: int = LONGEST_DRAFT) -> list[int]:
    return PromptLookupDrafter().propose(array("i", ids), most)


def test_what_followed_the_newest_occurrence_of_the_last_four_ids_is_proposed() -> None:
    text = [1, 2, 3, 4, 50, 1, 2, 3, 4, 60, 61, 62, 63, 64, 65, 66, 67]
    assert propose([*text, 1, 2, 3, 4]) == [60, 61, 62, 63, 64, 65]
    assert propose([*text, 1, 2, 3, 4], 2) == [60, 61]
    assert propose([*text, 9, 2, 3, 4]) == []
    assert propose([1, 2, 3, 4]) == propose([]) == []


def test_a_longer_pattern_decides_which_occurrence_is_repeated() -> None:
    """Repeated code has many lines that begin alike: the newest of them is seldom the right one."""
    one, other = [7, 20, 21, 22, 1, 2, 3, 4, 100], [8, 30, 31, 32, 1, 2, 3, 4, 200]
    assert propose([*one, *other, *one[:8]], 1) == [100]
    assert propose([*one, *other, *other[:8]], 1) == [200]
    assert propose([*one, *other, 9, 9, 9, 9, 1, 2, 3, 4], 1) == [200]  # no longer pattern: the newest


@pytest.mark.parametrize("period", [1, 3, 5, 40])
def test_a_draft_of_a_periodic_text_has_full_length(period: int) -> None:
    loop = list(range(100, 100 + period))
    text = [5, 6, *loop, *loop, *loop, *loop, *loop]
    assert propose(text) == [loop[at % period] for at in range(LONGEST_DRAFT)]


def test_bytes_that_match_in_the_middle_of_an_id_are_no_occurrence() -> None:
    """The pattern is searched in bytes: a match that starts in the middle of an id does not count."""
    last = [0x01000000, 0x01000000, 0x01000000, 0x01000000]
    assert propose([0x00000001, 0x00000001, 0x00000001, 0x00000001, 0x00000001, 9, *last]) == []


def share_lost(answer: Sequence[int], prompt: Sequence[int], budget: DraftBudget) -> tuple[float, list[int]]:
    """The share of an answer's time that drafts lose (negative: save), and the length of each draft."""
    ids, at, seconds, lengths = array("i", prompt), 0, 0.0, []
    while at < len(answer) - 1:
        ids.append(answer[at])
        draft = (
            PromptLookupDrafter().propose(ids, min(budget.longest, len(answer) - at - 2)) if budget.longest > 0 else []
        )
        accepted = next((k for k, token in enumerate(draft) if token != answer[at + 1 + k]), len(draft))
        step_seconds = SECONDS[len(draft) + 1]
        if draft:
            budget.record_draft(len(draft), accepted, step_seconds)
            lengths.append(len(draft))
        else:
            budget.record_single(step_seconds)
        seconds += step_seconds
        ids.extend(answer[at + 1 : at + 1 + accepted])
        at += accepted + 1
    return seconds / (len(answer) - 1) - 1, lengths


def test_in_a_text_that_repeats_drafts_soon_have_full_length_and_save_nearly_all_they_can() -> None:
    budget = DraftBudget()
    first, lengths = share_lost([5] * 96, [9, 10, 11] * 8, budget)
    assert lengths[:7] == [1, 1, 2, 3, 5, 6, 6]
    assert 1 / (1 + first) > 1.46
    again, lengths = share_lost([5] * 96, [9, 10, 11] * 8, budget)
    assert lengths[:-1] == [LONGEST_DRAFT] * (len(lengths) - 1)
    assert 1 / (1 + again) > 1.5


@pytest.mark.parametrize("length", [48, 96, 400])
@pytest.mark.parametrize("seed", range(5))
def test_in_a_random_text_drafts_lose_at_most_three_percent(length: int, seed: int) -> None:
    draw = random.Random(seed)
    assert share_lost([draw.choice((1, 2, 3)) for _ in range(length)], [1, 2, 3] * 8, DraftBudget())[0] <= 0.03


def test_a_random_text_after_one_that_repeats_loses_no_more_than_was_saved_and_drafts_get_short() -> None:
    draw, budget = random.Random(1), DraftBudget()
    share_lost([5] * 96, [], budget)
    part, lengths = share_lost([draw.choice((1, 2)) for _ in range(96)], [], budget)
    assert part * 96 <= LARGEST_BUDGET + ALLOWANCE * 96
    assert lengths[-3:] == [1, 1, 1]
    assert share_lost([draw.choice((1, 2)) for _ in range(400)], [], budget)[0] <= 0.03


@pytest.mark.parametrize("cost", [1.5, 2.0])
def test_drafts_that_cost_more_than_they_save_are_rare(cost: float) -> None:
    """On a machine where a row takes longer than a token alone; every draft is accepted."""
    budget, loss = DraftBudget(), 0.0
    budget.record_single(1.0)
    for _ in range(2000):
        length = budget.longest
        if length > 0:
            budget.record_draft(length, length, 1 + cost * length)
            loss += (cost - 1) * length
        else:
            budget.record_single(1.0)
    assert 0 < loss < 0.02 * 2000


def test_one_slow_draft_does_not_end_drafting() -> None:
    """A machine that slept in the middle of a draft made it seem to cost thousands of tokens."""
    budget = DraftBudget()
    share_lost([5] * 96, [], budget)
    budget.record_draft(3, 0, 10_000.0)
    for _ in range(2000):
        budget.record_single(1.0)
    assert budget.longest > 0


def test_what_a_drafter_reads_before_a_draft_counts_as_cost() -> None:
    budget = DraftBudget()
    budget.record_single(1.0)
    assert budget.longest == 1
    budget.record_preparation(3.0)
    assert budget.longest <= 0
    for _ in range(int(3 / ALLOWANCE)):
        budget.record_single(1.0)
    assert budget.longest == 1
