"""Hold a conversation in a terminal: read, do, again. Knows the rooms beside it, not engines, files or flags."""

from __future__ import annotations

import errno
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from chat.app.request_builder import read_tools
from chat.app.session_options import persisted_options
from chat.errors import ExitCode
from chat.history.open_session import OpenSession
from chat.rendering.screen import Screen
from chat.rendering.status_text import greeting, loading_words, rate, toolbar, used_of
from chat.rendering.styled_text import plain
from chat.system.environment import Environment
from chat.system.terminal_text import escape_line
from chat.tui import exchange
from chat.tui.background_backend import BackgroundBackend, options_for
from chat.tui.commands import io_commands, table
from chat.tui.commands.history_commands import tell_own
from chat.tui.commands.lookup import is_command
from chat.tui.commands.tree_commands import show_end
from chat.tui.input.completion import candidates
from chat.tui.input.reader import LineReader, PlainReader, without_block_marks
from chat.tui.signals import Leaving, Signals
from chat.tui.state import SessionState
from chat.tui.tty_modes import rewraps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chat.config.resolve import ResolvedSettings
    from chat.core.backend import ChatBackend
    from chat.core.conversation import Conversation
    from chat.core.request import EngineOptions
    from chat.history.records import SessionRecord
    from chat.history.store import Store
    from chat.tui.tty_modes import TtyModes

GONE = (errno.EIO, errno.EPIPE, errno.ENXIO, errno.EBADF, errno.ECONNRESET)


@dataclass(frozen=True)
class Opening:
    """What a session begins with.

    `store` lives in memory where nothing is to be kept. `record` is the session to go on with, if there is one. `base`
    is the settings without what belongs to that session.
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
    engine_factory: Callable[[EngineOptions], ChatBackend],
    resolved: ResolvedSettings,
    opening: Opening,
    modes: TtyModes,
) -> ExitCode:
    """Talk until the person leaves.

    Args:
        modes: by which the terminal is held.

    Returns:
        0, or 130 when the person or a signal broke it off; everything said is stored either way.

    Raises:
        ChatError: the model cannot be used at all.
    """
    room = BackgroundBackend(engine_factory, options_for(resolved.settings, opening.state_folder))
    signals = Signals(modes)
    try:
        with signals.installed():
            return _Session(_desk(room, signals, resolved, opening)).run(opening)
    finally:
        room.close(keep_state=not signals.is_hurried)


def _desk(room: BackgroundBackend, signals: Signals, resolved: ResolvedSettings, opening: Opening) -> SessionState:
    environment = opening.environment
    stdout, colour = environment.stdout, environment.has_colour(resolved.settings.color)
    screen = Screen(
        stdout,
        is_live=environment.can_redraw(stdout),
        colour=colour,
        rewraps=rewraps(),
        size=environment.size,
        on_gone=signals.lose,
    )
    session = OpenSession(opening.store, opening.conversation, opening.record, persisted_options(resolved))
    desk = SessionState(
        screen=screen,
        signals=signals,
        room=room,
        session=session,
        resolved=resolved,
        base=opening.base or resolved,
        config_file=opening.config_file,
        state_folder=opening.state_folder,
        tools=read_tools(resolved.settings),
        shows_markdown=resolved.settings.markdown is not False,
    )
    desk.remember_model()
    return desk


class _Session:
    """The loop around a desk."""

    def __init__(self, desk: SessionState) -> None:
        self._desk = desk
        desk.reader = self._make_reader()

    def run(self, opening: Opening) -> ExitCode:
        """Read and do until the end."""
        desk = self._desk
        desk.signals.on_leave = self._abandon
        desk.room.on_change = self._room_changed
        desk.room.on_loaded = lambda: exchange.recount(desk)
        if desk.room.is_settled:
            exchange.recount(desk)
            self._room_changed()
        try:
            self._greet(opening)
            with desk.signals.pressing(desk.reader.press):
                self._read_and_do()
        except EOFError:
            return ExitCode.INTERRUPTED if desk.signals.leaving else ExitCode.DONE
        except (KeyboardInterrupt, Leaving):
            return ExitCode.INTERRUPTED
        except OSError as error:
            if error.errno not in GONE:
                raise
            return ExitCode.INTERRUPTED
        finally:
            desk.signals.on_leave = desk.room.on_change = desk.room.on_loaded = lambda: None

    def _read_and_do(self) -> NoReturn:
        """Until the person or a signal leaves, by an exception.

        Ctrl+C that came after Enter, when the prompt listened no more, is meant for the answer.
        """
        desk, prefill = self._desk, ""
        while True:
            typed = desk.reader.read(prefill)
            desk.signals.presses = desk.reader.unheard
            try:
                with desk.signals.interrupting():
                    prefill = self._take(typed) or ""
            except KeyboardInterrupt:
                desk.tell("stopped")
                prefill = ""

    def _make_reader(self) -> LineReader:
        desk = self._desk
        if not (desk.screen.is_live and sys.stdin.isatty()):
            return PlainReader()
        from chat.tui.input.line_editor import LineEditor

        return LineEditor(
            complete=lambda text: candidates(desk, text),
            toolbar=self._toolbar,
            past=desk.session.store.questions,
            vi=desk.settings.keys == "vi",
            colour=desk.screen.colour,
            early_keys=desk.signals.modes.early_keys,
        )

    def _abandon(self) -> None:
        self._desk.reader.abandon(Leaving())

    def _room_changed(self) -> None:
        """More is loaded, or loading has ended; in another thread."""
        if self._desk.room.fault is not None and self._desk.totals.replies == 0:
            self._desk.reader.abandon(self._desk.room.fault)
        self._desk.reader.redraw()

    def _greet(self, opening: Opening) -> None:
        desk = self._desk
        if desk.screen.is_live:
            desk.screen.write("\r\x1b[K")  # keys that came before the terminal was taken were shown by it
        if not desk.settings.quiet:
            desk.say(plain(greeting(desk.model_name, desk.screen.width), "dim"), ())
        desk.show_notices()
        for path in opening.files:
            io_commands.attach_files(desk, path)
        if opening.record is not None and not desk.settings.quiet:
            tell_own(desk)
        if desk.session.conversation.leaf is not None:
            show_end(desk)

    def _toolbar(self) -> str:
        desk = self._desk
        if not desk.room.is_settled:
            return loading_words(desk.model_name, desk.room.loaded, desk.screen.width)
        parts = []
        if desk.last is not None and desk.last.tokens.generated:
            parts.append(f"{rate(desk.last.tokens.generated, desk.last.seconds.generate)} tokens/s")
        if desk.session.label:
            parts.append(escape_line(desk.session.label))
        used = used_of(desk.room.info, desk.used) if desk.room.info is not None else ""
        return toolbar(desk.model_name, used, parts, desk.screen.width)

    def _take(self, typed: str) -> str | None:
        """One message, or one command; a text to edit next may come back."""
        desk = self._desk
        text = without_block_marks(typed)
        if not text.strip():
            if desk.edited is not None:
                desk.edited = None
                desk.tell("left as it was")
            return None
        if text is typed and is_command(text.strip()):
            desk.edited = None
            return table.run(desk, text)
        exchange.ask(desk, text[1:] if text.startswith("//") else text)
        return None
