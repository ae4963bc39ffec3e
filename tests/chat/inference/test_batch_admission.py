"""How many requests share a context and which prompts are read together, as arithmetic."""

from __future__ import annotations

import pytest

from chat.inference.batch_admission import (
    SequencePlan,
    cells_needed,
    group_size,
    is_worth_keeping,
    padded_rows,
    plan_sequences,
    should_read_now,
)


@pytest.mark.parametrize(
    ("wanted", "need", "most", "free", "plan"),
    [
        (4, 100, 4096, 1 << 40, SequencePlan(4, 256)),
        (4, 300, 4096, 1 << 40, SequencePlan(4, 512)),
        (4, 9000, 4096, 1 << 40, SequencePlan(4, 4096)),  # a rolling window needs no more
        (4, 256, 4096, 256 * 10 * 2 * 3, SequencePlan(3, 256)),  # half of the free memory holds three
        (4, 256, 4096, 0, SequencePlan(1, 256)),
        (64, 10, 4096, 1 << 40, SequencePlan(64, 256)),
    ],
)
def test_sequences_are_as_many_as_memory_allows_and_as_long_as_needed(
    wanted: int, need: int, most: int, free: int, plan: SequencePlan
) -> None:
    assert plan_sequences(wanted, need, most, 10.0, free) == plan


@pytest.mark.parametrize(
    ("unread", "free", "batch", "count"),
    [
        ([10, 12, 15, 11], 4, 256, 4),
        ([10, 12, 15, 11], 2, 256, 2),
        ([10, 64, 15], 4, 256, 1),  # 64 rows and more are computed in another way
        ([300, 10], 4, 256, 1),
        ([64], 1, 256, 1),
        ([1, 2], 4, 256, 2),
        ([63] * 8, 8, 256, 4),  # a batch holds no more
        ([10, 40], 4, 64, 1),  # the longer would make the padded batch too large
    ],
)
def test_short_prompts_are_read_together_in_one_batch(unread: list[int], free: int, batch: int, count: int) -> None:
    assert group_size(unread, free, batch) == count


def test_a_very_short_prompt_is_padded_to_the_rows_that_longer_ones_have() -> None:
    assert [padded_rows(count) for count in (1, 7, 8, 50)] == [8, 8, 8, 50]
    assert cells_needed(10, 16) >= 10 + 16 + 63


def test_one_free_sequence_waits_a_few_steps_for_another() -> None:
    assert [should_read_now(1, 4, waited) for waited in (0, 5, 6)] == [False, False, True]
    assert should_read_now(2, 4, 0)
    assert should_read_now(1, 1, 0)


def test_a_snapshot_is_kept_if_most_of_it_is_new() -> None:
    assert [is_worth_keeping(*each) for each in ((0, 15), (0, 16), (1000, 400), (1000, 500))] == [
        False, True, False, True,
    ]  # fmt: skip
