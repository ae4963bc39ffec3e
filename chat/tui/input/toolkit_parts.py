"""Parts of the prompt, made for prompt_toolkit: style, history, completer, processor and renderer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from prompt_toolkit.application import get_app
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.history import History
from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.layout.processors import Processor, Transformation, TransformationInput
from prompt_toolkit.layout.utils import explode_text_fragments
from prompt_toolkit.renderer import Renderer
from prompt_toolkit.styles import Style

from chat.rendering.styled_text import row_count
from chat.system.terminal_text import escape_control_characters
from chat.tui.tty_modes import rewraps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prompt_toolkit.application import Application
    from prompt_toolkit.document import Document
    from prompt_toolkit.key_binding import KeyPress

    from chat.tui.input.pastes import Pastes
    from chat.tui.input.reader import Candidate

MOST_LINES = 1000  # that the up key finds
MOST_CHARACTERS = 16 << 20  # of the pastes in them

STYLE = Style.from_dict({
    "prompt": "bold",
    "placeholder": "dim",
    "bottom-toolbar": "noreverse dim",
    "completion-menu": "bg:default fg:default noreverse",
    "completion-menu.completion": "bg:default fg:default noreverse",
    "completion-menu.completion.current": "bg:default fg:default bold underline noreverse",
    "completion-menu.meta.completion": "bg:default fg:default dim noreverse",
    "completion-menu.meta.completion.current": "bg:default fg:default dim noreverse",
    "scrollbar.background": "bg:default",
    "scrollbar.button": "bg:default",
})  # fmt: skip


def is_command_line() -> bool:
    """Whether the text that is being typed is a command, on one line."""
    text = get_app().current_buffer.document.text
    return text.startswith("/") and not text.startswith("//") and "\n" not in text


def key_presses(text: str) -> list[KeyPress]:
    """The key presses for which a terminal sends `text`."""
    presses: list[KeyPress] = []
    parser = Vt100Parser(presses.append)
    parser.feed_and_flush(text)
    return presses


class MessageHistory(History):
    """The user's last messages, long ones folded; the session's own history stores new ones."""

    def __init__(self, past_messages: Callable[[], Iterable[str]], pastes: Pastes) -> None:
        super().__init__()
        self._past_messages = past_messages
        self._pastes = pastes

    def load_history_strings(self) -> Iterator[str]:
        for text in self._past_messages():
            yield self._pastes.fold(text)

    def append_string(self, string: str) -> None:
        super().append_string(string)
        lines = self._loaded_strings
        del lines[MOST_LINES:]
        while self._pastes.characters > MOST_CHARACTERS and len(lines) > 1:
            del lines[len(lines) // 2 :]
            self._pastes.keep(lines)

    def store_string(self, string: str) -> None:
        pass


class EscapeOverrides(Processor):
    """Shows characters that change the direction of text as U+FFFD; prompt_toolkit itself shows other controls."""

    def apply_transformation(self, transformation_input: TransformationInput) -> Transformation:
        fragments = explode_text_fragments(transformation_input.fragments)
        shown: Any = [
            (
                fragment[0],
                "\ufffd"
                if escape_control_characters(fragment[1]) != fragment[1] and fragment[1] > "\xff"
                else fragment[1],
            )
            for fragment in fragments
        ]
        return Transformation(shown)


class RewrapRenderer(Renderer):
    """Finds the first row of the prompt after the terminal became narrower and wrapped its rows again."""

    def __init__(self, app: Application[str]) -> None:
        super().__init__(app.renderer.style, app.output, cpr_not_supported_callback=app.cpr_not_supported_callback)
        self._layout = app.layout

    def erase(self, leave_alternate_screen: bool = True) -> None:
        """Erase the prompt, with the rows that wrapping added."""
        added = self._added_rows() if rewraps(os.environ) else 0
        if added:
            self.output.cursor_up(added)
        super().erase(leave_alternate_screen)

    def _added_rows(self) -> int:
        screen = self.last_rendered_screen
        if screen is None:
            return 0
        columns = self.output.get_size().columns
        cursor = screen.get_cursor_position(self._layout.current_window)
        rows = [screen.data_buffer[y] for y in range(cursor.y + 1)]
        ends = [*(max(row, default=-1) + 1 for row in rows[:-1]), cursor.x]
        texts = ["".join(row[x].char for x in range(end)).rstrip() for row, end in zip(rows, ends, strict=True)]
        return sum(row_count(text, columns) - 1 for text in texts)


class CommandCompleter(Completer):
    """Completes commands; messages are not completed."""

    def __init__(self, complete: Callable[[str], Iterable[Candidate]]) -> None:
        self._complete = complete

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        if not is_command_line():
            return
        for candidate in self._complete(document.text_before_cursor):
            yield Completion(candidate.text, -candidate.replaced, display_meta=candidate.note)
