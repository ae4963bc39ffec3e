"""The line that says what the program waits for, and how long already."""

from __future__ import annotations

import math
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeGuard

from chat.core.events import LoadProgress, PictureProgress, PrefillProgress, ReasoningDelta
from chat.rendering.status_text import encoding_line, loading_line, reading_line, silence_line, thinking_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chat.core.events import Event
    from chat.rendering.screen import Screen
    from chat.rendering.styled_text import Line

PATIENCE_SECONDS = 1.0  # shorter waits are not shown
SILENCE_SECONDS = 15.0  # without a token or progress, before that is shown
TICK_SECONDS = 0.25
STOPPED_SECONDS = 5.0  # between two looks at a wait: the program was stopped meanwhile, as by Ctrl+Z


@dataclass
class WaitState:
    """What is known about a reply that the program waits for.

    Attributes:
        model_name: the model's name, for the time that it loads.
        patience: seconds until a wait is shown.
        silence: seconds without an event until that is shown.
        clock: gives the time in seconds.
    """

    model_name: str
    patience: float = PATIENCE_SECONDS
    silence: float = SILENCE_SECONDS
    clock: Callable[[], float] = time.monotonic
    _last_event: Event | None = None
    _longest_batch_seconds: float = 0.0
    _began_at: float = field(init=False)
    _last_event_at: float = field(init=False)
    _looked_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._began_at = self._last_event_at = self._looked_at = self.clock()

    def note(self, event: Event) -> None:
        """Note an event of the reply."""
        now = self.clock()
        if _is_unfinished(self._last_event):
            self._longest_batch_seconds = max(self._longest_batch_seconds, now - self._last_event_at)
        self._last_event_at = now
        self._last_event = event

    def lines(self, width: int, loaded_fraction: float | None = None) -> list[Line]:
        """The line to show, or nothing.

        Args:
            width: columns of the terminal.
            loaded_fraction: how much of the model is loaded, from 0 to 1; None if it is loaded, or if events say it.
        """
        now = self.clock()
        stopped = now - self._looked_at
        if stopped > STOPPED_SECONDS:  # nobody waited then
            self._began_at += stopped
            self._last_event_at += min(stopped, now - self._last_event_at)
        self._looked_at = now
        waited, silent = now - self._began_at, now - self._last_event_at
        last = self._last_event
        if silent >= self._expected_silence() and loaded_fraction is None:
            return [silence_line(int(silent), width)]
        if waited < self.patience:
            return []
        if isinstance(last, PictureProgress):
            return [encoding_line(last, int(silent), width)]
        if _is_unfinished(last):
            return [reading_line(last, int(silent), width)]
        if isinstance(last, ReasoningDelta):
            return [thinking_line(int(waited), width)]
        if isinstance(last, LoadProgress):
            loaded_fraction = last.fraction
        elif last is not None:
            loaded_fraction = None
        return [] if loaded_fraction is None else [loading_line(self.model_name, loaded_fraction, int(waited), width)]

    def _expected_silence(self) -> float:
        """How many seconds without an event are normal; a batch of a prompt may take half a minute."""
        if self._last_event is None:
            return self.patience
        if isinstance(self._last_event, PictureProgress):  # which has an end
            return math.inf
        if not _is_unfinished(self._last_event):
            return self.silence
        return max(self.silence, 3 * self._longest_batch_seconds) if self._last_event.done else math.inf


class WaitIndicator:
    """Shows the line of a wait on a screen, updated by a thread, until `end`."""

    def __init__(self, screen: Screen, wait_state: WaitState | None = None) -> None:
        """Begin the wait.

        Args:
            screen: where the line is shown.
            wait_state: what it says; by default that of a model without a name.
        """
        self._screen = screen
        self._wait_state = wait_state or WaitState("the model")
        self._lock = threading.Lock()
        self._has_ended = threading.Event()
        threading.Thread(target=self._update, daemon=True, name="status").start()

    def note(self, event: Event) -> None:
        """Note an event of the reply."""
        with self._lock:
            self._wait_state.note(event)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Remove the line while the block writes to the screen."""
        with self._lock:
            self._screen.update()
            yield

    def end(self) -> None:
        """Remove the line for good."""
        self._has_ended.set()
        with self._lock:
            self._screen.update()

    def _update(self) -> None:
        while not self._has_ended.wait(TICK_SECONDS):
            with self._lock:
                if not self._has_ended.is_set():
                    self._screen.update((), self._wait_state.lines(self._screen.width))


def _is_unfinished(event: Event | None) -> TypeGuard[PrefillProgress]:
    return isinstance(event, PrefillProgress) and event.done < event.total
