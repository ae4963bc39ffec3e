"""The local backend: answers, cancels, and a child process that may die at any time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chat.core.conversation import Message
from chat.core.events import Completion, Event, LoadProgress, PrefillProgress, Seconds, TextDelta, TokenCounts
from chat.core.request import EngineOptions, Prompt, Request, Sampling
from chat.errors import ChatError, ContextError, DataError, EngineError, ExitCode, ModelError, UsageError
from chat.system.python_child import python_child
from chat.worker.client import LocalBackend
from chat.worker.protocol import from_line, pack_event, to_line
from tests.chat.tiny_models import Shape, weights, write_gguf
from tests.folders import ROOT
from tests.processes import ends
from tests.program import run_command

GREEDY = Sampling(temperature=0)
HELLO = Request(Prompt(messages=(Message("user", "hello the cat"),)), GREEDY, max_tokens=20)
ENDLESS = Request(Prompt(ids=(5, 6, 7)), Sampling(seed=1), max_tokens=1_000_000)

Open = Callable[..., LocalBackend]


@pytest.fixture
def open_engine() -> Iterator[Open]:
    opened: list[LocalBackend] = []

    def make(path: Path, **options: object) -> LocalBackend:
        exact = {"kv_type": "f32", "flash_attention": "off", "threads": 1}
        engine = LocalBackend(EngineOptions(str(path), **(exact | options)))  # type: ignore[arg-type]
        opened.append(engine)
        return engine

    yield make
    for engine in opened:
        engine.close()


def done(events: Iterator[Event]) -> Completion:
    last = list(events)[-1]
    assert isinstance(last, Completion)
    return last


def test_a_reply_ends_with_the_completion_of_its_events(windowed_file: Path, open_engine: Open) -> None:
    engine = open_engine(windowed_file)
    events = list(engine.reply(HELLO))
    last = events[-1]
    assert isinstance(last, Completion)
    kinds = [type(event) for event in events]
    assert [kind for at, kind in enumerate(kinds) if at == 0 or kind is not kinds[at - 1]] in (
        [LoadProgress, PrefillProgress, TextDelta, Completion],
        [PrefillProgress, TextDelta, Completion],
    )
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == last.text
    rendered = engine.render(HELLO)
    readings = [event for event in events if isinstance(event, PrefillProgress)]
    assert readings[0] == PrefillProgress(0, len(rendered.ids), 0.0)
    assert (readings[-1].done, readings[-1].total) == (last.tokens.prompt, len(rendered.ids))
    assert (last.finish_reason, last.tokens.generated, len(last.ids)) == ("length", 20, 20)
    assert last.sampling.keys() == {"temperature", "top_p", "top_k", "min_p", "repeat_penalty", "seed"}
    assert last.seconds.load > 0 and last.seconds.prompt > 0 and last.seconds.generate > 0
    assert rendered.text == "<s> [INST] hello the cat [/INST]"


def test_model_information(windowed_file: Path, open_engine: Open) -> None:
    info = open_engine(windowed_file).info()
    assert (info.path, info.size, info.type) == (str(windowed_file), windowed_file.stat().st_size, "F32")
    assert (info.architecture, info.window, info.context, info.trained_context) == ("granite_swa", 64, 32768, 32768)
    assert (info.prompt_format, info.details["rolling"], info.details["threads"]) == ("v1", True, 1)


def test_the_next_turn_reads_only_what_is_new_and_answers_as_a_cold_run(plain_file: Path, open_engine: Open) -> None:
    engine = open_engine(plain_file)
    first = done(engine.reply(HELLO))
    messages = (
        *(HELLO.prompt.messages or ()),
        Message("assistant", first.text, first.ids),
        Message("user", "and the dog"),
    )
    second = Request(Prompt(messages=messages), GREEDY, max_tokens=20)
    warm = done(engine.reply(second))
    assert warm.tokens.cached == first.tokens.prompt + first.tokens.generated - 1
    cold = done(open_engine(plain_file).reply(second))
    assert cold.tokens.cached == 0
    assert (warm.text, warm.ids, warm.prompt_ids_sha256) == (cold.text, cold.ids, cold.prompt_ids_sha256)


def test_going_back_in_a_conversation_longer_than_the_window_answers_as_a_cold_run(
    windowed_file: Path, open_engine: Open
) -> None:
    engine = open_engine(windowed_file)
    long = tuple(3 + (i * 7919) % 390 for i in range(900))
    done(engine.reply(Request(Prompt(ids=long), GREEDY, max_tokens=50)))
    edited = Request(Prompt(ids=(*long[:400], 9, 10)), GREEDY, max_tokens=50)
    warm = done(engine.reply(edited))
    cold = done(open_engine(windowed_file).reply(edited))
    assert warm.tokens.cached == 0
    assert warm.ids == cold.ids


def test_a_seed_repeats_the_answer_and_another_does_not(windowed_file: Path, open_engine: Open) -> None:
    engine = open_engine(windowed_file)

    def answer(seed: int | None) -> Completion:
        return done(engine.reply(replace(HELLO, sampling=Sampling(temperature=1.5, seed=seed), max_tokens=30)))

    first, second = answer(11), answer(12)
    assert answer(11).ids == first.ids != second.ids
    drawn = answer(None)
    assert answer(drawn.sampling["seed"]).ids == drawn.ids


def test_stop_strings_end_the_answer_before_them(windowed_file: Path, open_engine: Open) -> None:
    engine = open_engine(windowed_file)
    whole = done(engine.reply(replace(HELLO, max_tokens=60)))
    stop = whole.text[20:24]
    events = list(engine.reply(replace(HELLO, max_tokens=60, stop=("never", stop))))
    last = events[-1]
    assert isinstance(last, Completion)
    assert (last.text, last.finish_reason) == (whole.text[: whole.text.find(stop)], "stop")
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == last.text


def test_max_tokens_and_a_full_context_end_by_length(plain_file: Path, open_engine: Open) -> None:
    engine = open_engine(plain_file, context=256)
    assert engine.info().context == 256
    nothing = done(engine.reply(replace(HELLO, max_tokens=0)))
    assert (nothing.text, nothing.ids, nothing.finish_reason) == ("", (), "length")
    full = done(engine.reply(Request(Prompt(ids=(5,) * 200), Sampling(seed=3, temperature=2.0))))
    assert full.finish_reason == "stop" or full.tokens.generated == 56
    again = done(engine.reply(HELLO))
    assert again.tokens.generated == 20


def test_a_prompt_longer_than_the_context_is_refused_with_both_numbers(plain_file: Path, open_engine: Open) -> None:
    engine = open_engine(plain_file, context=256)
    with pytest.raises(ContextError, match=r"^the prompt has 300 tokens, but the context holds 256 "):
        list(engine.reply(Request(Prompt(ids=(5,) * 300))))
    assert done(engine.reply(HELLO)).tokens.generated == 20


def test_overflow_drops_the_oldest_turns_with_a_notice(plain_file: Path, open_engine: Open) -> None:
    engine = open_engine(plain_file, context=256, overflow="drop")
    messages: tuple[Message, ...] = (Message("system", "yes"),)
    for turn in range(12):
        messages += (Message("user", f"hello the cat {turn}"), Message("assistant", "the dog ran far away"))
    messages += (Message("user", "hello"),)
    engine.info()
    notice, *_, last = engine.reply(Request(Prompt(messages=messages), GREEDY, max_tokens=8))
    assert getattr(notice, "text", "").endswith(
        " oldest turns no longer fit the context of 256 tokens and are left out"
    )
    assert isinstance(last, Completion) and last.tokens.prompt <= 256 - 8


@pytest.mark.parametrize(
    ("request_", "kind", "message"),
    [
        (Request(Prompt(ids=(5, 400))), DataError, "id 400 is not in the vocabulary of 400 pieces"),
        (Request(Prompt(ids=(-1,))), DataError, "id -1 is not in the vocabulary of 400 pieces"),
        (Request(Prompt(ids=())), DataError, "the prompt is empty"),
        (replace(HELLO, sampling=Sampling(seed=-1)), UsageError, "`--seed -1` is out of range: .*"),
        (replace(HELLO, sampling=Sampling(top_p=0)), UsageError, "`--top-p 0` is out of range: .*"),
        (Request(Prompt(text="a\ud800")), DataError, ".*lone surrogate.*"),
    ],
)
def test_a_bad_request_is_refused_and_the_next_one_answered(
    windowed_file: Path, open_engine: Open, request_: Request, kind: type[ChatError], message: str
) -> None:
    engine = open_engine(windowed_file)
    with pytest.raises(kind, match=f"^{message}$"):
        list(engine.reply(request_))
    assert done(engine.reply(HELLO)).tokens.generated == 20


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"window": "65"}, UsageError, "`--window 65` is more than the 64 tokens the model was trained with"),
        ({"window": "x"}, UsageError, "`--window` must be auto, off or a number of tokens, not `x`"),
        ({"prompt_format": "v99"}, UsageError, "unknown prompt format `v99`"),
        ({"kv_type": "q4_0"}, UsageError, "a q4_0 cache needs flash attention"),
        ({"context": 32769}, UsageError, "`--context 32769` is more than the 32,768 tokens that the model can read"),
        ({"gpu_layers": "x"}, UsageError, "`--gpu-layers` must be auto, all or a number of layers, not `x`"),
    ],
)
def test_invalid_options_are_refused_by_every_call(
    windowed_file: Path, open_engine: Open, options: dict[str, object], kind: type[ChatError], message: str
) -> None:
    engine = open_engine(windowed_file, **options)
    for _ in range(2):
        with pytest.raises(kind, match=f"^{message}$"):
            engine.info()


def test_a_missing_file_is_named(tmp_path: Path, open_engine: Open) -> None:
    with pytest.raises(ModelError, match=r"nothing\.gguf"):
        list(open_engine(tmp_path / "nothing.gguf").reply(HELLO))


def test_a_smaller_window_and_none_change_the_answer_only_past_it(windowed_file: Path, open_engine: Open) -> None:
    ids = tuple(3 + (i * 7919) % 390 for i in range(200))
    long, short = (Request(Prompt(ids=ids[:n]), GREEDY, max_tokens=10) for n in (200, 20))
    own, off, small = (open_engine(windowed_file, window=window) for window in ("auto", "off", "16"))
    assert (off.info().window, off.info().context, small.info().window) == (None, 32768, 16)
    assert done(own.reply(short)).ids == done(off.reply(short)).ids
    answers = {done(engine.reply(long)).ids for engine in (own, off, small)}
    assert len(answers) == 3


def test_a_context_no_larger_than_the_window_is_a_plain_one(windowed_file: Path, open_engine: Open) -> None:
    info = open_engine(windowed_file, context=64).info()
    assert (info.context, info.details["rolling"]) == (256, False)  # padded by the library


def test_cancel_while_generating_keeps_the_text_so_far(windowed_file: Path, open_engine: Open) -> None:
    engine = open_engine(windowed_file)
    events = []
    for event in engine.reply(ENDLESS):
        events.append(event)
        if sum(isinstance(event, TextDelta) for event in events) == 5:
            engine.cancel()
    last = events[-1]
    assert isinstance(last, Completion) and last.finish_reason == "interrupted"
    assert last.text == "".join(event.text for event in events if isinstance(event, TextDelta)) != ""
    assert done(engine.reply(HELLO)).finish_reason == "length"


@pytest.mark.slow
def test_cancel_while_reading_a_prompt_ends_it_before_the_next_batch(slow_file: Path, open_engine: Open) -> None:
    engine = open_engine(slow_file)
    engine.info()
    prompt = tuple(range(3, 400)) * 20
    read: list[int] = []
    for event in engine.reply(Request(Prompt(ids=prompt), GREEDY)):
        if isinstance(event, PrefillProgress) and event.done:
            read.append(event.done)
            engine.cancel()
        last = event
    assert len(read) <= 2 and read[-1] < len(prompt) / 2  # the second batch may have been on its way
    assert isinstance(last, Completion)
    assert (last.finish_reason, last.text, last.tokens.generated) == ("interrupted", "", 0)
    assert done(engine.reply(Request(Prompt(ids=(5, 6)), GREEDY, max_tokens=2))).tokens.generated == 2


def test_cancel_while_loading_ends_the_reply_and_the_next_one_is_answered(slow_file: Path, open_engine: Open) -> None:
    engine = open_engine(slow_file)
    events = []
    for event in engine.reply(Request(Prompt(ids=tuple(range(3, 400)) * 20), GREEDY)):
        if not events:
            engine.cancel()
        events.append(event)
    last = events[-1]
    assert isinstance(events[0], LoadProgress) and isinstance(last, Completion)
    assert (last.finish_reason, last.tokens.generated) == ("interrupted", 0)
    assert done(engine.reply(Request(Prompt(ids=(5, 6)), GREEDY, max_tokens=2))).tokens.generated == 2


def test_nothing_comes_after_the_completion_of_a_cancelled_reply(
    tiny_model: Path, open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load that went on sent its progress between the completion and the end of the call."""
    engine = open_engine(tiny_model)
    cancelled = Completion("", "interrupted", (), "", TokenCounts(), Seconds())
    come = (LoadProgress(0.1), cancelled, LoadProgress(0.2))
    events = [from_line(to_line({"event": pack_event(event)})) for event in come]
    monkeypatch.setattr(engine, "_messages", lambda _: iter(events))
    assert list(engine.reply(HELLO)) == [LoadProgress(0.1), cancelled]


