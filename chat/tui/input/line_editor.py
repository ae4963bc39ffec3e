"""Let a person write a message. With its parts the only door to prompt_toolkit; knows keys, not conversations."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.application import run_in_terminal
from prompt_toolkit.cursor_shapes import ModalCursorShapeConfig
from prompt_toolkit.document import Document
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.filters import Condition, is_searching
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.input.typeahead import store_typeahead
from prompt_toolkit.key_binding import KeyBindings, merge_key_bindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.search import stop_search

from chat.errors import ChatError
from chat.system.external_editor import edit_text
from chat.tui.input.paste_keys import PasteKeys
from chat.tui.input.pastes import Pastes
from chat.tui.input.reader import PROMPT, Candidate, is_open_block, sendable
from chat.tui.input.toolkit_parts import (
    STYLE,
    CommandCompleter,
    NoOverrides,
    Past,
    RewrapRenderer,
    is_command_line,
    presses_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from subprocess import Popen

    from prompt_toolkit.buffer import Buffer
    from prompt_toolkit.key_binding import KeyPressEvent

TYPED_AHEAD_SECONDS = 0.3  # after a prompt begins, keys that come together were typed before it
EDITED_LINES = 100  # of a text that comes back to be edited, before it is folded
TWICE_SECONDS = 2.0  # within which a second Ctrl+C at an empty prompt leaves
REMARK_SECONDS = 5.0  # that a remark stands in place of the toolbar


class LineEditor:
    """A prompt with several lines, completion, history and a toolbar."""

    def __init__(
        self,
        *,
        complete: Callable[[str], Iterable[Candidate]],
        toolbar: Callable[[], str],
        past: Callable[[], Iterable[str]],
        vi: bool = False,
        colour: bool = True,
        early_keys: str = "",
    ) -> None:
        """Make ready to read.

        Args:
            early_keys: that were typed before the program took the terminal.
        """
        self._pastes = Pastes()
        self._toolbar = toolbar
        self._reason: BaseException | None = None
        self.unheard = 0
        self._remark = ""
        self._pressed_at = self._began_at = 0.0
        self._session: PromptSession[str] = PromptSession(
            FormattedText([("class:prompt", PROMPT)]),
            multiline=True,
            prompt_continuation=" " * len(PROMPT),
            history=Past(past, self._pastes),
            completer=CommandCompleter(complete),
            complete_while_typing=Condition(is_command_line),
            enable_history_search=Condition(lambda: not is_command_line()),
            editing_mode=EditingMode.VI if vi else EditingMode.EMACS,
            cursor=ModalCursorShapeConfig() if vi else None,
            bottom_toolbar=self._bottom,
            style=STYLE,
            color_depth=None if colour else ColorDepth.DEPTH_1_BIT,
            enable_suspend=True,
            reserve_space_for_menu=6,
            include_default_pygments_style=False,
            input_processors=[NoOverrides()],
        )
        self._editor: Popen[bytes] | None = None  # the one that was opened last
        self._is_ending = False
        paste_keys = PasteKeys(self._pastes, self._session.default_buffer)
        self._session.key_bindings = merge_key_bindings([self._bindings(), paste_keys.bindings()])
        self._session.app.renderer = RewrapRenderer(self._session.app)
        store_typeahead(self._session.input, presses_of(early_keys))

    def read(self, prefill: str = "") -> str:
        """One message or command, folded pastes unfolded.

        Raises:
            EOFError: Ctrl+D on an empty line, or the terminal is gone.
            KeyboardInterrupt: Ctrl+C twice on an empty line.
        """
        self._remark = ""
        self._pressed_at = 0.0
        self._began_at = time.monotonic()
        text = self._session.prompt(
            default=self._pastes.fold(prefill, EDITED_LINES), pre_run=self._begin, handle_sigint=False
        )
        return sendable(self._pastes.unfold(text))

    def use_vi(self, vi: bool) -> None:
        """Choose vi or emacs keys."""
        self._session.editing_mode = EditingMode.VI if vi else EditingMode.EMACS

    def redraw(self) -> None:
        """Show what changed in the toolbar; from any thread."""
        self._soon(self._session.app.invalidate)

    def press(self) -> None:
        """Ctrl+C as a signal; prompt_toolkit's own handler is gone, and Python's there, before its loop has ended."""
        app = self._session.app
        if app.is_running and not app.is_done:
            self._soon(app.key_processor.send_sigint)
        else:
            self.unheard += 1

    def abandon(self, reason: BaseException) -> None:
        """Make `read` raise `reason` now; from any thread and from signal handlers."""
        self._reason = reason
        if not isinstance(reason, Exception):  # the program ends, and waits for nobody
            self._is_ending = True
            if self._editor is not None:
                self._editor.terminate()
        self._soon(self._leave_if_abandoned)

    def _soon(self, action: Callable[[], object]) -> None:
        """Do it in the prompt's own loop, if there is one: it may end while another thread looks at it."""
        app = self._session.app
        loop = app.loop
        if app.is_running and loop is not None:
            with suppress(RuntimeError):  # it was closed meanwhile
                loop.call_soon_threadsafe(action)

    def _begin(self) -> None:
        """The prompt listens now."""
        self.unheard = 0
        self._leave_if_abandoned()

    def _leave_if_abandoned(self) -> None:
        app = self._session.app
        if self._reason is not None and app.is_running and app.future is not None and not app.future.done():
            reason, self._reason = self._reason, None
            app.exit(exception=reason)

    def _bottom(self) -> str:
        return self._remark or self._toolbar()

    def _bindings(self) -> KeyBindings:
        keys = KeyBindings()
        keys.add("enter", filter=~is_searching)(self._enter)
        keys.add("c-j", filter=~is_searching)(_newline)
        keys.add("escape", "enter", filter=~is_searching)(_newline)
        keys.add("tab", filter=~is_searching)(_complete)
        keys.add("c-g", filter=~is_searching)(self._open_editor)
        keys.add("c-c")(self._interrupt)
        keys.add("<sigint>")(self._interrupt)
        return keys

    def _enter(self, event: KeyPressEvent) -> None:
        """Send; but break the line inside of a block of three quotes, and where more input is waiting.

        Keys that wait behind Enter in one read are a paste into a terminal that does not mark pastes; right after the
        prompt came up they were typed ahead.
        """
        buffer = event.current_buffer
        waiting = any(press.key != Keys.CPRResponse for press in event.key_processor.input_queue if press.data)
        is_paste = waiting and time.monotonic() - self._began_at > TYPED_AHEAD_SECONDS
        if is_paste or is_open_block(buffer.text):
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    def _interrupt(self, event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        event.app.vi_state.reset()  # a new line begins to be written
        if is_searching():
            stop_search()
            self._session.default_buffer.reset()
            return
        if buffer.text:
            buffer.reset()
            return
        now = time.monotonic()
        if now - self._pressed_at < TWICE_SECONDS:
            event.app.exit(exception=KeyboardInterrupt())
        self._pressed_at = now
        event.app.create_background_task(self._say("Ctrl+C again leaves", TWICE_SECONDS))

    async def _say(self, remark: str, seconds: float) -> None:
        """Show a remark in place of the toolbar for a while."""
        import asyncio

        self._remark = remark
        self.redraw()
        await asyncio.sleep(seconds)
        if self._remark == remark:
            self._remark = ""
        self.redraw()

    def _open_editor(self, event: KeyPressEvent) -> None:
        event.app.create_background_task(self._edit(event.current_buffer))

    async def _edit(self, buffer: Buffer) -> None:
        text = self._pastes.unfold(buffer.text)
        try:
            text = await run_in_terminal(lambda: edit_text(text, self._note_editor), in_executor=True)
        except ChatError as error:
            await self._say(f"{error.message} · {error.hint}" if error.hint else error.message, REMARK_SECONDS)
        else:
            buffer.document = Document(self._pastes.fold(text, EDITED_LINES))

    def _note_editor(self, process: Popen[bytes]) -> None:
        self._editor = process
        if self._is_ending:  # since before the editor was known
            process.terminate()


def _complete(event: KeyPressEvent) -> None:
    """Take the only candidate, so that the next Tab goes on behind it, into a folder; else go through them."""
    buffer = event.current_buffer
    state = buffer.complete_state
    if state is None:
        buffer.start_completion(insert_common_part=True)
    elif len(state.completions) == 1:
        buffer.apply_completion(state.completions[0])
    else:
        buffer.complete_next()


def _newline(event: KeyPressEvent) -> None:
    event.current_buffer.newline(copy_margin=False)
