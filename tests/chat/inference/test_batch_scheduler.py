"""Answers in a batch equal those of each request alone; faults, cancels and deaths cost no other request its answer."""

from __future__ import annotations

import functools
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat.core.conversation import Message
from chat.core.events import Completion
from chat.core.request import Constraint, EngineOptions, Prompt, Request, Sampling
from chat.errors import ChatError, DataError, EngineError
from chat.worker.client import LocalBackend
from tests.grids import FULL

GREEDY = Sampling(temperature=0, seed=1)

Outcomes = dict[int, Completion | ChatError]
Open = Callable[..., LocalBackend]


@pytest.fixture(scope="module", params=["mistral-v0.1", "mistral-v0.3"])
def model(request: pytest.FixtureRequest, converted: Callable[..., Path]) -> Path:
    """A model with a window of 64 and one without, of a type whose rows are equal however a prompt is split."""
    return converted(request.param, "Q8_0")


@pytest.fixture(scope="module", params=[("mistral-v0.1", "Q8_0"), ("mistral-v0.3", "Q4_K_M")], ids=lambda it: it[1])
def any_model(request: pytest.FixtureRequest, converted: Callable[..., Path]) -> Path:
    """Also a type of which eight rows and more are computed differently from fewer."""
    return converted(*request.param)


@pytest.fixture
def open_engine() -> Iterator[Open]:
    opened: list[LocalBackend] = []

    def make(path: Path, **options: object) -> LocalBackend:
        engine = LocalBackend(EngineOptions(str(path), **({"threads": 1} | options)))  # type: ignore[arg-type]
        opened.append(engine)
        return engine

    yield make
    for engine in opened:
        engine.close()


@pytest.fixture(scope="module")
def engine(model: Path) -> Iterator[LocalBackend]:
    """One engine for tests that leave it as it was."""
    shared = LocalBackend(EngineOptions(str(model), threads=1))
    yield shared
    shared.close()


@pytest.fixture(scope="module")
def lone_ids(any_model: Path) -> Iterator[Callable[[Request], object]]:
    """The ids that a request gets alone, in an engine that drafts nothing."""
    single = LocalBackend(EngineOptions(str(any_model), threads=1, draft="off"))
    yield functools.cache(lambda request: alone(single, request).ids)
    single.close()


def asked(*texts: str, max_tokens: int = 12, system: str | None = None) -> list[Request]:
    head = (Message("system", system),) if system else ()
    return [Request(Prompt(messages=(*head, Message("user", text))), GREEDY, max_tokens=max_tokens) for text in texts]


def coded(*lengths: int, max_tokens: int = 12) -> list[Request]:
    """Prompts of random ids with these lengths and nothing in common."""
    draw = random.Random(3)
    prompts = [Prompt(ids=tuple(draw.randrange(300, 500) for _ in range(length))) for length in lengths]
    return [Request(prompt, GREEDY, max_tokens=max_tokens) for prompt in prompts]


def all_of(engine: LocalBackend, requests: list[Request], parallel: int | None) -> Outcomes:
    return dict(engine.answer_all(requests, parallel))


def test_a_batch_keeps_reasoning_apart(open_engine: Open, thinker: Callable[[str], Path]) -> None:
    """The prompts leave the reasoning of an earlier answer open, so all that follows is reasoning."""
    engine = open_engine(thinker("v13"))
    cut = Message("assistant", "", finish_reason="length", reasoning="Hm")
    continued = [Prompt((Message("user", text), cut), continues=True) for text in "abc"]
    requests = [Request(prompt, GREEDY, max_tokens=5) for prompt in continued]
    for each in (*all_of(engine, requests, 3).values(), alone(engine, requests[0])):
        assert isinstance(each, Completion)
        assert (each.text, len(each.ids or ())) == ("", 5) and each.reasoning


def ids(outcomes: Outcomes) -> list[object]:
    return [each.ids if isinstance(each, Completion) else str(each) for _, each in sorted(outcomes.items())]


def alone(engine: LocalBackend, request: Request) -> Completion:
    last = list(engine.reply(request))[-1]
    assert isinstance(last, Completion)
    return last


@pytest.mark.parametrize("parallel", [2, 4, 7])
@pytest.mark.slow
def test_answers_are_those_of_each_alone_in_an_engine_of_its_own(
    parallel: int, any_model: Path, open_engine: Open, lone_ids: Callable[[Request], object]
) -> None:
    """Very short, short and long prompts, longer than the window and than a batch, in one context and in many."""
    requests = coded(2, 10, 31, 63, 64, 90, 300, 17, 5)
    requests = [replace(each, max_tokens=30 + at) for at, each in enumerate(requests)]
    together = all_of(open_engine(any_model), requests, parallel)
    assert ids(together) == [lone_ids(each) for each in requests]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "parallel", "expected"), [(12, 9, 1), (5, 9, 0), (12, None, 0), (12, 7, 0)])
