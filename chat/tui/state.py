"""What the session's rooms work on together: screen, reader, engine, session and settings. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from chat.app.session_options import persisted_options
from chat.config.resolve import ResolvedSettings
from chat.rendering.styled_text import Line, Span, plain, wrap
from chat.system.terminal_text import escape_control_characters, escape_line

if TYPE_CHECKING:
    from pathlib import Path

    from chat.config.options import Settings
    from chat.core.events import Completion
    from chat.errors import ChatError
    from chat.history.open_session import OpenSession
    from chat.rendering.screen import Screen
    from chat.tui.background_backend import BackgroundBackend
    from chat.tui.input.reader import LineReader
    from chat.tui.signals import Signals

CHANGED = "/set"


@dataclass(frozen=True)
class Attachment:
    """A text file that goes with the next message."""

    name: str
    text: str


@dataclass(frozen=True)
class ListTarget:
    """Where a numbered line of the last list leads: a session, and a message in it if one was found."""

    session_id: str
    node_id: str | None = None


@dataclass
class Totals:
    """Figures of all replies since the program began."""

    replies: int = 0
    read: int = 0  # tokens of prompts that were read
    cached: int = 0  # tokens of prompts that were not read again
    generated: int = 0
    read_seconds: float = 0.0
    generate_seconds: float = 0.0

    def add(self, done: Completion) -> None:
        """Count one reply."""
        self.replies += 1
        if done.tokens.generated or done.finish_reason != "interrupted":  # else nobody knows how much was read
            self.read += done.tokens.prompt - done.tokens.cached
            self.read_seconds += done.seconds.prompt
        self.cached += done.tokens.cached
        self.generated += done.tokens.generated
        self.generate_seconds += done.seconds.generate


@dataclass
class SessionState:
    """The session's state."""

    screen: Screen
    signals: Signals
    room: BackgroundBackend
    session: OpenSession
    resolved: ResolvedSettings
    base: ResolvedSettings  # without what belongs to the session
    config_file: Path | None = None
    state_folder: Path | None = None
    tools: tuple[dict[str, Any], ...] = ()  # the functions that the model may call
    reader: LineReader = field(init=False)
    shows_markdown: bool = True
    attachments: list[Attachment] = field(default_factory=list)
    places: list[ListTarget] = field(default_factory=list)
    edited: tuple[str | None] | None = None  # the next message goes after this node
    last: Completion | None = None
    used: int = 0  # tokens of the context after the last reply
    totals: Totals = field(default_factory=Totals)

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.resolved.settings

    def change_settings(self, origin: str = CHANGED, **values: Any) -> None:
        """Put other values in force."""
        origins = {**self.resolved.origins, **dict.fromkeys(values, origin)}
        self.resolved = replace(self.resolved, settings=replace(self.settings, **values), origins=origins)
        self.session.set_options(persisted_options(self.resolved, values))

    def remember_model(self) -> None:
        """Store which model answers; a server's is no file."""
        self.session.set_model(self.settings.model or "", "" if self.settings.remote else self.room.options.model_path)

    @property
    def model_name(self) -> str:
        """What to call the model: the stem of its file."""
        from pathlib import Path

        if self.settings.remote:
            return escape_line(self.room.info.name if self.room.info else self.settings.remote)
        return escape_line(Path(self.room.options.model_path).stem)

    def say(self, *lines: Line) -> None:
        """Show lines."""
        self.screen.line(*lines)

    def tell(self, sentence: str) -> None:
        """Show a short confirmation, and a blank line."""
        self.say(*self.wrapped(sentence, "dim"), ())

    def show_error(self, error: ChatError) -> None:
        """Show what went wrong and the way out."""
        self.say(*self.wrapped(f"error: {error.message}", "red"))
        if error.hint:
            self.say(*self.wrapped(f"hint: {error.hint}"))
        self.say(())

    def show_notices(self) -> None:
        """Show what the store has to say."""
        for notice in self.session.store.take_notices():
            self.say(*self.wrapped(f"note: {notice.text}", "magenta"), ())

    def wrapped(self, text: str, style: str = "", indent: str = "") -> list[Line]:
        """Text of any origin as lines that fit."""
        lines = wrap(plain(escape_control_characters(text), style), self.screen.width - len(indent))
        return [(Span(indent), *line) if indent else line for line in lines]
