"""Retrieval finds the topic of a question, counts what is new in it, and mends what was mistyped."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import pytest

from chat.guide.facts import BEFORE_TITLE, ELSE, ELSE_TITLE, covering, facts, small_talk
from chat.guide.features import FeatureVocabulary
from chat.guide.topics import Match, Ranker, help_text, ranker, read, write

if TYPE_CHECKING:
    from pathlib import Path


def matches(question: str) -> tuple[Match, ...]:
    return ranker().matches(question)


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
        asked = [sentence for question in fact.questions[:3] for sentence in covering(question, 1)]
        assert fact.id in {match.topic for sentence in asked for match in matches(sentence)}, asked


def test_likelihoods_are_between_0_and_1_and_fall() -> None:
    found = [match.likelihood for match in matches("how do i stop an answer")]
    assert found == sorted(found, reverse=True)
    assert 0 <= found[-1] <= found[0] <= 1
    assert math.isclose(sum(ranker().likelihoods("how do i stop an answer")), 1)


def test_the_classifier_knows_every_topic_of_the_library_by_its_title() -> None:
    known = {topic.id: topic.title for topic in (*facts(), *small_talk())}
    assert dict(ranker().topics) == {ELSE: ELSE_TITLE, "before": BEFORE_TITLE} | known


def test_words_that_were_never_taught_are_counted() -> None:
    assert help_text("how do i convert a checkpoint").endswith(". New words: 0")
    assert help_text("how do i convert a zeppelin hangar").endswith(". New words: 2")


def test_a_word_of_its_own_pattern_only_is_new_without_it() -> None:
    vocabulary = FeatureVocabulary({"convert": 2, "frobnicate": 1}, {"convert": 2, "frobnicate": 1})
    assert vocabulary.count_unknown("convert frobnicate") == 0
    assert vocabulary.count_unknown("convert frobnicate", without={"convert", "frobnicate"}) == 1


@pytest.mark.parametrize("typed", ["searhc", "sarch", "seaarch", "searxh"])
def test_one_typing_error_is_corrected(typed: str) -> None:
    assert ranker().vocabulary.corrected(typed) == "search"


@pytest.mark.parametrize("word", ["gpu", "tok", "qzzxv", "file", "größe"])
def test_short_unknown_and_known_words_stay_as_they_are(word: str) -> None:
    assert ranker().vocabulary.corrected(word) == word


def test_a_stored_classifier_is_read_back_whole(tmp_path: Path) -> None:
    rows = memoryview(bytes([1, 255, 0, 3])).cast("b")
    small = Ranker((("a", "A"), ("b", "B")), FeatureVocabulary({"x": 1}, {"x": 1, "y": 2}), 2, 0.5, rows)
    write(tmp_path / "topics.bin", small)
    back = read(tmp_path / "topics.bin")
    assert (back.topics, back.buckets, back.scale, bytes(back.rows)) == (small.topics, 2, 0.5, bytes(rows))
    assert (back.vocabulary.own["x"], back.vocabulary.every) == (1, {"x": 1, "y": 2})
    assert back.likelihoods("x y") == small.likelihoods("x y")


def test_the_help_line_names_topics_with_their_nearness() -> None:
    line = help_text("How do I convert a checkpoint?")
    assert line.startswith("Topics: converting a checkpoint ")
    assert line.endswith(". New words: 0")


@pytest.mark.parametrize("question", ["", "???", "\0\x1b[31m", "é ü 漢字 🙂", "a" * 100_000])
def test_any_text_has_a_help_line(question: str) -> None:
    assert help_text(question).startswith("Topics: ")


def test_features_weigh_fillers_little() -> None:
    found = ranker().vocabulary.features("the window")
    assert found["=the"] < found["=window"]


def test_a_question_is_looked_up_within_a_tenth_of_a_second() -> None:
    ranker()
    began = time.process_time()
    for _ in range(10):
        matches("how do i find an old answer in all of my sessions and chats")
    assert (time.process_time() - began) / 10 < 0.1