def test_cancel_without_a_reply_is_harmless(windowed_file: Path, open_engine: Open) -> None:
    engine = open_engine(windowed_file)
    engine.cancel()
    assert done(engine.reply(HELLO)).finish_reason == "length"
    engine.cancel()
    assert done(engine.reply(HELLO)).finish_reason == "length"


def test_a_reply_that_is_not_read_to_its_end_is_stopped(windowed_file: Path, open_engine: Open) -> None:
    engine = open_engine(windowed_file)
    events = engine.reply(ENDLESS)
    next(event for event in events if isinstance(event, TextDelta))
    events.close()  # type: ignore[attr-defined]
    assert done(engine.reply(HELLO)).tokens.generated == 20


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGILL])
def test_a_child_that_dies_is_one_sentence_and_the_next_call_works(
    windowed_file: Path, open_engine: Open, number: signal.Signals
) -> None:
    engine = open_engine(windowed_file)
    with pytest.raises(EngineError) as caught:
        for event in engine.reply(ENDLESS):
            if isinstance(event, TextDelta) and engine.pid:
                os.kill(engine.pid, number)
    assert caught.value.exit_code == ExitCode.ENGINE == 8
    assert caught.value.message.startswith("the engine stopped: ") and number.name in caught.value.message
    assert "\n" not in caught.value.message
    if number == signal.SIGKILL:
        assert "ran out of memory" in caught.value.message
    assert done(engine.reply(HELLO)).tokens.generated == 20


