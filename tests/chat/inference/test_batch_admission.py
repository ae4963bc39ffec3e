"""How many requests share a context and which prompts are read together, as arithmetic."""

from __future__ import annotations

import pytest

from chat.inference.batch_admission import (
    SequencePlan,
    cells_needed,
    group,
    is_time,
    is_worth_keeping,
    plan_sequences,
    rows,
)


@pytest.mark.parametrize(
    ("wanted", "need", "most", "free", "lanes"),
    [
        (4, 100, 4096, 1 << 40, SequencePlan(4, 256)),
        (4, 300, 4096, 1 << 40, SequencePlan(4, 512)),
        (4, 9000, 4096, 1 << 40, SequencePlan(4, 4096)),  # a window needs no more
        (4, 256, 4096, 256 * 10 * 2 * 3, SequencePlan(3, 256)),  # half of what is free holds three
        (4, 256, 4096, 0, SequencePlan(1, 256)),
        (64, 10, 4096, 1 << 40, SequencePlan(64, 256)),
    ],
)
def test_lanes_are_as_many_as_memory_holds_and_as_long_as_needed(
    wanted: int, need: int, most: int, free: int, lanes: SequencePlan
) -> None:
    assert plan_sequences(wanted, need, most, 10.0, free) == lanes


@pytest.mark.parametrize(
    ("fresh", "free", "batch", "count"),
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
def test_short_prompts_are_read_together_in_one_batch(fresh: list[int], free: int, batch: int, count: int) -> None:
    assert group(fresh, free, batch) == count


def test_a_very_short_prompt_is_padded_to_the_rows_that_longer_ones_have() -> None:
    assert [rows(1), rows(7), rows(8), rows(50)] == [8, 8, 8, 50]
    assert cells_needed(10, 16) >= 10 + 16 + 63


def test_one_free_lane_waits_a_little_for_another() -> None:
    assert [is_time(1, 4, waited) for waited in (0, 5, 6)] == [False, False, True]
    assert is_time(2, 4, 0)
    assert is_time(1, 1, 0)


def test_a_state_is_kept_where_most_of_it_is_new() -> None:
    assert [is_worth_keeping(*each) for each in ((0, 15), (0, 16), (1000, 400), (1000, 500))] == [
        False, True, False, True,
    ]  # fmt: skip
