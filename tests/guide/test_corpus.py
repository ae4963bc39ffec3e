"""The training dialogues: seeded, answered from the facts, and blind to the question's own pattern."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chat.guide.library import ELSE, facts, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

MAKING = Path(__file__).parent / "making"


@pytest.fixture(scope="module")
def corpus() -> Iterator[Any]:
    """The module, which is run from its own folder and no package."""
    sys.path.insert(0, str(MAKING))
    try:
        import corpus

        yield corpus
    finally:
        sys.path.remove(str(MAKING))


def dialogues(corpus: Any, seed: int, count: int = 300) -> list[Any]:
    return list(islice(corpus.Writer(seed).dialogues(), count))


def test_a_seed_writes_the_same_dialogues_again(corpus: Any) -> None:
    assert dialogues(corpus, 5, 60) == dialogues(corpus, 5, 60)
    assert dialogues(corpus, 5, 60) != dialogues(corpus, 6, 60)


def test_every_fact_and_the_refusal_are_answered_as_written(corpus: Any) -> None:
    answers = {topic.id: topic.answer for topic in (*facts(), refusal())}
    turns = [turn for dialogue in dialogues(corpus, 7, 1500) for turn in dialogue]
    assert {turn.topic for turn in turns} >= {*answers}
    wrong = [turn for turn in turns if turn.topic in answers and turn.answer != answers[turn.topic]]
    assert wrong == []
    assert 0.2 < sum(turn.topic == ELSE for turn in turns) / len(turns) < 0.4


def test_only_the_last_question_of_a_dialogue_comes_with_its_topics(corpus: Any) -> None:
    """As in the v3 format, which writes the system prompt into the last user message."""
    for dialogue in dialogues(corpus, 8):
        assert [turn for turn in dialogue[:-1] if turn.help] == []


def test_a_name_that_was_told_is_known(corpus: Any) -> None:
    named = [dialogue for dialogue in dialogues(corpus, 9, 600) if dialogue[0].topic == "name" and len(dialogue) > 1]
    assert named
    for told, *_, known in named:
        name = told.answer.removeprefix("Nice to meet you, ").partition(".")[0]
        assert name in told.question
        assert known.answer == f"Your name is {name}."


def test_worn_questions_keep_names(corpus: Any) -> None:
    writer = corpus.Writer(1)
    assert all("Zara" in writer.worn("my name is Zara", is_name=True) for _ in range(200))
