"""Say what one waits for and how long already: events in, a line out. Knows no engines, threads or signals."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeGuard

from chat.core.events import LoadProgress, PrefillProgress
from chat.rendering.status_text import loading_line, reading_line, waiting_line

if TYPE_CHECKING:
    from chat.core.events import Event
    from chat.rendering.styled_text import Line

PATIENCE_SECONDS = 1.0  # waits shorter than this need no words
SILENCE_SECONDS = 15.0  # without a token or a token read, before we say so


@dataclass
class WaitState:
    """What was heard of a reply, and when."""

    model_name: str
    patience: float = PATIENCE_SECONDS
    silence: float = SILENCE_SECONDS
    _last: Event | None = None
    _longest_batch: float = 0.0  # of the prompt, in seconds
    _began_at: float = field(default_factory=time.monotonic)
    _heard_at: float = field(default_factory=time.monotonic)

    def hear(self, event: Event) -> None:
        """Note what came, and that something came."""
        now = time.monotonic()
        if _is_unfinished(self._last):
            self._longest_batch = max(self._longest_batch, now - self._heard_at)
        self._heard_at = now
        self._last = event

    def lines(self, width: int, loading: float | None = None) -> list[Line]:
        """The line to show, or none while there is nothing to wait for.

        Args:
            width: of the terminal.
            loading: how much of the model is loaded, while it is and no event tells it.
        """
        now = time.monotonic()
        waited, silent = now - self._began_at, now - self._heard_at
        if silent >= self._longest_silence() and loading is None:
            return [waiting_line(int(silent), width)]
        if waited < self.patience:
            return []
        if _is_unfinished(self._last):
            return [reading_line(self._last, int(silent), width)]
        fraction = (
            self._last.fraction if isinstance(self._last, LoadProgress) else loading if self._last is None else None
        )
        return [] if fraction is None else [loading_line(self.model_name, fraction, int(waited), width)]

    def _longest_silence(self) -> float:
        """Seconds without an event that need no words: a batch of a prompt may take half a minute, as others did."""
        if self._last is None:
            return self.patience
        if not _is_unfinished(self._last):
            return self.silence
        return max(self.silence, 3 * self._longest_batch) if self._last.done else math.inf


def _is_unfinished(event: Event | None) -> TypeGuard[PrefillProgress]:
    return isinstance(event, PrefillProgress) and event.done < event.total