def test_a_child_that_dies_while_idle_or_loading_is_noticed_by_the_next_call(
    windowed_file: Path, open_engine: Open
) -> None:
    engine = open_engine(windowed_file)
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)  # while it loads
    with pytest.raises(EngineError, match="SIGKILL"):
        engine.info()
    engine.info()
    os.kill(engine.pid, signal.SIGKILL)  # while it waits
    with pytest.raises(EngineError, match="SIGKILL"):
        list(engine.reply(HELLO))
    assert done(engine.reply(HELLO)).tokens.generated == 20


def test_messages_are_counted_without_bos(windowed_file: Path, open_engine: Open) -> None:
    messages = tuple(Message("user", text) for text in ("hello world", "", "the"))
    assert open_engine(windowed_file).count(messages) == (2, 0, 1)


def test_an_answer_counts_as_its_own_ids_unless_another_vocabulary_made_them(
    windowed_file: Path, open_engine: Open
) -> None:
    engine = open_engine(windowed_file)
    answer = done(engine.reply(HELLO))
    assert answer.ids and engine.count((Message("user", answer.text),)) != (len(answer.ids),)
    own = Message("assistant", answer.text, ids=answer.ids)
    foreign = replace(own, ids=(*answer.ids, 999_999))
    assert engine.count((own, foreign)) == (len(answer.ids), *engine.count((Message("user", answer.text),)))


