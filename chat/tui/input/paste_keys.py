"""Key bindings for pastes: the mark of a folded paste is inserted, deleted and stepped over as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prompt_toolkit.application import get_app
from prompt_toolkit.filters import Condition
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.keys import Keys

if TYPE_CHECKING:
    from prompt_toolkit.buffer import Buffer
    from prompt_toolkit.key_binding import KeyPressEvent

    from chat.tui.input.pastes import Pastes

BACKWARD_KEYS = (("backspace",), ("c-w",), ("escape", "backspace"))
FORWARD_KEYS = (("delete",), ("c-d",), ("escape", "d"))


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
