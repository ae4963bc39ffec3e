"""Fold long pasted texts to a short mark in the input line, and unfold them when it is sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prompt_toolkit.application import get_app
from prompt_toolkit.filters import Condition
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prompt_toolkit.buffer import Buffer
    from prompt_toolkit.key_binding import KeyPressEvent

MAX_LINES = 8  # longer texts are folded
LINE_CHARACTERS = 250  # that count as a line, because a file may be one line
PREVIEW_CHARACTERS = 24
BACKWARD_KEYS = (("backspace",), ("c-w",), ("escape", "backspace"))
FORWARD_KEYS = (("delete",), ("c-d",), ("escape", "d"))


@dataclass
class Pastes:
    """The texts that were folded since the program started.

    Attributes:
        texts: the texts by their marks.
        count: how many there were.
    """

    texts: dict[str, str] = field(default_factory=dict)
    count: int = 0

    @property
    def characters(self) -> int:
        """How long all the texts are together."""
        return sum(map(len, self.texts.values()))

    def keep(self, lines: Sequence[str]) -> None:
        """Forget the texts whose marks are in none of some lines."""
        self.texts = {mark: text for mark, text in self.texts.items() if any(mark in line for line in lines)}

    def fold(self, text: str, max_lines: int = MAX_LINES) -> str:
        """`text`, or a mark for it if it is longer than `max_lines`; the same text always gets the same mark."""
        lines = text.rstrip("\n").count("\n") + 1
        if lines <= max_lines and len(text) <= max_lines * LINE_CHARACTERS:
            return text
        for mark, known in self.texts.items():
            if known == text:
                return mark
        first = next((line.strip() for line in text.splitlines() if line.strip()), "")
        first = "".join(character for character in first if character.isprintable() and character not in "[]")
        preview = first if len(first) <= PREVIEW_CHARACTERS else first[:PREVIEW_CHARACTERS].rstrip() + "…"
        size = f"{lines:,} lines" if lines > max_lines else f"{len(text):,} characters"
        self.count += 1
        mark = f"[paste {self.count}: {size}, {preview}]"
        self.texts[mark] = text
        return mark

    def unfold(self, text: str) -> str:
        """`text` with each mark replaced by its text; marks inside of pasted texts stay."""
        parts: list[str] = []
        while text:
            found = [(text.find(mark), mark) for mark in self.texts if mark in text]
            if not found:
                break
            start, mark = min(found)
            parts += [text[:start], self.texts[mark]]
            text = text[start + len(mark) :]
        return "".join([*parts, text])

    def mark_before(self, text: str) -> str | None:
        """The mark that `text` ends with."""
        return next((mark for mark in self.texts if text.endswith(mark)), None)

    def mark_after(self, text: str) -> str | None:
        """The mark that `text` begins with."""
        return next((mark for mark in self.texts if text.startswith(mark)), None)

    def mark_around(self, text: str, position: int) -> tuple[int, int] | None:
        """Begin and end of the mark that a position in `text` is inside of."""
        for mark in self.texts:
            start = text.find(mark, max(0, position - len(mark) + 1))
            if 0 <= start < position:
                return start, start + len(mark)
        return None


class PasteKeys:
    """Keeps the marks in a buffer whole: a mark that is edited no longer stands for its text."""

    def __init__(self, pastes: Pastes, buffer: Buffer) -> None:
        self._pastes = pastes
        self._position = 0  # of the cursor before it moved
        buffer.on_cursor_position_changed += self._step_over

    def bindings(self) -> KeyBindings:
        """The key bindings."""
        keys = KeyBindings()
        keys.add(Keys.BracketedPaste)(self._paste)
        for backward in BACKWARD_KEYS:
            keys.add(*backward, filter=Condition(lambda: self._mark_before() is not None))(self._delete_before)
        for forward in FORWARD_KEYS:
            keys.add(*forward, filter=Condition(lambda: self._mark_after() is not None))(self._delete_after)
        return keys

    def _paste(self, event: KeyPressEvent) -> None:
        text = event.data.replace("\r\n", "\n").replace("\r", "\n")
        event.current_buffer.insert_text(self._pastes.fold(text))

    def _mark_before(self) -> str | None:
        return self._pastes.mark_before(get_app().current_buffer.document.text_before_cursor)

    def _mark_after(self) -> str | None:
        return self._pastes.mark_after(get_app().current_buffer.document.text_after_cursor)

    def _delete_before(self, event: KeyPressEvent) -> None:
        event.current_buffer.delete_before_cursor(len(self._mark_before() or ""))

    def _delete_after(self, event: KeyPressEvent) -> None:
        event.current_buffer.delete(len(self._mark_after() or ""))

    def _step_over(self, buffer: Buffer) -> None:
        """Move the cursor out of a mark, to the end that it was moving to."""
        ends = self._pastes.mark_around(buffer.text, buffer.cursor_position)
        if ends is not None:
            buffer.cursor_position = ends[buffer.cursor_position > self._position]
        self._position = buffer.cursor_position