def test_the_vocabulary_alone_renders_but_does_not_answer(windowed_file: Path, open_engine: Open) -> None:
    engine = open_engine(windowed_file, vocab_only=True)
    assert engine.render(HELLO).ids == open_engine(windowed_file).render(HELLO).ids
    with pytest.raises(UsageError, match="only the vocabulary was loaded"):
        list(engine.reply(HELLO))


def test_a_closed_engine_leaves_no_process(windowed_file: Path, open_engine: Open) -> None:
    engine = open_engine(windowed_file)
    pid = engine.pid
    assert pid is not None
    engine.close()
    engine.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(EngineError, match="the engine is closed"):
        engine.info()


def test_the_child_is_gone_soon_after_its_parent_was_killed(windowed_file: Path) -> None:
    code = (
        "import sys; from chat.worker.client import LocalBackend; from chat.core.request import *\n"
        f"e = LocalBackend(EngineOptions({str(windowed_file)!r})); e.info(); print(e.pid, flush=True)\n"
        "for _ in e.reply(Request(Prompt(ids=(5, 6, 7)), max_tokens=10**6)): pass"
    )
    root = str(ROOT)
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=root)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert ends(child)


def test_a_child_whose_parent_was_killed_in_the_middle_of_a_call_ends() -> None:
    """Once it waited for ever, with its model: a long prompt takes several writes, and half a line is no call."""
    command = python_child("chat.worker.server")
    assert run_command(command, input=b'{"id":1,"call":"reply","req', capture_output=True, timeout=60).returncode == 0
    done = run_command(command, input=b"no call\n", capture_output=True, timeout=60)
    assert done.returncode == 1 and b"Expecting value" in done.stderr


