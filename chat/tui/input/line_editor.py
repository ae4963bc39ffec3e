"""The prompt: a line editor with history, completion, folded pastes and a toolbar, made with prompt_toolkit."""

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
from prompt_toolkit.input.typeahead import get_typeahead, store_typeahead
from prompt_toolkit.key_binding import KeyBindings, merge_key_bindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.search import stop_search
from prompt_toolkit.utils import suspend_to_background_supported

from chat.errors import ChatError
from chat.system.characters import without_escaped_bytes
from chat.system.environment import Environment
from chat.system.external_editor import edit_text
from chat.tui.input.keys import editing_keys
from chat.tui.input.pastes import PasteKeys, Pastes
from chat.tui.input.reader import PROMPT, Candidate, is_open_block
from chat.tui.input.toolkit_parts import (
    STYLE,
    CommandCompleter,
    EscapeOverrides,
    MessageHistory,
    RewrapRenderer,
    is_command_line,
    key_presses,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from subprocess import Popen

    from prompt_toolkit.buffer import Buffer
    from prompt_toolkit.key_binding import KeyPressEvent

TYPED_AHEAD_SECONDS = 0.3  # after a prompt begins; keys that come together by then were typed before it
UNFOLDED_LINES = 100  # of a text to edit, before it is folded
LEAVE_SECONDS = 2.0  # within which a second Ctrl+C at an empty prompt leaves
ERROR_SECONDS = 5.0  # that an error stands in place of the toolbar


class LineEditor:
    """Reads messages of one or more lines.

    Attributes:
        unhandled_interrupts: how often Ctrl+C was pressed since the last message was sent.
    """

    def __init__(
        self,
        *,
        complete: Callable[[str], Iterable[Candidate]],
        toolbar: Callable[[], str],
        past_messages: Callable[[], Iterable[str]],
        handle_events: Callable[[], None] = lambda: None,
        vi: bool = False,
        colour: bool = True,
        early_keys: str = "",
        show_reasoning: Callable[[], None] = lambda: None,
        marks_pastes: bool = False,
    ) -> None:
        """Prepare to read.

        Args:
            complete: gives the completions of the text before the cursor.
            toolbar: gives the text below the line.
            past_messages: gives the user's earlier messages, the latest first.
            handle_events: the session's event handler; what it raises ends `read`.
            vi: use vi keys, not emacs keys.
            colour: show colours.
            early_keys: keys that were typed before the program set the terminal's modes.
            marks_pastes: whether the terminal marks pastes, so that an Enter without marks was typed.
            show_reasoning: prints the reasoning of the last answer, for Ctrl+T.
        """
        self.unhandled_interrupts = 0
        self._pastes = Pastes()
        self._toolbar = toolbar
        self._handle_events = handle_events
        self._show_reasoning = show_reasoning
        self._marks_pastes = marks_pastes
        self._remark = ""
        self._interrupted_at = self._began_at = 0.0
        self._session: PromptSession[str] = PromptSession(
            FormattedText([("class:prompt", PROMPT)]),
            multiline=True,
            prompt_continuation=" " * len(PROMPT),
            history=MessageHistory(past_messages, self._pastes),
            completer=CommandCompleter(complete),
            complete_while_typing=Condition(is_command_line),
            enable_history_search=Condition(lambda: not is_command_line()),
            editing_mode=EditingMode.VI if vi else EditingMode.EMACS,
            cursor=ModalCursorShapeConfig() if vi else None,
            bottom_toolbar=lambda: self._remark or self._toolbar(),
            style=STYLE,
            color_depth=None if colour else ColorDepth.DEPTH_1_BIT,
            reserve_space_for_menu=6,
            include_default_pygments_style=False,
            input_processors=[EscapeOverrides()],
        )
        self._external_editor: Popen[bytes] | None = None  # the one that was opened last
        self._is_edited_externally = False  # an external editor has the terminal
        self._is_editor_interrupted = False  # by Ctrl+C
        self._is_terminated = False
        self._is_suspended = False  # by Ctrl+Z
        self._is_shown = False  # the prompt, with its own modes of the terminal
        paste_keys = PasteKeys(self._pastes, self._session.default_buffer)
        self._session.key_bindings = merge_key_bindings([editing_keys(), self._bindings(), paste_keys.bindings()])
        self._session.app.renderer = RewrapRenderer(self._session.app)
        store_typeahead(self._session.input, key_presses(early_keys))

    def read(self, prefill: str = "") -> str:
        """One message or command, with folded pastes unfolded.

        Args:
            prefill: a text to edit.

        Raises:
            EOFError: Ctrl+D was pressed on an empty line, or the terminal is gone.
            KeyboardInterrupt: Ctrl+C was pressed twice on an empty line.
        """
        self._remark = ""
        self._interrupted_at = 0.0
        text = self._session.prompt(
            default=self._pastes.fold(prefill, UNFOLDED_LINES), pre_run=self._begin, handle_sigint=False
        )
        return without_escaped_bytes(self._pastes.unfold(text))

    def ask(self, question: str) -> str:
        """A line that answers a question of the program; what was typed before the question is dropped.

        Raises:
            EOFError: Ctrl+D was pressed on an empty line, or the terminal is gone.
            KeyboardInterrupt: Ctrl+C was pressed.
        """
        own, self._session = self._session, self._dialog(question)
        get_typeahead(own.input)
        Environment().drop_typed_ahead()
        try:
            return without_escaped_bytes(self._session.prompt(pre_run=self._begin, handle_sigint=False))
        finally:
            self._session = own

    def _dialog(self, question: str) -> PromptSession[str]:
        """A prompt of one line, whose keys are those of the session but for Ctrl+C, which ends it."""
        own = self._session
        keys = KeyBindings()
        keys.add("c-c")(_end_by_interrupt)
        keys.add("<sigint>")(_end_by_interrupt)
        keys.add("c-z")(self._on_ctrl_z)
        dialog: PromptSession[str] = PromptSession(
            FormattedText([("class:prompt", question)]),
            bottom_toolbar=self._toolbar,
            editing_mode=own.editing_mode,
            style=STYLE,
            color_depth=own.color_depth,
            include_default_pygments_style=False,
            input_processors=[EscapeOverrides()],
            key_bindings=keys,
            input=own.input,
            output=own.output,
        )
        dialog.app.renderer = RewrapRenderer(dialog.app)
        return dialog

    def use_vi(self, vi: bool) -> None:
        """Use vi keys, or emacs keys."""
        self._session.editing_mode = EditingMode.VI if vi else EditingMode.EMACS

    def interrupt(self) -> None:
        """Handle the signal of Ctrl+C: prompt_toolkit removes its own handler before its loop has ended.

        In an external editor it is meant for the editor, which gets the signal too.
        """
        app = self._session.app
        if self._is_edited_externally:
            self._is_editor_interrupted = True
        elif app.is_running and not app.is_done:
            self._call_in_loop(self._interrupt_now)
        else:
            self.unhandled_interrupts += 1

    def _interrupt_now(self) -> None:
        """Press Ctrl+C in the prompt, unless Enter, typed just before it, has ended the prompt."""
        app = self._session.app
        if app.is_done:
            self.unhandled_interrupts += 1
        else:
            app.key_processor.send_sigint()

    def wake(self) -> None:
        """Handle events now if `read` waits for input; may be called from any thread and from signal handlers."""
        self._call_in_loop(self._handle_events_now)

    def redraw(self) -> None:
        """Set the prompt's modes, and draw it again on the cursor's line; after Ctrl+Z prompt_toolkit has done it.

        After a SIGSTOP the shell has set its own modes. An external editor that is open has the terminal.
        """
        if self._is_shown and not (self._is_suspended or self._is_edited_externally):
            self._session.input.raw_mode().__enter__()
            output = self._session.output
            output.write_raw("\r")  # a shell may continue a program twice, and the prompt is there since the first time
            output.erase_down()
            self._draw_anew()
        self._is_suspended = False

    def _draw_anew(self) -> None:
        """Draw the prompt from the cursor's place on."""
        self._session.app.renderer.reset()
        self._session.app.renderer.request_absolute_cursor_position()
        self._session.app.invalidate()

    def _call_in_loop(self, action: Callable[[], object]) -> None:
        """Call `action` in the loop of the prompt, if there is one."""
        app = self._session.app
        loop = app.loop
        if app.is_running and loop is not None:
            with suppress(RuntimeError):  # another thread closed it meanwhile
                loop.call_soon_threadsafe(action)

    def _begin(self) -> None:
        """Called when the prompt begins to listen."""
        self.unhandled_interrupts = 0
        self._began_at = time.monotonic()
        self._is_shown = False
        self._handle_events_now()
        self._is_shown = True

    def _handle_events_now(self) -> None:
        app = self._session.app
        if not app.is_running or app.future is None or app.future.done():
            return  # the next `read` handles them
        try:
            self._handle_events()
        except BaseException as reason:
            self._leave(reason)
        app.invalidate()  # the toolbar may have changed

    def _leave(self, reason: BaseException) -> None:
        """Make `read` raise `reason`; if that ends the program, end the external editor too."""
        if not isinstance(reason, Exception):
            self._is_terminated = True
            if self._external_editor is not None:
                self._external_editor.terminate()
        self._session.app.exit(exception=reason)

    def _bindings(self) -> KeyBindings:
        keys = KeyBindings()
        keys.add("enter", filter=~is_searching)(self._on_enter)
        keys.add("c-g", filter=~is_searching)(self._on_ctrl_g)
        keys.add("c-t")(self._on_ctrl_t)
        keys.add("c-c")(self._on_ctrl_c)
        keys.add("c-z")(self._on_ctrl_z)
        keys.add("<sigint>")(self._on_ctrl_c)
        return keys

    def _on_enter(self, event: KeyPressEvent) -> None:
        """Send the message, or insert a newline into an open block or an unmarked paste.

        In a terminal that does not mark pastes, keys that come together with Enter are one; at the beginning of a
        prompt they were typed ahead.
        """
        buffer = event.current_buffer
        is_followed = any(press.key != Keys.CPRResponse for press in event.key_processor.input_queue if press.data)
        is_paste = is_followed and not self._marks_pastes and time.monotonic() - self._began_at > TYPED_AHEAD_SECONDS
        if is_paste or is_open_block(buffer.text):
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    def _on_ctrl_c(self, event: KeyPressEvent) -> None:
        """End a search, else drop the line, else leave at the second time."""
        buffer = event.current_buffer
        event.app.vi_state.reset()  # vi begins a new line in insert mode
        if is_searching():
            stop_search()
            self._session.default_buffer.reset()
            return
        if buffer.text:
            buffer.reset()
            return
        now = time.monotonic()
        if now - self._interrupted_at < LEAVE_SECONDS:
            event.app.exit(exception=KeyboardInterrupt())
        self._interrupted_at = now
        event.app.create_background_task(self._show_remark("Ctrl+C again quits", LEAVE_SECONDS))

    def _on_ctrl_t(self, event: KeyPressEvent) -> None:
        """Print above the prompt; prompt_toolkit's way would change the modes, and echo keys that come meanwhile."""
        event.app.renderer.erase()
        self._show_reasoning()
        self._draw_anew()

    def _on_ctrl_z(self, event: KeyPressEvent) -> None:
        """Suspend the program; on Windows, which cannot, the key ends the input."""
        if suspend_to_background_supported():
            self._is_suspended = True
            event.app.suspend_to_background()
        elif not event.current_buffer.text:
            event.app.exit(exception=EOFError())

    async def _show_remark(self, remark: str, seconds: float) -> None:
        """Show a remark in place of the toolbar for a while."""
        import asyncio

        self._remark = remark
        self._session.app.invalidate()
        await asyncio.sleep(seconds)
        if self._remark == remark:
            self._remark = ""
        self._session.app.invalidate()

    def _on_ctrl_g(self, event: KeyPressEvent) -> None:
        event.app.create_background_task(self._edit_externally(event.current_buffer))

    async def _edit_externally(self, buffer: Buffer) -> None:
        text = self._pastes.unfold(buffer.text)

        def edited() -> str:
            try:
                return edit_text(text, self._note_external_editor)
            finally:
                if self._is_editor_interrupted:  # the terminal has shown the key
                    self._session.output.write_raw("\r\n")
                    self._session.output.flush()

        self._is_edited_externally, self._is_editor_interrupted = True, False
        try:
            try:
                text = await run_in_terminal(edited, in_executor=True)
            finally:
                self._is_edited_externally = False
        except ChatError as error:
            await self._show_remark(f"{error.message} · {error.hint}" if error.hint else error.message, ERROR_SECONDS)
        else:
            buffer.document = Document(self._pastes.fold(text, UNFOLDED_LINES))

    def _note_external_editor(self, process: Popen[bytes]) -> None:
        self._external_editor = process
        if self._is_terminated:  # before the process was known
            process.terminate()


def _end_by_interrupt(event: KeyPressEvent) -> None:
    event.app.exit(exception=KeyboardInterrupt())