def test_more_sequences_than_are_batch_invariant_give_one_notice_if_asked_for(
    count: int, parallel: int | None, expected: int, any_model: Path, open_engine: Open
) -> None:
    notices: list[str] = []
    outcomes = dict(open_engine(any_model).answer_all(coded(*range(10, 10 + count)), parallel, notices.append))
    assert [len(each.ids) for each in outcomes.values() if isinstance(each, Completion)] == [12] * count
    words = [notice for notice in notices if "at a time" in notice]
    assert words == expected * [
        "9 answers at a time: with more than 7 the sums are computed in another order, so an answer may differ where "
        "two tokens are almost equally likely"
    ]


@pytest.mark.parametrize(("lengths", "flash_attention"), [((40, 100, 20), "auto"), ((33, 90, 70), "off")])
@pytest.mark.slow
def test_answers_longer_than_a_rolling_window_are_those_of_each_alone(
    lengths: tuple[int, ...], flash_attention: str, model: Path, open_engine: Open
) -> None:
    """Flash attention adds up cells in their order, and a sequence that was moved through a snapshot had another one:
    with AVX-512 that once tipped token 577 of 700, after another answer had ended.
    """
    is_rolling = model.stem == "mistral-v0.1"  # its window is 64; the other has none
    count = 700 if FULL or (is_rolling and flash_attention == "auto") else 150 if is_rolling else 40
    requests = coded(*lengths, max_tokens=count)
    together = all_of(open_engine(model, flash_attention=flash_attention), requests, 3)
    assert ids(together) == ids(all_of(open_engine(model, flash_attention=flash_attention), requests, 1))
    assert max(len(each.ids) for each in together.values() if isinstance(each, Completion)) == count


def test_all_parts_of_a_completion_equal_those_alone(engine: LocalBackend) -> None:
    sampled = replace(asked("one")[0], sampling=Sampling(seed=7, temperature=1.5), max_tokens=20)
    stopped = replace(asked("two")[0], stop=(alone(engine, asked("two")[0]).text[3:6],))
    measured = replace(asked("five")[0], logprobs=3)
    requests = [sampled, stopped, *asked("three", max_tokens=0), *asked("four"), measured]
    outcomes = all_of(engine, requests, 4)
    for at, request in enumerate(requests):
        single, many = alone(engine, request), outcomes[at]
        assert isinstance(many, Completion)
        assert (many.text, many.ids, many.finish_reason, many.prompt_ids_sha256, many.sampling) == (
            single.text, single.ids, single.finish_reason, single.prompt_ids_sha256, single.sampling,
        )  # fmt: skip
        assert (many.tokens.prompt, many.tokens.generated) == (single.tokens.prompt, single.tokens.generated)
        assert many.logprobs == single.logprobs
    assert len(many.logprobs) == len(many.ids) > 0


def test_only_the_first_answer_reports_the_seconds_of_loading(model: Path, open_engine: Open) -> None:
    """In a batch every answer reported them, so their sum was many times the time that passed."""
    outcomes = all_of(open_engine(model), asked("one", "two", "three", max_tokens=2), 3)
    loads = [each.seconds.load > 0 for each in outcomes.values() if isinstance(each, Completion)]
    assert sorted(loads) == [False, False, True]


@pytest.mark.slow
def test_constraints_and_choices_hold_for_each_request_as_alone(engine: LocalBackend) -> None:
    kinds = [Constraint("regex", "[0-9]{4}"), Constraint("choice", '["left", "right"]'), None] * 2
    requests = [replace(each, constraint=kind) for each, kind in zip(asked(*"abcdef"), kinds, strict=True)]
    singly, together = all_of(engine, requests, 1), all_of(engine, requests, 4)
    assert ids(together) == ids(singly)
    choices = [together[at] for at in (1, 4)]
    assert {each.text for each in choices if isinstance(each, Completion)} <= {"left", "right"}
    assert [round(sum((each.choice or {}).values()), 6) for each in choices if isinstance(each, Completion)] == [
        1.0,
        1.0,
    ]


def test_a_bad_request_fails_alone(engine: LocalBackend) -> None:
    bad = [Request(Prompt(ids=(1, 10**6)), GREEDY), Request(Prompt(ids=(5,)), Sampling(top_p=7))]
    requests = [*asked("one"), bad[0], *asked("two"), bad[1], *asked("three")]
    outcomes = all_of(engine, requests, 4)
    assert [type(each) for _, each in sorted(outcomes.items())][::2] == [Completion] * 3
    assert isinstance(outcomes[1], DataError)
    assert "id 1000000 is not in the vocabulary" in str(outcomes[1])
    assert "`--top-p 7` is out of range" in str(outcomes[3])