def test_interrupt_of_the_terminal_does_not_reach_the_child(windowed_file: Path, open_engine: Open) -> None:
    engine = open_engine(windowed_file)
    engine.info()
    assert engine.pid is not None
    assert os.getsid(engine.pid) == engine.pid  # in a session of its own
    os.kill(engine.pid, signal.SIGINT)
    assert done(engine.reply(HELLO)).tokens.generated == 20


def test_the_log_file_holds_the_output_of_llama_cpp(windowed_file: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    engine = LocalBackend(EngineOptions(str(windowed_file)), log_file=log)
    engine.info()
    engine.close()
    assert "llama_model_loader" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("norm", "output"), [(float("nan"), 1.0), (1e30, 1e30), (1e30, -1e30)])
def test_weights_that_give_no_numbers_are_an_error(
    norm: float, output: float, tmp_path: Path, open_engine: Open
) -> None:
    """Logits that are all infinite ended in an empty answer."""
    shape = Shape()
    tensors = weights(shape)
    tensors["output_norm.weight"][1:] = 0
    tensors["output_norm.weight"][0] = norm
    tensors["output.weight"][:] = output  # all logits are alike
    engine = open_engine(write_gguf(tmp_path / "nan.gguf", shape, tensors))
    for sampling in (GREEDY, Sampling(seed=1)):
        with pytest.raises(EngineError, match=r"^the model computed NaN or infinity instead of numbers$"):
            list(engine.reply(replace(HELLO, sampling=sampling)))
