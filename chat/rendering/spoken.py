"""A screen for a screen reader: what is written stays, nothing is drawn again, and every state is said in words."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, TextIO

from chat.rendering.screen import Screen
from chat.rendering.styled_text import Line, Span, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FIRST_PAUSE_SECONDS = 10.0  # before a wait that goes on is said again; each pause is twice the one before
LONGEST_PAUSE_SECONDS = 120.0
QUESTION, ANSWER, THOUGHTS = "You: ", "Answer:", "Thinking:"
_BAR = re.compile(r"[━─]+ ?")
_WORDS = {" · ": ", ", "▸ ": "open: ", " …": "", "│ ": ""}


def in_words(text: str) -> str:
    """A line of the program without signs that a screen reader would spell, or leave out."""
    return _replaced(text).rstrip()


def _replaced(text: str) -> str:
    text = _BAR.sub("", text)
    for sign, words in _WORDS.items():
        text = text.replace(sign, words)
    return text


def _spoken(line: Line) -> str:
    """A line in words, but for what is exact in it."""
    texts = [span.text if span.is_exact else _replaced(span.text) for span in _joined(line)]
    return "".join(texts) if line and line[-1].is_exact else "".join(texts).rstrip()


def _joined(line: Line) -> list[Span]:
    """The spans, those that are not exact as one where they follow each other: a sign may be cut by a style."""
    spans: list[Span] = []
    for span in line:
        if spans and not (span.is_exact or spans[-1].is_exact):
            spans[-1] = Span(spans[-1].text + span.text)
        else:
            spans.append(span)
    return spans


class SpokenScreen(Screen):
    """Lines that are written once; what would be drawn below them is said when it begins, and seldom after that."""

    is_spoken = True

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic, **options: Any) -> None:
        """A screen on which nothing is drawn again.

        Args:
            stream: the terminal.
            clock: gives the time in seconds.
            options: as for `Screen`; those for drawing have no effect.
        """
        super().__init__(stream, **{**options, "is_live": False})
        self._clock = clock
        self._topic = ""
        self._pause = FIRST_PAUSE_SECONDS
        self._said_at = 0.0

    def update(self, committed: Sequence[Line] = (), live: Sequence[Line] = ()) -> None:
        """Write committed lines, and say the live ones if they say something new, or the last time was long ago."""
        if committed:
            self._topic = ""
            self.write("".join(_spoken(line) + "\n" for line in committed))
        for line in live:
            self._say(in_words(text_of(line)).strip())

    def _say(self, state: str) -> None:
        """Say what the program waits for; its first word is what it is about, the others are figures."""
        now, topic = self._clock(), state.partition(" ")[0]
        if not topic or (topic == self._topic and now - self._said_at < self._pause):
            return
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS) if topic == self._topic else FIRST_PAUSE_SECONDS
        self._topic, self._said_at = topic, now
        self.write(f"{state[0].upper()}{state[1:]}.\n")
