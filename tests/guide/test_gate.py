"""The gate lets sure answers through and offers topics instead of unsure ones."""

from __future__ import annotations

import math

from chat.guide.gate import DECIDING_TOKENS, THRESHOLD, doubtful_answer, is_sure, surety
from chat.guide.library import refusal


def test_surety_is_the_least_probability_of_the_first_tokens() -> None:
    assert math.isclose(surety([math.log(0.9), math.log(0.4), math.log(0.8)]), 0.4)


def test_what_comes_after_the_deciding_tokens_does_not_count() -> None:
    assert surety([0.0] * DECIDING_TOKENS + [math.log(0.01)]) == 1.0


def test_an_answer_without_tokens_is_sure() -> None:
    assert surety([]) == 1.0


def test_the_threshold_itself_is_sure() -> None:
    assert is_sure([math.log(THRESHOLD) + 1e-9])
    assert not is_sure([math.log(THRESHOLD) - 1e-3])


def test_a_doubtful_answer_is_a_refusal_that_offers_the_nearest_topics() -> None:
    answer = doubtful_answer("how do i convert a checkpoint")
    assert refusal().is_answered_by(answer)
    assert "converting a checkpoint" in answer


def test_a_doubtful_answer_never_offers_something_else() -> None:
    assert "something else" not in doubtful_answer("who was napoleon")
