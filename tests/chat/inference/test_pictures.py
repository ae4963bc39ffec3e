"""Models that see: transformers' answers, and the same ones however much of the prompt was cached, saved or batched."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chat.core.conversation import Message, Picture
from chat.core.events import Completion, Notice
from chat.core.request import EngineOptions, Prompt, Request, Sampling
from chat.errors import ChatError, ContextError, DataError, ModelError, UsageError
from chat.worker.client import LocalBackend
from tests.chat.seeing import QUESTIONS, noise, question, write_encoder
from tests.folders import CHECKPOINTS
from tests.grids import FULL

pytestmark = pytest.mark.engine
Open = Callable[..., LocalBackend]
REFERENCES = json.loads((CHECKPOINTS / "pictures.json").read_text())
GREEDY = Sampling(temperature=0)
COUNT = 24


@pytest.fixture
def open_seeing(seeing_model: Callable[..., Path]) -> Iterator[Open]:
    opened: list[LocalBackend] = []

    def make(kind: str = "small3", **options: object) -> LocalBackend:
        model = seeing_model(kind)
        encoder = model.with_name(f"mmproj-{kind}-F32.gguf")
        exact = {"kv_type": "f32", "flash_attention": "off", "threads": 1, "mmproj": str(encoder)}
        opened.append(LocalBackend(EngineOptions(str(model), **(exact | options))))  # type: ignore[arg-type]
        return opened[-1]

    yield make
    for engine in opened:
        engine.close(keep_state=False)


def request(*messages: Message, session: str | None = None, tokens: int = COUNT) -> Request:
    return Request(Prompt(messages), GREEDY, max_tokens=tokens, session=session)


def ask(engine: LocalBackend, *messages: Message, session: str | None = None, tokens: int = COUNT) -> Completion:
    last = list(engine.reply(request(*messages, session=session, tokens=tokens)))[-1]
    assert isinstance(last, Completion)
    return last


def pictures_of(sizes: tuple[tuple[int, int, int], ...]) -> list[Picture]:
    return [noise(*size) for size in sizes]


@pytest.mark.parametrize("kind", QUESTIONS if FULL else ("small3",))
def test_answers_about_pictures_are_transformers(kind: str, open_seeing: Open) -> None:
    engine = open_seeing(kind)
    for sizes, expected in zip(QUESTIONS[kind], REFERENCES[kind], strict=True):
        message = question(*pictures_of(sizes))
        assert list(engine.render(request(message)).ids) == expected["prompt"]
        answer = ask(engine, message)
        assert list(answer.ids or ())[: len(expected["greedy"])] == expected["greedy"]
        assert answer.tokens.prompt == len(expected["prompt"])


def test_what_is_cached_changes_no_answer(open_seeing: Open) -> None:
    """Another picture of the same size, the same one again, undo, a branch: each as if it were asked first."""
    engine = open_seeing()
    first, second = noise(112, 84, 1), noise(112, 84, 9)
    start = (question(first), Message("assistant", "yes"), question(second, text="and this"))
    alone = ask(open_seeing(), *start).ids
    for photo in (first, second, first):
        answer = list(ask(engine, question(photo)).ids or ())
        assert (answer == REFERENCES["small3"][0]["greedy"]) is (photo is first)
    turn = ask(engine, *start)
    branch = ask(engine, *start[:2], question(first, text="and this"))
    again = ask(engine, *start)
    assert again.ids == turn.ids == alone != branch.ids
    assert again.tokens.cached > len(engine.render(request(start[0])).ids), "the first turn is not read again"


def test_a_state_file_holds_pictures(tmp_path: Path, open_seeing: Open) -> None:
    """The next start reads nothing again, with the same picture; another picture encoder ignores the state."""
    folder = tmp_path / "states"
    message = question(noise(224, 252, 4), noise(252, 140, 5), text="long " * 20)
    engine = open_seeing(state_folder=str(folder))
    told = ask(engine, message, session="a" * 32)
    engine.close()
    engine = open_seeing(state_folder=str(folder))
    again = ask(engine, message, session="a" * 32)
    assert (again.ids, again.tokens.cached) == (told.ids, told.tokens.prompt - 1)
    other = write_encoder(tmp_path / "mmproj.gguf")
    assert ask(open_seeing(state_folder=str(folder), mmproj=str(other)), message, session="a" * 32).tokens.cached == 0


def test_requests_of_a_batch_get_the_answers_they_get_alone(open_seeing: Open) -> None:
    photos = [noise(112, 84, 1), noise(56, 140, 3), noise(112, 84, 9)]
    messages = [question(*photos[: 1 + number % 3], text=f"number {number}") for number in range(7 if FULL else 3)]
    messages += [question(text="no picture"), question(photos[0], text="number 0")]
    engine = open_seeing(flash_attention="on")
    outcomes = dict(engine.answer_all([request(each, tokens=8) for each in messages], None))
    alone = open_seeing(flash_attention="on")
    for number, message in enumerate(messages):
        outcome = outcomes[number]
        assert isinstance(outcome, Completion)
        assert outcome.ids == ask(alone, message, tokens=8).ids, number


def test_old_turns_with_pictures_are_left_out_as_a_whole(open_seeing: Open) -> None:
    engine = open_seeing(context=256, overflow="drop")
    turns: list[Message] = []
    for number in range(5):
        turns += [question(noise(224, 224, number), text=f"turn {number}"), Message("assistant", "ok")]
    events = list(engine.reply(request(*turns, question(text="and"))))
    assert any(isinstance(event, Notice) and "left out" in event.text for event in events)
    kept = engine.render(request(*turns, question(text="and")))
    assert 0 < kept.dropped < 5
    assert kept.text.count("[IMG_END]") == 5 - kept.dropped


def test_a_picture_that_is_too_large_for_the_context_is_refused(open_seeing: Open) -> None:
    engine = open_seeing(context=256)
    photos = [noise(280, 280, number) for number in range(3)]
    with pytest.raises(ContextError, match=r"^the prompt has \d+ tokens, but the context holds 256"):
        ask(engine, question(*photos))


def test_tokens_are_counted_as_they_are_read(open_seeing: Open) -> None:
    engine = open_seeing()
    photo = noise(112, 84, 1)
    counts = engine.count((question(photo, text=""), question(photo, photo), question()))
    prompts = [len(engine.render(request(each)).ids) for each in (question(photo, text="a"), question(photo, photo))]
    assert counts == (15, 36, 6)
    assert prompts == [15 + 1 + 3, 36 + 3]


def test_a_dry_run_needs_no_weights(open_seeing: Open) -> None:
    message = question(noise(112, 84, 1))
    assert list(open_seeing(vocab_only=True).render(request(message)).ids) == REFERENCES["small3"][0]["prompt"]


def test_a_damaged_picture_costs_only_its_question(open_seeing: Open) -> None:
    engine = open_seeing()
    photo = noise(112, 84, 1)
    broken = replace(photo, data=photo.data[:-200], sha256="0" * 64, name="cut.png")
    with pytest.raises(DataError, match=r"^cut\.png: the picture is damaged, or not complete$"):
        ask(engine, question(broken))
    with pytest.raises(DataError, match=r"^cut\.png: the picture is damaged, or not complete$"):
        engine.count((question(broken),))
    assert list(ask(engine, question(photo)).ids or ()) == REFERENCES["small3"][0]["greedy"]


@pytest.mark.parametrize(
    ("made_for", "message"),
    [
        ("small3", "belongs to another model"),
        ("model", "is not a picture encoder"),
        ("missing", "there is no such file"),
        ("text", "is not a GGUF file but something"),
    ],
)
def test_a_wrong_picture_encoder_is_refused_before_the_model_is_loaded(
    made_for: str, message: str, tmp_path: Path, plain_file: Path
) -> None:
    path = tmp_path / "mmproj.gguf"
    if made_for == "small3":  # of 256 columns, not 64
        write_encoder(path, "small3")
    elif made_for == "text":
        path.write_text("hello")
    options = EngineOptions(str(plain_file), mmproj=str(plain_file if made_for == "model" else path))
    engine = LocalBackend(options)
    with pytest.raises(ModelError, match=message):
        engine.info()
    engine.close()


def test_a_model_without_eyes_reads_text_alone(open_seeing: Open) -> None:
    engine = open_seeing(mmproj=None)
    with pytest.raises(UsageError, match=r"^1\.png: the model reads only text, not pictures$"):
        ask(engine, question(noise(28, 28, 1)))
    assert ask(engine, question()).ids


def test_a_cancel_ends_the_encoding(open_seeing: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_seeing()
    events = engine.reply(request(question(noise(280, 280, 1))))
    next(events)
    engine.cancel()
    last = list(events)[-1]
    assert isinstance(last, Completion)
    assert last.finish_reason == "interrupted"
    assert isinstance(ask(engine, question(noise(280, 280, 1))), Completion)


def test_a_picture_is_sent_to_the_child_once(open_seeing: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_seeing()
    written: list[int] = []
    from chat.worker import client

    plain = client.to_line
    monkeypatch.setattr(client, "to_line", lambda message: written.append(len(plain(message))) or plain(message))  # type: ignore[func-returns-value]
    message = question(noise(140, 140, 1))
    for _ in range(2):
        ask(engine, message)
    assert written[0] > 60_000 > 3_000 > max(written[1:])
    try:
        ask(engine, question(replace(message.pictures[0], data=b"")))
    except ChatError as error:  # pragma: no cover - the child has its bytes
        pytest.fail(error.message)
