"""What stands under an answer while one waits, and when an answer is kept."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from chat.core.request import EngineOptions, Prompt, Request
from chat.errors import EngineError
from chat.rendering.answer_view import MarkdownAnswer
from chat.rendering.screen import Screen
from chat.tui.background_backend import BackgroundBackend
from chat.tui.event_queue import EventQueue, SessionEvent
from chat.tui.signals import Signals
from chat.tui.streaming import StreamingReply, Timing
from chat.tui.tty_modes import TtyModes
from tests.chat.tui.scripted import Scripted

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.core.backend import ModelInfo

QUICK = Timing(poll=0.01, patience=0.1, silence=0.3, store=0.05, grace=0.2)


class Watch:
    """A turn of a scripted engine, with what it wrote and kept."""

    def __init__(self, *scripts: Any, **facts: Any) -> None:
        self.stream = io.StringIO()
        self.kept: list[str] = []
        self.events = EventQueue()
        self.signals = Signals(TtyModes(), self.events)
        self.engine = Scripted(scripts, **facts)
        screen = Screen(self.stream, is_live=True, colour=False, size=lambda: os.terminal_size((80, 24)))
        self.reply = StreamingReply(
            BackgroundBackend(lambda options: self.engine, EngineOptions("/x.gguf"), self.events),
            Request(Prompt(text="x")),
            MarkdownAnswer(screen),
            screen,
            self.signals,
            self.kept.append,
            "tiny",
            timing=QUICK,
        )

    def press_after(self, seconds: float, times: int = 1) -> None:
        """Press Ctrl+C later."""

        def press() -> None:
            self.signals.presses += times

        threading.Timer(seconds, press).start()


def test_a_silent_engine_is_named_after_a_while_and_can_be_stopped() -> None:
    watch = Watch([["text", "begun"], ["sleep", 60]])
    watch.press_after(1.5)
    reply = watch.reply.run()
    assert "no token for 0 s · Ctrl+C stops" in watch.stream.getvalue()
    assert (reply.text, reply.completion and reply.completion.finish_reason) == ("begun", "interrupted")


def test_an_engine_deaf_to_the_first_press_is_left_at_the_second() -> None:
    watch = Watch([["text", "begun"], ["hang"]])
    watch.press_after(0.05)
    watch.press_after(0.5)
    before = time.monotonic()
    reply = watch.reply.run()
    assert 0.4 < time.monotonic() - before < 2
    assert "stopping · Ctrl+C again leaves" in watch.stream.getvalue()
    assert (reply.text, reply.completion, reply.is_abandoned, reply.is_cancelled) == ("begun", None, True, True)


def test_a_signal_at_the_end_of_a_wait_is_obeyed() -> None:
    """Once a handler that outlasted the wait for an event made it a wait without an end (CPython's SimpleQueue)."""
    watch = Watch([["sleep", 3], ["text", "too late"]])
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    before = time.monotonic()
    with watch.signals.installed(), watch.events.waking(lambda: time.sleep(0.05)):
        reply = watch.reply.run()
    assert time.monotonic() - before < 2
    assert (reply.text, reply.is_cancelled) == ("", True)


def test_short_waits_need_no_words() -> None:
    watch = Watch([["read", 10, 100, 0.02], ["text", "answer"]])
    watch.reply.run()
    assert "reading" not in watch.stream.getvalue()


def test_long_reading_shows_figures_and_goes_without_a_trace() -> None:
    watch = Watch([["sleep", 0.15], ["read", 25, 100, 5.0], ["sleep", 0.1], ["text", "answer"]])
    watch.reply.run()
    assert "25 of 100 tokens · 15 s left · 5.0/s" in watch.stream.getvalue()
    assert watch.stream.getvalue().rsplit("\x1b[J", 1)[1].startswith("answer")


@pytest.mark.slow
def test_silence_while_a_batch_is_read_is_told_only_when_it_takes_longer_than_those_before() -> None:
    first = [["read", 0, 100, 0.0], ["sleep", 0.6]]
    watch = Watch([*first, ["read", 50, 100, 0.6], ["sleep", 1.2], ["read", 100, 100, 1.8]])
    watch.reply.run()
    assert "no token" not in watch.stream.getvalue()
    watch = Watch([["read", 0, 100, 0.0], ["sleep", 0.2], ["read", 50, 100, 0.2], ["sleep", 1.2]])
    watch.reply.run()
    assert "no token for 0 s · Ctrl+C stops" in watch.stream.getvalue()


def test_loading_is_shown_and_given_up_at_once() -> None:
    watch = Watch([], load=30.0)
    watch.press_after(0.4)
    before = time.monotonic()
    reply = watch.reply.run()
    assert time.monotonic() - before < 2
    assert "loading tiny · " in watch.stream.getvalue()
    assert (reply.text, reply.completion, reply.is_cancelled, reply.is_abandoned) == ("", None, True, False)
    assert watch.engine.requests == []


def test_the_answer_so_far_is_kept_again_and_again() -> None:
    watch = Watch([["chars", "x" * 40, 0.01]])
    watch.reply.run()
    assert len(watch.kept) >= 3 and watch.kept == sorted(watch.kept, key=len)


def test_a_fault_comes_back_with_what_was_said() -> None:
    watch = Watch([["text", "half"], ["die"]])
    reply = watch.reply.run()
    assert isinstance(reply.error, EngineError) and reply.text == "half" and reply.completion is None


def test_an_unexpected_fault_is_not_swallowed() -> None:
    watch = Watch([["nonsense"]])
    with pytest.raises(AssertionError, match="nonsense"):
        watch.reply.run()


def test_notices_stand_above_what_is_unfinished() -> None:
    watch = Watch(
        [["text", "Done.\n\nhalf "], ["sleep", 0.1], ["notice", "turn 1 left\x1b the context"], ["text", "way"]]
    )
    watch.reply.run()
    shown = watch.stream.getvalue()
    assert shown.index("Done.") < shown.index("note: turn 1 left␛ the context") < shown.rindex("half way")


def test_an_unexpected_error_of_loading_leaves_nobody_waiting() -> None:
    """Once an error in what was done after loading ended its thread, and the session waited for ever."""

    class Failing(Scripted):
        def info(self, on_loading: Callable[[float], None] = lambda _: None) -> ModelInfo:
            raise FileNotFoundError(2, "No such file", "topics.bin")

    backend = BackgroundBackend(lambda options: Failing(), EngineOptions("/x.gguf"), EventQueue())
    assert backend.wait_for_load(5)
    assert backend.fault is not None and backend.info is None
    assert backend.fault.message == "unexpected: FileNotFoundError: [Errno 2] No such file: 'topics.bin'"


def test_loading_posts_its_progress_and_its_end() -> None:
    events = EventQueue()
    posted = threading.Semaphore(0)
    with events.waking(posted.release):
        backend = BackgroundBackend(lambda options: Scripted(load=0.1, loaded=0.5), EngineOptions("/x.gguf"), events)
        assert posted.acquire(timeout=5) and posted.acquire(timeout=5)
    assert list(events.take()) == [SessionEvent.LOAD_PROGRESSED, SessionEvent.LOAD_ENDED]
    assert (backend.loaded_fraction, backend.fault) == (0.5, None) and backend.info is not None
