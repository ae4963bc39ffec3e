"""The shipped guide answers held-out questions, refuses strangers, remembers, and always comes to an end."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chat.core.conversation import Message
from chat.core.events import Completion
from chat.core.request import EngineOptions, Prompt, Request
from chat.guide import PATH
from chat.guide.backend import GuideBackend
from chat.guide.facts import ELSE, facts, refusal
from chat.worker.client import LocalBackend
from tests.grids import FULL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
SAMPLE = 45  # questions in a quick run
LARGEST_BYTES = 16_000_000
RIGHT, REFUSED = 0.86, 0.90  # of all held-out questions; making/README.md has the figures
SLACK = 0.10  # what a sample may differ


@pytest.fixture(scope="module")
def evaluate(script: Callable[[str], Any]) -> Any:
    """The script that judged the guide when it was made."""
    return script("evaluate")


@pytest.fixture(scope="module")
def guide() -> Iterator[GuideBackend]:
    engine = GuideBackend(LocalBackend(EngineOptions(str(PATH), threads=1)))
    try:
        yield engine
    finally:
        engine.close()


def answer(guide: GuideBackend, *messages: Message) -> Completion:
    done = list(guide.reply(Request(Prompt(messages), max_tokens=200)))[-1]
    assert isinstance(done, Completion)
    return done


def ask(guide: GuideBackend, question: str) -> Completion:
    return answer(guide, Message("user", question))


def test_the_file_is_small_and_a_mistral_with_a_window(guide: GuideBackend) -> None:
    assert PATH.stat().st_size <= LARGEST_BYTES
    info = guide.info()
    assert (info.window, info.prompt_format) == (256, "v3")
    assert info.trained_context > 256


@pytest.mark.slow
def test_held_out_questions_are_answered_and_strangers_refused(guide: GuideBackend, evaluate: Any) -> None:
    """Never trained on; a quick run asks a seeded sample of them, and allows for its chance."""
    questions = evaluate.read_questions(HERE / "held_out.txt")
    if not FULL:
        questions = random.Random(7).sample(questions, SAMPLE)
    replies = [ask(guide, question.text) for question in questions]
    pairs = list(zip(questions, replies, strict=True))
    assert [question.text for question, done in pairs if done.finish_reason != "stop"] == []
    right = [evaluate.is_right(question, done.text) for question, done in pairs if ELSE not in question.topics]
    refused = [evaluate.is_right(question, done.text) for question, done in pairs if ELSE in question.topics]
    print(f"right {sum(right)} of {len(right)}, refused {sum(refused)} of {len(refused)}")
    slack = 0 if FULL else SLACK
    assert sum(right) / len(right) >= RIGHT - slack
    assert sum(refused) / len(refused) >= REFUSED - slack


def test_its_answers_are_whole_sentences_that_it_was_taught(guide: GuideBackend) -> None:
    """It may take one fact for another, but it makes nothing up."""
    taught = {fact.answer for fact in facts()}
    asked = (
        "how do i convert a checkpoint",
        "what is the licence of mistral 7b",
        "how do i stop an answer",
        "what is gqa",
    )
    assert {ask(guide, text).text.strip() for text in asked} <= taught


def test_what_it_does_not_know_is_refused_with_the_way_to_a_full_model(guide: GuideBackend) -> None:
    assert ask(guide, "What is the capital of France?").text.strip() == refusal().answer


@pytest.mark.slow
def test_a_session_longer_than_the_window_goes_on_answering(guide: GuideBackend) -> None:
    licence = next(fact for fact in facts() if fact.id == "licence")
    messages: list[Message] = []
    for _ in range(10):  # of some 80 tokens each, in a window of 256
        messages.append(Message("user", "What is the licence of Mistral 7B?"))
        done = answer(guide, *messages)
        messages.append(Message("assistant", done.text, done.ids, done.finish_reason))
    assert messages[-1].content.strip() == licence.answer


@pytest.mark.slow
def test_the_first_answer_takes_less_than_two_seconds_of_processor_time() -> None:
    began = os.times()
    engine = GuideBackend(LocalBackend(EngineOptions(str(PATH), threads=1, repack="off")))
    try:
        assert ask(engine, "How do I convert a checkpoint?").finish_reason == "stop"
    finally:
        engine.close()
    used = os.times()
    assert used.user - began.user + used.children_user - began.children_user < 2
