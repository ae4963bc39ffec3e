"""Notices about the model come once, with the first conversation, alone or in a batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chat.core.conversation import Message
from chat.core.events import Completion, Notice
from chat.core.request import EngineOptions, Prompt, Request, Sampling
from chat.inference import batch_scheduler
from chat.inference.batch_scheduler import BatchScheduler
from chat.inference.loaded_model import load_model
from chat.worker.client import LocalBackend
from tests.chat.conftest import PLAIN, WINDOWED
from tests.chat.tiny_models import Array, write_gguf

BASE = "This is a base model: it continues text instead of answering."
CONVERSATION = Request(Prompt(messages=(Message("user", "the cat"),)), Sampling(temperature=0), max_tokens=3)


@pytest.fixture
def base_model(plain_weights: dict[str, Array], tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "base.gguf", PLAIN, plain_weights, "raw")


def notices(engine: LocalBackend, request: Request) -> list[str]:
    return [event.text for event in engine.reply(request) if isinstance(event, Notice)]


def test_a_conversation_with_a_base_model_begins_with_a_notice(base_model: Path) -> None:
    engine = LocalBackend(EngineOptions(str(base_model), threads=1))
    text = Request(Prompt(text="the cat"), Sampling(temperature=0), max_tokens=3)
    assert [notices(engine, request) for request in (text, CONVERSATION, CONVERSATION)] == [[], [BASE], []]
    assert engine.info().details["prompt_format_reason"] == "the file names it"
    engine.close()


def test_a_format_that_was_asked_for_needs_no_notice(base_model: Path) -> None:
    engine = LocalBackend(EngineOptions(str(base_model), threads=1, prompt_format="raw"))
    assert notices(engine, CONVERSATION) == []
    engine.close()


def test_a_batch_gives_the_notice_too(base_model: Path) -> None:
    engine = LocalBackend(EngineOptions(str(base_model), threads=1))
    received: list[str] = []
    outcomes = list(engine.answer_all([CONVERSATION, CONVERSATION], None, received.append))
    engine.close()
    assert [isinstance(outcome, Completion) for _, outcome in outcomes] == [True, True]
    assert received == [BASE]


def test_a_wish_that_changes_nothing_is_told_once_until_it_is_taken_back(plain_file: Path) -> None:
    """A limit of the reasoning was ignored without a word by a model that does not mark any."""
    limited = replace(CONVERSATION, max_thinking_tokens=9)
    both = replace(limited, prompt=replace(limited.prompt, thinks=True))
    engine = LocalBackend(EngineOptions(str(plain_file), threads=1))
    limit = "this model does not mark its reasoning, so `--think-limit` changes nothing"
    on = "this model does not think before it answers, so `--think on` changes nothing"
    asked = (limited, limited, both, CONVERSATION, limited)
    assert [notices(engine, request) for request in asked] == [[limit], [], [on], [], [limit]]
    engine.close()


class Requests:
    """A request source with all requests from the start."""

    def __init__(self, requests: list[Request]) -> None:
        self._left = list(enumerate(requests))

    @property
    def ended(self) -> bool:
        return not self._left

    def take(self, wait_seconds: float | None) -> tuple[int, Request] | None:
        return self._left.pop(0) if self._left else None


@pytest.mark.parametrize(
    ("asked", "words"),
    [(4, ["2 answers at a time instead of 4: memory allows no more"]), (2, []), (None, [])],
)
def test_fewer_requests_at_a_time_than_asked_for_give_one_notice(
    asked: int | None, words: list[str], plain_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_model(EngineOptions(str(plain_file), context=512, threads=1))
    cell_bytes = loaded.info.details["cache_bytes"] / loaded.info.details["cells"]
    monkeypatch.setattr(
        batch_scheduler, "host_free_bytes", lambda: int(cell_bytes * 256 * 5)
    )  # half of it is for sequences
    received: list[str] = []
    scheduler = BatchScheduler(loaded, asked, received.append)
    outcomes = [each for each in scheduler.outcomes(Requests([CONVERSATION] * 7)) if each[1] is not None]
    loaded.close()
    assert sorted(index for index, _ in outcomes) == list(range(7))
    assert received == words


def test_a_prompt_longer_than_a_window_model_was_trained_on_gives_one_notice(
    windowed_weights: dict[str, Array], tmp_path: Path
) -> None:
    path = write_gguf(tmp_path / "windowed.gguf", replace(WINDOWED, context=512), windowed_weights)
    engine = LocalBackend(EngineOptions(str(path), threads=1))
    known = engine.info().trained_context
    long, longer = (
        Request(Prompt(ids=(1,) + (5,) * count), Sampling(temperature=0), max_tokens=1) for count in (known, known + 1)
    )
    short = Request(Prompt(ids=(1, 5, 5)), Sampling(temperature=0), max_tokens=1)
    beyond = f"the prompt has {known + 1:,} tokens, more than the {known:,} the model was trained on"
    assert [notices(engine, request) for request in (short, long, longer)] == [[], [beyond], []]
    engine.close()
