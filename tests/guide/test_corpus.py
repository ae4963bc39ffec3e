"""The training dialogues: seeded, answered from the facts, and blind to the question's own pattern."""

from __future__ import annotations

import random
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

from chat.guide.facts import ELSE, facts, refusal

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def corpus(script: Callable[[str], Any]) -> Any:
    return script("corpus")


def dialogues(corpus: Any, seed: int, count: int = 300) -> list[Any]:
    return list(islice(corpus.Writer(seed).dialogues(), count))


def test_a_seed_writes_the_same_dialogues_again(corpus: Any) -> None:
    assert dialogues(corpus, 5, 60) == dialogues(corpus, 5, 60)
    assert dialogues(corpus, 5, 60) != dialogues(corpus, 6, 60)


@pytest.mark.slow
def test_every_fact_and_the_refusal_are_answered_as_written(corpus: Any) -> None:
    answers = {topic.id: topic.answer for topic in (*facts(), refusal())}
    turns = [turn for dialogue in dialogues(corpus, 7, 1500) for turn in dialogue]
    assert {turn.topic for turn in turns} >= {*answers}
    wrong = [turn for turn in turns if turn.topic in answers and turn.answer != answers[turn.topic]]
    assert wrong == []
    assert 0.1 < sum(turn.topic == ELSE for turn in turns) / len(turns) < 0.4


def test_only_the_last_question_of_a_dialogue_comes_with_its_topics(corpus: Any) -> None:
    """As in the v3 format, which writes the system prompt into the last user message."""
    for dialogue in dialogues(corpus, 8):
        assert [turn for turn in dialogue[:-1] if turn.help] == []


def test_no_name_is_said_again(corpus: Any) -> None:
    """The model would say another one: it is too small to copy words that it never saw."""
    named = [dialogue[-1] for dialogue in dialogues(corpus, 9, 600) if dialogue[-1].topic == "name"]
    assert len({turn.question for turn in named}) > 10
    assert {turn.answer.partition("I do not keep names.")[0] for turn in named} == {"", "Nice to meet you! "}


def test_worn_questions_keep_names(corpus: Any) -> None:
    asker = corpus.Worn(random.Random(1))
    assert all("Zara" in asker.worn("my name is Zara", is_name=True) for _ in range(200))
