"""Run one reply: events come from a thread, are shown and kept as they come, and Ctrl+C is obeyed at every moment.

Knows events, not engines, commands or the store.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chat.core.events import Completion, Notice, TextDelta
from chat.errors import ChatError
from chat.rendering.styled_text import Line, plain, wrap
from chat.rendering.wait_text import PATIENCE_SECONDS, SILENCE_SECONDS, WaitState
from chat.system.terminal_text import escape_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.core.events import Event
    from chat.core.request import Request
    from chat.rendering.answer_view import AnswerView
    from chat.rendering.screen import Screen
    from chat.tui.background_backend import BackgroundBackend
    from chat.tui.signals import Signals

POLL_SECONDS = 0.05
KEEP_SECONDS = 1.0  # between two times that the answer so far is stored
GRACE_SECONDS = 1.0  # that an engine gets to end its answer when the program is to end


@dataclass
class ReplyOutcome:
    """How a reply went: `text` is all that was shown, `done` is missing where it broke off."""

    text: str = ""
    done: Completion | None = None
    error: Exception | None = None
    is_cancelled: bool = False
    is_left: bool = False  # the program is to end, and the engine was not waited for


@dataclass(frozen=True)
class Timing:
    """How long to wait for what, in seconds."""

    poll: float = POLL_SECONDS
    patience: float = PATIENCE_SECONDS
    silence: float = SILENCE_SECONDS
    keep: float = KEEP_SECONDS
    grace: float = GRACE_SECONDS


@dataclass
class StreamingReply:
    """One reply on its way to the screen."""

    room: BackgroundBackend
    request: Request
    view: AnswerView
    screen: Screen
    signals: Signals
    keep: Callable[[str], None]  # stores the answer so far
    model_name: str = ""
    timing: Timing = field(default_factory=Timing)
    reply: ReplyOutcome = field(default_factory=ReplyOutcome)
    # no SimpleQueue: in CPython a signal near the end of its timeout makes it wait for ever
    _events: queue.Queue[Event | Exception | None] = field(default_factory=queue.Queue)
    _kept_at: float = 0.0
    _cancelled_at: float = 0.0
    _waiting: WaitState = field(init=False)

    def run(self) -> ReplyOutcome:
        """Show the reply until it ends, is cancelled, or the program is to end."""
        self._kept_at = time.monotonic()
        self._waiting = WaitState(self.model_name, self.timing.patience, self.timing.silence)
        threading.Thread(target=self._listen, daemon=True, name="reply").start()
        while self._step():
            pass
        self.view.finish()
        if self.reply.error is not None and not isinstance(self.reply.error, ChatError):
            raise self.reply.error
        return self.reply

    def _listen(self) -> None:
        try:
            self.room.wait()
            if self.reply.is_cancelled:
                return
            for event in self.room.replier.reply(self.request):
                self._events.put(event)
            self._events.put(None)
        except Exception as error:  # handed to the main thread, which tells or raises it
            self._events.put(error)

    def _step(self) -> bool:
        """Take what has come, draw, and look at the signals; False at the end."""
        try:
            event = self._events.get(timeout=self.timing.poll)
            while True:
                if not self._take(event):
                    return False
                event = self._events.get_nowait()
        except queue.Empty:
            pass
        self._draw()
        return self._obey()

    def _take(self, event: Event | Exception | None) -> bool:
        if event is None or isinstance(event, Exception):
            self.reply.error = event
            return False
        self._waiting.hear(event)
        if isinstance(event, TextDelta):
            self.reply.text += event.text
            self.view.feed(event.text)
        elif isinstance(event, Notice):
            self.view.note(*wrap(plain(f"note: {escape_line(event.text)}", "magenta"), self.screen.width), ())
        elif isinstance(event, Completion):
            self.reply.done = event
        return True

    def _draw(self) -> None:
        now = time.monotonic()
        self.view.tick(self._below(now))
        if self.reply.text and now - self._kept_at >= self.timing.keep:
            self.keep(self.reply.text)
            self._kept_at = now

    def _below(self, now: float) -> list[Line]:
        """The line of status under the answer, once there is something to wait for."""
        width = self.screen.width
        if self._cancelled_at and now - self._cancelled_at > self.timing.patience:
            return [plain("stopping · Ctrl+C again leaves"[: width - 1], "dim")]
        return self._waiting.lines(width, None if self.room.is_settled else self.room.loaded)

    def _obey(self) -> bool:
        """Do what signals ask for; False when the engine is not to be waited for."""
        now = time.monotonic()
        if (self.signals.presses or self.signals.leaving) and not self._cancelled_at:
            self._cancelled_at = now
            self.reply.is_cancelled = True
            if not self.room.is_settled:
                return False
            self.room.replier.cancel()
        if self.signals.presses >= 2 or (self.signals.leaving and now - self._cancelled_at > self.timing.grace):
            self.reply.is_left = self.signals.is_hurried = True
            return False
        return True
