"""What a person should know of the model is told once, with the first conversation, alone or in a batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat.core.conversation import Message
from chat.core.events import Completion, Notice
from chat.core.request import EngineOptions, Prompt, Request, Sampling
from chat.inference import batch_scheduler
from chat.inference.batch_scheduler import BatchScheduler
from chat.inference.loaded_model import load_model
from chat.worker.client import LocalBackend
from tests.chat.conftest import PLAIN
from tests.chat.tiny_models import Array, write_gguf

BASE = "prompt format raw (the file names it): this model goes on with a text and does not answer"
TALK = Request(Prompt(messages=(Message("user", "the cat"),)), Sampling(temperature=0), max_tokens=3)


@pytest.fixture
def base_model(plain_weights: dict[str, Array], tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "base.gguf", PLAIN, plain_weights, "raw")


def told(engine: LocalBackend, request: Request) -> list[str]:
    return [event.text for event in engine.reply(request) if isinstance(event, Notice)]


def test_a_conversation_with_a_base_model_begins_with_a_notice(base_model: Path) -> None:
    engine = LocalBackend(EngineOptions(str(base_model), threads=1))
    text = Request(Prompt(text="the cat"), Sampling(temperature=0), max_tokens=3)
    assert [told(engine, each) for each in (text, TALK, TALK)] == [[], [BASE], []]
    assert engine.info().details["prompt_format_reason"] == "the file names it"
    engine.close()


def test_who_asks_for_no_format_needs_no_notice(base_model: Path) -> None:
    engine = LocalBackend(EngineOptions(str(base_model), threads=1, prompt_format="raw"))
    assert told(engine, TALK) == []
    engine.close()


def test_a_batch_tells_it_too(base_model: Path) -> None:
    engine = LocalBackend(EngineOptions(str(base_model), threads=1))
    heard: list[str] = []
    outcomes = list(engine.answer_all([TALK, TALK], None, heard.append))
    engine.close()
    assert [isinstance(outcome, Completion) for _, outcome in outcomes] == [True, True]
    assert heard == [BASE]


class Requests:
    """All at once."""

    def __init__(self, requests: list[Request]) -> None:
        self._left = list(enumerate(requests))

    @property
    def ended(self) -> bool:
        return not self._left

    def take(self, wait_seconds: float | None) -> tuple[int, Request] | None:
        return self._left.pop(0) if self._left else None


@pytest.mark.parametrize(
    ("asked", "words"),
    [(4, ["2 at a time instead of the 4 of `--parallel`: memory allows no more"]), (2, []), (None, [])],
)
def test_fewer_at_a_time_than_asked_for_is_said_once(
    asked: int | None, words: list[str], plain_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = load_model(EngineOptions(str(plain_file), context=512, threads=1))
    cell_bytes = room.info.details["cache_bytes"] / room.info.details["cells"]
    monkeypatch.setattr(
        batch_scheduler, "host_free_bytes", lambda: int(cell_bytes * 256 * 5)
    )  # half of it is for lanes
    heard: list[str] = []
    together = BatchScheduler(room, asked, heard.append)
    outcomes = [each for each in together.outcomes(Requests([TALK] * 7)) if each[1] is not None]
    room.close()
    assert sorted(index for index, _ in outcomes) == list(range(7))
    assert heard == words


def test_a_prompt_longer_than_a_window_model_was_trained_on_is_told_once(tiny_model: Path) -> None:
    engine = LocalBackend(EngineOptions(str(tiny_model), threads=1))
    known = engine.info().trained_context
    long, longer = (
        Request(Prompt(ids=(1,) + (5,) * count), Sampling(temperature=0), max_tokens=1) for count in (known, known + 1)
    )
    short = Request(Prompt(ids=(1, 5, 5)), Sampling(temperature=0), max_tokens=1)
    beyond = f"the prompt has {known + 1:,} tokens, more than the {known:,} the model was trained on"
    assert [told(engine, each) for each in (short, long, longer)] == [[], [beyond], []]
    engine.close()
