"""Keys at the marks of pastes: a mark comes, goes and is stepped over as a whole. Knows buffers, not what is sent."""

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

BACK = (("backspace",), ("c-w",), ("escape", "backspace"))
FORTH = (("delete",), ("c-d",), ("escape", "d"))


class PasteKeys:
    """What keys do to the marks in one buffer: one that was typed into would stand for nothing."""

    def __init__(self, pastes: Pastes, buffer: Buffer) -> None:
        self._pastes = pastes
        self._cursor = 0
        buffer.on_cursor_position_changed += self._step_over

    def bindings(self) -> KeyBindings:
        """The keys."""
        keys = KeyBindings()
        keys.add(Keys.BracketedPaste)(self._paste)
        for back in BACK:
            keys.add(*back, filter=Condition(lambda: self._before() is not None))(self._delete_before)
        for forth in FORTH:
            keys.add(*forth, filter=Condition(lambda: self._after() is not None))(self._delete_after)
        return keys

    def _paste(self, event: KeyPressEvent) -> None:
        text = event.data.replace("\r\n", "\n").replace("\r", "\n")
        event.current_buffer.insert_text(self._pastes.fold(text))

    def _before(self) -> str | None:
        return self._pastes.mark_before(get_app().current_buffer.document.text_before_cursor)

    def _after(self) -> str | None:
        return self._pastes.mark_after(get_app().current_buffer.document.text_after_cursor)

    def _delete_before(self, event: KeyPressEvent) -> None:
        event.current_buffer.delete_before_cursor(len(self._before() or ""))

    def _delete_after(self, event: KeyPressEvent) -> None:
        event.current_buffer.delete(len(self._after() or ""))

    def _step_over(self, buffer: Buffer) -> None:
        """Put the cursor at the end of a mark that it was moving to."""
        ends = self._pastes.ends_around(buffer.text, buffer.cursor_position)
        if ends is not None:
            buffer.cursor_position = ends[buffer.cursor_position > self._cursor]
        self._cursor = buffer.cursor_position
