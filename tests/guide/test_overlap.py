"""Held-out questions that are near to trained ones are found, none is missed, and a short draw has none of them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def overlap(script: Callable[[str], Any]) -> Any:
    return script("overlap")


def test_the_index_finds_what_comparing_all_pairs_finds(overlap: Any) -> None:
    draw = random.Random(3)
    letters = "abcdefghij"
    trained = [frozenset(draw.choices(letters, k=draw.randint(1, 8))) for _ in range(400)]
    lines = [f"fact: {' '.join(draw.choices(letters, k=draw.randint(1, 8)))}" for _ in range(60)]
    wanted = {}
    for line in lines:
        held = overlap.words(line.partition(": ")[2])
        nearness = max(len(held & each) / len(held | each) for each in trained)
        if nearness >= overlap.TOO_NEAR:
            wanted[line] = nearness
    assert 0 < len(wanted) < len(lines)
    assert overlap.nearest(lines, trained) == wanted


def test_capitals_marks_and_order_do_not_make_a_question_new(overlap: Any) -> None:
    trained = [overlap.words("how do i leave the session")]
    assert overlap.nearest(["leave: The SESSION, how do I leave?!"], trained) == {
        "leave: The SESSION, how do I leave?!": 1.0
    }
    assert overlap.nearest(["leave: way out?"], trained) == {}


def test_questions_are_kept_as_written_and_as_typed(overlap: Any) -> None:
    asked = overlap.Asked(random.Random(1))
    typed = {asked.worn("how do i convert a checkpoint") for _ in range(50)}
    assert asked.sets == {overlap.words("how do i convert a checkpoint"), *map(overlap.words, typed)}
    assert len(asked.sets) > 5


def test_no_held_out_question_is_near_to_what_a_short_run_trains_on(overlap: Any) -> None:
    """The first dialogues of the training run; `overlap.py` draws more than all of them, which takes minutes."""
    assert overlap.nearest(overlap.questions(HERE / "held_out.txt"), overlap.trained(2000, drawn=0)) == {}