def test_a_fault_that_nobody_expected_fails_one_request(engine: LocalBackend) -> None:
    """It failed the batch."""
    odd: Any = (1, "two")
    outcomes = all_of(engine, [*asked("one"), Request(Prompt(ids=odd), GREEDY), *asked("three")], 4)
    assert [type(each) for _, each in sorted(outcomes.items())] == [Completion, ChatError, Completion]
    assert str(outcomes[1]).startswith("unexpected: TypeError: ")


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [2, 4])
def test_a_common_prefix_is_read_once(parallel: int, model: Path, open_engine: Open) -> None:
    system = "You are a careful clerk. " * 4
    requests = asked("one", "two", "three", "four", "five", "six", system=system, max_tokens=4)
    outcomes = all_of(open_engine(model), requests, parallel)
    read = [each.tokens.prompt - each.tokens.cached for each in outcomes.values() if isinstance(each, Completion)]
    assert len(read) == 6
    if open_engine(model).info().prompt_format == "v1":  # later formats put the system prompt into the last message
        assert max(read) < 16
    assert ids(outcomes) == ids(all_of(open_engine(model), requests, 4 if parallel == 2 else 2))


@pytest.mark.slow
def test_longer_requests_after_short_ones_get_the_cells_they_need(model: Path, open_engine: Open) -> None:
    requests = [*coded(10, 10, 10), *coded(400, 12, max_tokens=300 if FULL else 50), *coded(9)]
    assert ids(all_of(open_engine(model), requests, 2)) == ids(all_of(open_engine(model), requests, 4))


def test_requests_are_taken_as_there_is_room(engine: LocalBackend) -> None:
    taken = 0

    def endless() -> Iterator[Request]:
        nonlocal taken
        for request in itertools.cycle(asked("one", "two", "three")):
            taken += 1
            yield request

    outcomes = engine.answer_all(endless(), 2)
    first = [next(outcomes)[0] for _ in range(4)]
    outcomes.close()  # type: ignore[attr-defined]
    assert sorted(first) == [0, 1, 2, 3]
    assert taken < 4 + 2 * 16


def test_a_program_may_wait_for_each_answer_before_it_asks_again(engine: LocalBackend) -> None:
    answered = threading.Semaphore(1)

    def careful() -> Iterator[Request]:
        for request in asked("one", "two", "three"):
            assert answered.acquire(timeout=60)
            yield request

    got = []
    for index, outcome in engine.answer_all(careful(), 4):
        got.append((index, type(outcome)))
        answered.release()
    assert got == [(0, Completion), (1, Completion), (2, Completion)]


def test_an_error_of_the_iterable_of_requests_reaches_the_caller(engine: LocalBackend) -> None:
    def broken() -> Iterator[Request]:
        yield from asked("one")
        raise DataError("the file ends in the middle")

    outcomes = engine.answer_all(broken(), 4)
    assert next(outcomes)[0] == 0
    with pytest.raises(DataError, match="the file ends in the middle"):
        list(outcomes)
    assert alone(engine, asked("one")[0]).ids


@pytest.mark.parametrize("parallel", [1, 4])
def test_a_cancel_ends_the_batch_and_the_engine_answers_the_next_request(parallel: int, engine: LocalBackend) -> None:
    requests = [*asked("one"), *asked(*"abcdef", max_tokens=20_000)]
    outcomes = []
    for index, outcome in engine.answer_all(requests, parallel):
        outcomes.append((index, outcome))
        if len(outcomes) == 1:
            engine.cancel()
    assert sorted(index for index, _ in outcomes) == list(range(7))
    reasons = {index: outcome.finish_reason for index, outcome in outcomes if isinstance(outcome, Completion)}
    assert [reasons[at] for at in range(7)] == ["length", *["interrupted"] * 6]
    assert len(alone(engine, asked("one")[0]).ids) == 12


@pytest.mark.slow
def test_a_killed_child_costs_no_request_its_answer(model: Path, open_engine: Open) -> None:
    requests = [*asked("one"), *asked(*"abcdef", max_tokens=60), *asked("z")]
    engine = open_engine(model)
    outcomes: Outcomes = {}
    for index, outcome in engine.answer_all(requests, 3):
        outcomes[index] = outcome
        if len(outcomes) == 1:
            assert engine.pid is not None
            os.kill(engine.pid, signal.SIGKILL)
    assert ids(outcomes) == ids(all_of(open_engine(model), requests, 3))


@pytest.mark.slow
def test_only_a_request_that_kills_the_child_alone_gets_the_error(model: Path, open_engine: Open) -> None:
    requests = [*asked("one"), *asked(*"abcdef", max_tokens=150)]
    engine = open_engine(model)
    outcomes: Outcomes = {}

    def kill_the_next(first: int | None) -> None:
        while engine.pid in (first, None):
            time.sleep(0.001)
        os.kill(engine.pid or 0, signal.SIGKILL)

    for index, outcome in engine.answer_all(requests, 3):
        outcomes[index] = outcome
        if len(outcomes) == 1:
            threading.Thread(target=kill_the_next, args=(engine.pid,), daemon=True).start()
            os.kill(engine.pid or 0, signal.SIGKILL)
    errors = {index: each for index, each in outcomes.items() if isinstance(each, ChatError)}
    assert sorted(outcomes) == list(range(7))
    assert len(errors) == 1
    (error,) = errors.values()
    assert isinstance(error, EngineError)
    assert "it was killed (SIGKILL)" in str(error)


def test_without_requests_there_are_no_outcomes(engine: LocalBackend) -> None:
    assert all_of(engine, [], None) == {}
