"""Stream one reply to the screen: a thread receives its events, the main thread shows them and watches the signals."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chat.core.events import Completion, Notice, ReasoningDelta, TextDelta
from chat.rendering.styled_text import Line, plain, wrap
from chat.rendering.wait_indicator import PATIENCE_SECONDS, SILENCE_SECONDS, WaitState
from chat.system.terminal_text import escape_line
from chat.tui.commands.session_options import session_sentence

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.core.events import Event
    from chat.core.request import Request
    from chat.rendering.answer_view import AnswerView
    from chat.rendering.screen import Screen
    from chat.tui.background_backend import BackgroundBackend
    from chat.tui.signals import Signals


@dataclass
class ReplyOutcome:
    """How a reply ended.

    Attributes:
        text: all text of the answer that was shown.
        reasoning: all text of the reasoning before it.
        completion: the last event; None if the reply ended before it.
        error: why the reply failed.
        is_cancelled: whether Ctrl+C or a signal stopped it.
        is_abandoned: whether the program ends without waiting for the engine.
    """

    text: str = ""
    reasoning: str = ""
    completion: Completion | None = None
    error: Exception | None = None  # a ChatError, or one that nobody expected
    is_cancelled: bool = False
    is_abandoned: bool = False

    @property
    def has_nothing(self) -> bool:
        """Whether Ctrl+C stopped the reply before anything was generated."""
        done = self.completion
        is_empty = done is None or not (done.text or done.reasoning or done.tool_calls)
        return self.is_cancelled and not self.is_abandoned and is_empty and not (self.text or self.reasoning)


@dataclass(frozen=True)
class Timing:
    """Times of a reply, in seconds.

    Attributes:
        poll: between two looks at the signals.
        patience: until a wait is shown.
        silence: without a token, until that is shown.
        store: between two times that the unfinished answer is stored.
        grace: for the engine to end its answer when the program ends.
    """

    poll: float = 0.05
    patience: float = PATIENCE_SECONDS
    silence: float = SILENCE_SECONDS
    store: float = 1.0
    grace: float = 1.0


@dataclass
class StreamingReply:
    """One reply on its way to the screen.

    Attributes:
        backend: answers; it may still load its model.
        request: what it is asked.
        view: shows the answer.
        screen: the screen of the view.
        signals: the signals that have arrived.
        store_partial: stores the text and the reasoning so far.
        model_name: the model's name, for the time that it loads.
        shows_reasoning: whether the view gets the reasoning.
        timing: how long to wait for what.
        outcome: how the reply ended, as far as that is known.
    """

    backend: BackgroundBackend
    request: Request
    view: AnswerView
    screen: Screen
    signals: Signals
    store_partial: Callable[[str, str], None]
    model_name: str = ""
    shows_reasoning: bool = True
    timing: Timing = field(default_factory=Timing)
    outcome: ReplyOutcome = field(default_factory=ReplyOutcome)
    # Not a SimpleQueue: in CPython a signal near the end of its timeout makes it wait forever
    _events: queue.Queue[Event | Exception | None] = field(default_factory=queue.Queue)
    _stored_at: float = 0.0
    _cancelled_at: float = 0.0
    _wait_state: WaitState = field(init=False)

    def run(self) -> ReplyOutcome:
        """Show the reply until it ends, fails in whatever way, is cancelled, or the program ends."""
        self._stored_at = time.monotonic()
        self._wait_state = WaitState(self.model_name, self.timing.patience, self.timing.silence)
        receiving = threading.Thread(target=self._receive, daemon=True, name="reply")
        try:
            receiving.start()
            while self._step():
                pass
            self.view.finish()
        except Exception as error:  # in showing it: what has come of the answer is kept
            self.backend.cancel()
            if receiving.ident is not None:  # else the system allows no more threads
                receiving.join(self.timing.grace)
            self.outcome.error = error
        return self.outcome

    def _receive(self) -> None:
        """Put the events of the reply into the queue, and None or an error at its end."""
        try:
            self.backend.wait_for_load()
            if self.outcome.is_cancelled:
                return
            for event in self.backend.reply(self.request):
                self._events.put(event)
            self._events.put(None)
        except Exception as error:  # for the main thread, which shows or raises it
            self._events.put(error)

    def _step(self) -> bool:
        """Handle the events that have come, draw, and look at the signals; False at the end."""
        try:
            event = self._events.get(timeout=self.timing.poll)
            while True:
                if not self._handle(event):
                    return False
                event = self._events.get_nowait()
        except queue.Empty:
            pass
        self._draw()
        return self._check_signals()

    def _handle(self, event: Event | Exception | None) -> bool:
        """Show an event; False if it is the end."""
        if event is None or isinstance(event, Exception):
            self.outcome.error = event
            return False
        self._wait_state.note(event)
        if isinstance(event, TextDelta):
            self.outcome.text += event.text
            self.view.feed(event.text)
        elif isinstance(event, ReasoningDelta):
            self.outcome.reasoning += event.text
            if self.shows_reasoning:
                self.view.think(event.text)
        elif isinstance(event, Notice):
            self.view.note(
                *wrap(plain(f"note: {escape_line(session_sentence(event.text))}", "magenta"), self.screen.width), ()
            )
        elif isinstance(event, Completion):
            self.outcome.completion = event
        return True

    def _draw(self) -> None:
        now = time.monotonic()
        self.view.tick(self._status_lines(now))
        outcome = self.outcome
        if (outcome.text or outcome.reasoning) and now - self._stored_at >= self.timing.store:
            self.store_partial(outcome.text, outcome.reasoning)
            self._stored_at = now

    def _status_lines(self, now: float) -> list[Line]:
        """The line under the answer that says what the session waits for, if that takes long."""
        width = self.screen.width
        if self._cancelled_at and now - self._cancelled_at > self.timing.patience:
            return [plain("stopping · Ctrl+C again quits"[: width - 1], "dim")]
        return self._wait_state.lines(width, self.backend.loaded_fraction if self.backend.is_loading else None)

    def _check_signals(self) -> bool:
        """Cancel the reply if a signal asks for it; False if the engine is not waited for."""
        now = time.monotonic()
        signals = self.signals
        if (signals.presses or signals.ending_signal) and not self._cancelled_at:
            self._cancelled_at = now
            self.outcome.is_cancelled = True
            if self.backend.is_loading:
                return False
            self.backend.cancel()
        if signals.presses >= 2 or (signals.ending_signal and now - self._cancelled_at > self.timing.grace):
            self.outcome.is_abandoned = signals.is_hurried = True
            return False
        return True
