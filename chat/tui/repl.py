"""The terminal session: read a line, run it as a command or send it as a message, and repeat."""

from __future__ import annotations

import errno
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from chat.app.near_commands import meant_in_session
from chat.app.sessions import persisted_options
from chat.documents.pictures import split_dropped
from chat.errors import ChatError, ExitCode
from chat.history.open_session import OpenSession
from chat.models.last_used import ORIGIN as LAST_SESSION
from chat.rendering.screen import Screen
from chat.rendering.spoken import QUESTION, SpokenScreen
from chat.rendering.status_text import context_usage, greeting, loading_text, rate, toolbar
from chat.rendering.styled_text import plain
from chat.system.environment import Environment
from chat.system.terminal_text import escape_line
from chat.tui import exchange
from chat.tui.background_backend import BackgroundBackend, session_backend_options
from chat.tui.commands.attach_command import attach_dropped, attach_files
from chat.tui.commands.history_commands import report_session_options
from chat.tui.commands.lookup import is_command
from chat.tui.commands.table import run_command
from chat.tui.event_queue import EventQueue, SessionEvent
from chat.tui.functions import functions_of, put_in_force
from chat.tui.input.completion import candidates
from chat.tui.input.reader import PROMPT, LineReader, PlainReader, without_block_marks
from chat.tui.signals import Signals, Terminated
from chat.tui.state import SessionState
from chat.tui.transcript import show_end, show_reasoning
from chat.tui.tty_modes import marks_pastes, rewraps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chat.app.backends import BackendOptions
    from chat.config.resolve import ResolvedSettings
    from chat.core.backend import ChatBackend
    from chat.core.conversation import Conversation
    from chat.history.records import SessionRecord
    from chat.history.store import Store
    from chat.tui.tty_modes import TtyModes

TERMINAL_GONE = (errno.EIO, errno.EPIPE, errno.ENXIO, errno.EBADF, errno.ECONNRESET)
ERASE_LINE = "\r\x1b[K"


@dataclass(frozen=True)
class Opening:
    """What a session begins with.

    Attributes:
        store: the history; in memory if nothing is kept.
        record: the stored session that is continued; None for a new one.
        conversation: its messages.
        base: the settings without the options that belong to that session; None if there are none.
        files: paths and patterns of files to attach to the first message.
        environment: the streams and the terminal.
        config_file: the settings file.
        state_folder: where the engine saves its cache.
    """

    store: Store
    record: SessionRecord | None
    conversation: Conversation
    base: ResolvedSettings | None = None
    files: tuple[str, ...] = ()
    environment: Environment = field(default_factory=Environment)
    config_file: Path | None = None
    state_folder: Path | None = None


def run_session(
    backend_factory: Callable[[BackendOptions], ChatBackend],
    resolved: ResolvedSettings,
    opening: Opening,
    modes: TtyModes,
) -> ExitCode:
    """Run a session until the user leaves, or a signal ends it.

    Args:
        backend_factory: makes a backend, without waiting for its model.
        resolved: the settings.
        opening: what the session begins with.
        modes: the terminal's modes during the session.

    Returns:
        0, or 130 if Ctrl+C or a signal ended the session. Everything that was said is stored in both cases.

    Raises:
        ChatError: the model cannot be used.
    """
    events = EventQueue()
    signals = Signals(modes, events)
    backend = BackgroundBackend(
        backend_factory, session_backend_options(resolved.settings, opening.state_folder), events
    )
    state: SessionState | None = None
    try:
        with signals.installed():
            state = _initial_state(backend, signals, resolved, opening)
            return _Repl(state, events, opening.environment).run(opening)
    finally:
        if state is not None and state.calls is not None:
            state.calls.toolbox.close(at_once=signals.is_hurried)
        backend.close(keep_state=not signals.is_hurried)


def _initial_state(
    backend: BackgroundBackend, signals: Signals, resolved: ResolvedSettings, opening: Opening
) -> SessionState:
    environment = opening.environment
    state = SessionState(
        screen=(SpokenScreen if environment.is_spoken(environment.stdout) else Screen)(
            environment.stdout,
            is_live=environment.can_redraw(environment.stdout),
            colour=environment.has_colour(resolved.settings.color),
            links=environment.has_links(environment.stdout),
            rewraps=rewraps(environment.variables),
            size=environment.size,
            foreign_writes=lambda: signals.modes.stops,
            on_gone=signals.lose_terminal,
        ),
        signals=signals,
        backend=backend,
        session=OpenSession(opening.store, opening.conversation, opening.record, persisted_options(resolved)),
        resolved=resolved,
        base=opening.base or resolved,
        config_file=opening.config_file,
        state_folder=opening.state_folder,
        shows_markdown=resolved.settings.markdown is not False,
    )
    put_in_force(state, functions_of(resolved.settings), resolved.settings)
    state.store_model()
    return state


