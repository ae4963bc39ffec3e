"""A reply on its way to the screen: its status lines, its cancellation, and when it is stored."""

from __future__ import annotations

import io
import os
import re
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
from tests.chat.tui.pseudo_terminal import DEADLINE_SECONDS
from tests.chat.tui.scripted import Scripted

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.core.backend import ModelInfo

QUICK = Timing(poll=0.01, patience=0.1, silence=0.3, store=0.05, grace=0.2)


class Watch:
    """A reply of a scripted engine, with what it wrote and stored."""

    def __init__(self, *scripts: Any, timing: Timing = QUICK, **facts: Any) -> None:
        self.stream = io.StringIO()
        self.stored: list[str] = []
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
            lambda text, reasoning: self.stored.append(text),
            "tiny",
            timing=timing,
        )

    def has_shown(self, text: str) -> bool:
        """Whether a text was written to the screen."""
        return text in self.stream.getvalue()

    def press_once_shown(self, *texts: str) -> None:
        """Press Ctrl+C when each of these texts is shown, one after the other."""

        def press() -> None:
            for text in texts:
                while not self.has_shown(text):
                    time.sleep(0.01)
                self.signals.presses += 1

        threading.Thread(target=press, daemon=True).start()


def test_a_silent_engine_is_reported_and_can_be_stopped() -> None:
    watch = Watch([["text", "begun"], ["wait"]])
    watch.press_once_shown("no token for ")
    reply = watch.reply.run()
    assert re.search(r"no token for \d+ s · Ctrl\+C stops", watch.stream.getvalue())
    assert (reply.text, reply.completion and reply.completion.finish_reason) == ("begun", "interrupted")


def test_a_second_ctrl_c_abandons_an_engine_that_ignored_the_first() -> None:
    watch = Watch([["text", "begun"], ["hang"]])
    watch.press_once_shown("begun", "stopping · Ctrl+C again quits")
    reply = watch.reply.run()
    assert (reply.text, reply.completion, reply.is_abandoned, reply.is_cancelled) == ("begun", None, True, True)


def test_a_signal_at_the_end_of_a_wait_cancels_the_reply() -> None:
    """Once a handler that took longer than the wait for an event made it wait for ever (CPython's SimpleQueue)."""
    watch = Watch([["until", lambda: time.monotonic() > too_late], ["text", "too late"]])
    too_late = time.monotonic() + DEADLINE_SECONDS

    def terminate() -> None:
        while not watch.engine.requests:
            time.sleep(QUICK.poll)
        os.kill(os.getpid(), signal.SIGTERM)

    with watch.signals.installed(), watch.events.waking(lambda: time.sleep(5 * QUICK.poll)):
        threading.Thread(target=terminate, daemon=True).start()
        reply = watch.reply.run()
    assert (reply.text, reply.is_cancelled) == ("", True)


def test_short_waits_are_not_shown() -> None:
    watch = Watch([["read", 10, 100, 0.02], ["text", "answer"]], timing=Timing(patience=DEADLINE_SECONDS))
    watch.reply.run()
    assert not watch.has_shown("reading")


def test_long_reading_is_shown_and_removed() -> None:
    watch = Watch([["read", 25, 100, 5.0], ["until", lambda: watch.has_shown("25 of 100")], ["text", "answer"]])
    watch.reply.run()
    assert re.search(r"25 of 100 tokens · \d+ s left · 5\.0/s", watch.stream.getvalue())
    assert watch.stream.getvalue().rsplit("\x1b[J", 1)[1].startswith("answer")


def test_loading_is_shown_and_stops_at_once() -> None:
    watch = Watch([], loads_when=lambda: False)
    watch.press_once_shown("loading tiny · ")
    reply = watch.reply.run()
    assert (reply.text, reply.completion, reply.is_cancelled, reply.is_abandoned) == ("", None, True, False)
    assert watch.engine.requests == []


def test_the_unfinished_answer_is_stored_repeatedly() -> None:
    script = [["text", "one "], ["until", lambda: watch.stored], ["text", "two "], ["until", lambda: watch.stored[1:]]]
    watch = Watch([*script, ["text", "three"]])
    watch.reply.run()
    assert list(dict.fromkeys(watch.stored))[:2] == ["one ", "one two "]


def test_an_error_comes_with_the_text_before_it() -> None:
    watch = Watch([["text", "half"], ["die"]])
    reply = watch.reply.run()
    assert isinstance(reply.error, EngineError) and reply.text == "half" and reply.completion is None


def test_an_unexpected_error_of_the_backend_is_the_end_of_the_reply() -> None:
    """It was raised, and ended the session."""
    reply = Watch([["text", "half"], ["nonsense"]]).reply.run()
    assert (reply.text, str(reply.error), reply.completion) == ("half", "nonsense", None)


def test_an_unexpected_error_in_showing_an_answer_cancels_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ended the session, and what had come of the answer was lost."""
    watch = Watch([["text", "half"], ["wait"]])
    monkeypatch.setattr(watch.reply.view, "feed", lambda text: 1 // 0)
    reply = watch.reply.run()
    assert (reply.text, str(reply.error)) == ("half", "integer division or modulo by zero")
    assert watch.engine._cancelled.is_set()


def test_notices_are_shown_above_the_unfinished_piece() -> None:
    notice = ["notice", "turn 1 left\x1b the context"]
    watch = Watch([["text", "Done.\n\nhalf "], ["until", lambda: watch.has_shown("half")], notice, ["text", "way"]])
    watch.reply.run()
    shown = watch.stream.getvalue()
    assert shown.index("Done.") < shown.index("note: turn 1 left␛ the context") < shown.rindex("half way")


def test_an_unexpected_error_of_loading_ends_the_wait() -> None:
    """Once an error in what was done after loading ended its thread, and the session waited for ever."""

    class Failing(Scripted):
        def info(self, on_loading: Callable[[float], None] = lambda _: None) -> ModelInfo:
            raise FileNotFoundError(2, "No such file", "topics.bin")

    backend = BackgroundBackend(lambda options: Failing(), EngineOptions("/x.gguf"), EventQueue())
    assert backend.wait_for_load(DEADLINE_SECONDS)
    assert backend.fault is not None and backend.info is None
    assert backend.fault.message == "unexpected: FileNotFoundError: No such file: 'topics.bin'"


def test_loading_posts_its_progress_and_its_end() -> None:
    events = EventQueue()
    posted = threading.Semaphore(0)
    with events.waking(posted.release):
        backend = BackgroundBackend(lambda options: Scripted(loaded=0.5), EngineOptions("/x.gguf"), events)
        assert all(posted.acquire(timeout=DEADLINE_SECONDS) for _ in range(2))
    assert list(events.take()) == [SessionEvent.LOAD_PROGRESSED, SessionEvent.LOAD_ENDED]
    assert (backend.loaded_fraction, backend.fault) == (0.5, None) and backend.info is not None
