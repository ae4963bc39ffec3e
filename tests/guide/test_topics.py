"""Retrieval finds the topic of a question, counts what is new in it, and can be blinded for training."""

from __future__ import annotations

import time

import pytest

from chat.guide.library import facts
from chat.guide.phrasing import covering
from chat.guide.topics import features, help_text, index, matches


@pytest.mark.parametrize(
    ("question", "topic"),
    [
        ("How do I convert a checkpoint?", "convert"),
        ("whats the licence", "licence"),
        ("my laptop has 8gb will it run", "memory"),
        ("make answer less wild", "temperature"),
        ("serach for a word in my chats", "search"),
        ("convert a loft", "else"),
        ("who was napoleon", "else"),
    ],
)
def test_the_nearest_topic_is_the_one_that_is_meant(question: str, topic: str) -> None:
    assert matches(question)[0].topic == topic


def test_every_fact_is_found_by_its_own_phrasings() -> None:
    for fact in facts():
        [sentence, *_] = covering(fact.questions[0], 1)
        assert fact.id in {match.topic for match in matches(sentence)}, sentence


def test_nearness_is_between_0_and_1_and_falls() -> None:
    near = [match.nearness for match in matches("how do i stop an answer")]
    assert near == sorted(near, reverse=True)
    assert 0 < near[-1] <= near[0] <= 1


def test_a_pattern_that_is_left_out_is_not_found() -> None:
    question = "is it a unix filter"
    assert question in next(fact for fact in facts() if fact.id == "pipe").questions
    blind = {match.topic: match.nearness for match in matches(question, {question})}
    assert blind.get("pipe", 0.0) < matches(question)[0].nearness


def test_words_that_were_never_taught_are_counted() -> None:
    assert index().unknown("how do i convert a checkpoint") == 0
    assert index().unknown("how do i convert a zeppelin hangar") == 2


def test_the_help_line_names_topics_with_their_nearness() -> None:
    line = help_text("How do I convert a checkpoint?")
    assert line.startswith("Topics: converting a checkpoint 9, ")
    assert line.endswith(". New words: 0")


@pytest.mark.parametrize("question", ["", "???", "\0\x1b[31m", "é ü 漢字 🙂", "a" * 100_000])
def test_any_text_has_a_help_line(question: str) -> None:
    assert help_text(question).startswith("Topics: ")


def test_features_weigh_fillers_little() -> None:
    assert features("the window")["=the"] < features("the window")["=window"]


def test_a_question_is_looked_up_within_a_tenth_of_a_second() -> None:
    index()
    began = time.process_time()
    for _ in range(10):
        matches("how do i find an old answer in all of my sessions and chats")
    assert (time.process_time() - began) / 10 < 0.1