class _Repl:
    """The loop of a session."""

    def __init__(self, state: SessionState, events: EventQueue, environment: Environment) -> None:
        self._state = state
        self._events = events
        self._asked = ""  # a message that was probably meant as a command
        state.reader = self._make_reader(environment)

    def run(self, opening: Opening) -> ExitCode:
        """Read and run lines until the session ends."""
        state = self._state
        try:
            self._show_beginning(opening)
            with ExitStack() as stack:
                stack.enter_context(self._events.waking(state.reader.wake))
                stack.enter_context(state.signals.calling_on_ctrl_c(state.reader.interrupt))
                self._read_and_run()
        except EOFError:
            return ExitCode.INTERRUPTED if state.signals.ending_signal else ExitCode.DONE
        except (KeyboardInterrupt, Terminated):
            return ExitCode.INTERRUPTED
        except OSError as error:
            if error.errno not in TERMINAL_GONE:
                raise
            return ExitCode.INTERRUPTED

    def _read_and_run(self) -> NoReturn:
        """Read and run lines; an exception ends it.

        Ctrl+C that came after Enter, when the prompt no longer handled it, is meant for the answer or the command.
        """
        state, prefill = self._state, ""
        while True:
            line = state.reader.read(prefill)
            state.signals.presses = state.reader.unhandled_interrupts
            try:
                with state.signals.raising_on_ctrl_c():
                    prefill = self._run(line) or ""
            except KeyboardInterrupt:
                path = state.session.conversation.path()
                has_results = bool(path) and path[-1].message.role == "tool"
                state.report("Stopped. /continue lets the model answer." if has_results else "Stopped.")
                prefill = ""
            except (ChatError, EOFError):
                raise
            except Exception as error:  # of one message or command: the session goes on
                if isinstance(error, OSError) and error.errno in TERMINAL_GONE:
                    raise
                state.show_error(error)
                prefill = ""

    def _run(self, line: str) -> str | None:
        """Send a message, or run a command.

        Returns:
            A text to edit in the next prompt.

        Raises:
            KeyboardInterrupt: Ctrl+C was pressed before a command had begun.
        """
        state = self._state
        text = without_block_marks(line)
        if not text.strip():
            if state.branch_point is not None:
                state.leave_edit()
                state.report("Nothing was changed.")
            return None
        rest, paths = split_dropped(text)
        if paths:
            try:
                attach_dropped(state, paths)
            except ChatError as error:
                state.show_error(error)
                return line  # it can be edited
            return rest if rest and exchange.send_message(state, rest) else None
        if text is line and is_command(text.strip()):
            state.leave_edit()
            if state.signals.presses:
                raise KeyboardInterrupt
            return run_command(state, text)
        if text is line and self._is_probably_command(text):
            return None
        is_stopped = exchange.send_message(state, text[1:] if text.startswith("//") else text)
        return line if is_stopped else None

    def _is_probably_command(self, text: str) -> bool:
        """Ask whether a command was meant, unless the same text has just been typed before, or begins with a space."""
        asked, self._asked = self._asked, ""
        meant = meant_in_session(text) if text != asked and not text.startswith(" ") else ()
        if not meant:
            return False
        self._asked = text
        commands, typed = " or ".join(f"`{escape_line(each)}`" for each in meant), escape_line(text.strip())
        self._state.report(f"Did you mean {commands}? Enter `{typed}` again to send it as a message.")
        return True

    def _handle_events(self) -> None:
        """Handle what other threads and signal handlers have posted.

        Raises:
            ChatError: the first model of the session cannot be used.
            Terminated: a signal ends the program.
        """
        state = self._state
        for event in self._events.take():
            if event is SessionEvent.TERMINATED:
                raise Terminated
            if event is SessionEvent.CONTINUED:
                state.reader.redraw()
            if event is SessionEvent.LOAD_ENDED:
                if state.backend.fault is not None and not state.totals.answers:
                    raise state.backend.fault
                state.store_model()
                state.remember_model()
                exchange.update_used_tokens(state)

    def _make_reader(self, environment: Environment) -> LineReader:
        state = self._state
        if not (state.screen.is_live and environment.stdin.isatty()):
            prompt = QUESTION if state.screen.is_spoken else PROMPT
            return PlainReader(self._handle_events, environment, prompt)
        from chat.tui.input.line_editor import LineEditor

        return LineEditor(
            complete=lambda text: candidates(state, text),
            toolbar=self._toolbar,
            past_messages=state.session.store.questions,
            handle_events=self._handle_events,
            vi=state.settings.keys == "vi",
            colour=state.screen.colour,
            marks_pastes=marks_pastes(environment.variables),
            early_keys=state.signals.modes.early_keys,
            show_reasoning=lambda: show_reasoning(state),
        )

    def _show_beginning(self, opening: Opening) -> None:
        """Greet, attach the files of the command line, and show the end of a session that is continued."""
        state = self._state
        if state.screen.is_live:
            state.screen.write(ERASE_LINE)  # the terminal itself echoed keys that came before its modes were set
        if not state.settings.quiet:
            state.show(plain(greeting(state.model_name, state.screen.width), "dim"), ())
            if state.resolved.origins.get("model") == LAST_SESSION:
                sentence = f"Using {state.model_name}, the model of your last session. -m FILE or /model changes it."
                state.report(sentence)
        state.show_notices()
        for path in opening.files:
            attach_files(state, path)
        if opening.record is not None and not state.settings.quiet:
            report_session_options(state)
        if state.session.conversation.leaf is not None:
            show_end(state)

    def _toolbar(self) -> str:
        state, width = self._state, self._state.screen.width
        if state.backend.is_loading:
            return loading_text(state.model_name, state.backend.loaded_fraction, width)
        parts = []
        completion = state.last_completion
        if completion is not None and completion.tokens.generated:
            parts.append(f"{rate(completion.tokens.generated, completion.seconds.generate)} tokens/s")
        if state.session.label:
            parts.append(escape_line(state.session.label))
        info = state.backend.info
        is_known = info is not None and (info.context or state.used_tokens)  # a server counts with its answers only
        used = context_usage(info, state.used_tokens) if info is not None and is_known else ""
        return toolbar(state.model_name, used, parts, width)
