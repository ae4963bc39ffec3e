"""The state of a session, which the repl, the commands and the exchanges share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from chat.app.remotes import RemoteOptions, answered_by
from chat.app.sessions import persisted_options
from chat.app.tracebacks import record_traceback
from chat.config.resolve import ResolvedSettings
from chat.documents.pictures import AGAIN
from chat.errors import as_chat_error
from chat.models.last_used import remember_model, short_name
from chat.rendering.styled_text import Line, Span, plain, wrap
from chat.system.terminal_text import escape_control_characters, escape_line
from chat.tui.commands.session_options import session_hint, session_sentence
from chat.tui.model_lists import ModelLists
from chat.tui.signals import Signals, Terminated

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from chat.app.request_builder import Tool
    from chat.config.options import Settings
    from chat.core.events import Completion
    from chat.documents.document import Document
    from chat.history.open_session import OpenSession
    from chat.rendering.screen import Screen
    from chat.tools.loop import CallLoop
    from chat.tools.rules import ToolRule
    from chat.tui.background_backend import BackgroundBackend
    from chat.tui.input.reader import LineReader

LOAD_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class ListTarget:
    """What a number of the last list stands for: a session, and the message in it that a search found."""

    session_id: str
    node_id: str | None = None


@dataclass
class Totals:
    """Sums over all answers since the program started."""

    answers: int = 0
    prompt_tokens: int = 0  # processed, without the cached ones
    cached_tokens: int = 0
    generated_tokens: int = 0
    prompt_seconds: float = 0.0
    generate_seconds: float = 0.0

    def add(self, completion: Completion) -> None:
        """Add one answer."""
        tokens, seconds = completion.tokens, completion.seconds
        self.answers += 1
        if tokens.generated or completion.finish_reason != "interrupted":  # else the processed part is unknown
            self.prompt_tokens += tokens.prompt - tokens.cached
            self.prompt_seconds += seconds.prompt
        self.cached_tokens += tokens.cached
        self.generated_tokens += tokens.generated
        self.generate_seconds += seconds.generate


@dataclass
class SessionState:
    """Everything that a session works on.

    Attributes:
        screen: where lines are shown.
        signals: the signals that have arrived.
        backend: answers; it may still load its model.
        session: the open conversation and its place in the history.
        resolved: the settings in force, with their origins.
        base: the settings without the options that belong to the session.
        config_file: the settings file.
        state_folder: where the engine saves its cache.
        own_tools: the functions of `--tools`, where calls are not run here.
        calls: runs functions that the model calls; None where that is not wanted.
        allowed: rules that the user has added in this session, kept for the time when functions run again.
        reader: reads the user's lines.
        shows_markdown: whether answers are styled.
        attachments: what is sent with the next message; what is attached again takes its own place.
        list_targets: what the numbers of the last list stand for.
        branch_point: while a message is edited, a tuple of the node that the new message will follow.
        last_completion: the last answer.
        used_tokens: tokens of the context after the last answer; 0 if unknown.
        totals: sums over all answers.
        model_lists: the models that servers and this machine offer.
    """

    screen: Screen
    signals: Signals
    backend: BackgroundBackend
    session: OpenSession
    resolved: ResolvedSettings
    base: ResolvedSettings
    config_file: Path | None = None
    state_folder: Path | None = None
    own_tools: tuple[Tool, ...] = ()
    calls: CallLoop | None = None
    allowed: tuple[ToolRule, ...] = ()
    reader: LineReader = field(init=False)
    shows_markdown: bool = True
    attachments: list[Document] = field(default_factory=list)
    list_targets: list[ListTarget] = field(default_factory=list)
    branch_point: tuple[str | None] | None = None
    last_completion: Completion | None = None
    used_tokens: int = 0
    totals: Totals = field(default_factory=Totals)
    model_lists: ModelLists = field(default_factory=ModelLists)

    def leave_edit(self) -> None:
        """Edit no earlier message any more; its pictures are no longer attached."""
        if self.branch_point is not None:
            self.attachments[:] = [each for each in self.attachments if not each.source.startswith(AGAIN)]
        self.branch_point = None

    def wait_for_load(self) -> None:
        """Wait until the model is loaded, or cannot be used.

        Raises:
            Terminated: a signal ends the program.
            KeyboardInterrupt: Ctrl+C stopped the wait.
        """
        while not self.backend.wait_for_load(LOAD_POLL_SECONDS):
            if self.signals.ending_signal:
                raise Terminated

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.resolved.settings

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The functions that the model may call."""
        return self.own_tools if self.calls is None else self.calls.toolbox.schemas()

    @property
    def model_name(self) -> str:
        """The model's name for the screen: that of its file, of Ollama, or of a server."""
        options = self.backend.options
        if isinstance(options, RemoteOptions):
            return escape_line(self.backend.info.name if self.backend.info else options.model or options.server.host)
        return escape_line(short_name(options.model_path))

    @property
    def model_path(self) -> str:
        """The model's file; empty for a server."""
        options = self.backend.options
        return "" if isinstance(options, RemoteOptions) else options.model_path

    @property
    def model_system_prompt(self) -> str:
        """The system prompt that the model was released with, if it is in force and the model is loaded; else empty."""
        info = self.backend.info
        return info.system_prompt if info is not None and self.session.conversation.system is None else ""

    def change_settings(self, origin: str, **values: Any) -> None:
        """Put values in force, and store those that belong to the session.

        Args:
            origin: the command that gave them, e.g. `/set`.
            values: the new values by the names of their options.
        """
        origins = {**self.resolved.origins, **dict.fromkeys(values, origin)}
        self.resolved = replace(self.resolved, settings=replace(self.settings, **values), origins=origins)
        self.session.set_options(persisted_options(self.resolved, values))

    def store_model(self) -> None:
        """Store which model answers; for a server, its model and its host."""
        options, info = self.backend.options, self.backend.info
        if isinstance(options, RemoteOptions):
            return self.session.set_model(answered_by(options, info.name if info else ""), "")
        return self.session.set_model(self.settings.model or "", options.model_path)

    def remember_model(self) -> None:
        """Store that the next session without a named model uses this one, once it is loaded."""
        from pathlib import Path

        if self.backend.info is not None and self.model_path and not self.settings.no_history:
            remember_model(Path(self.model_path))

    def show(self, *lines: Line) -> None:
        """Show lines."""
        self.screen.line(*lines)

    def report(self, sentence: str) -> None:
        """Show a dim sentence, such as a confirmation, and an empty line."""
        self.show(*self.wrapped(sentence, "dim"), ())

    def show_facts(self, rows: Sequence[tuple[str, str]]) -> None:
        """Show values behind their labels, in columns, and an empty line.

        Args:
            rows: labels and values, at least one.
        """
        cells = max(len(label) for label, _ in rows) + 2
        for label, value in rows:
            lines = self.wrapped(value, indent=" " * cells)
            self.show((Span(f"{label:<{cells}}", "dim"), *lines[0][1:]), *lines[1:])
        self.show(())

    def show_error(self, fault: Exception) -> None:
        """Show an error with its hint, and an empty line; the traceback of an unexpected one goes to the log."""
        error = as_chat_error(fault)
        record_traceback(error, self.settings, lambda text: self.show(*self.wrapped(text, "dim")))
        self.show(*self.wrapped(f"error: {session_sentence(error.message)}", "red"))
        if error.hint:
            self.show(*self.wrapped(f"hint: {session_hint(error.hint)}"))
        self.show(())

    def show_notices(self) -> None:
        """Show the notices of the history and of the sources of functions since the last call."""
        notices = [notice.text for notice in self.session.store.take_notices()]
        notices += self.calls.toolbox.take_notices() if self.calls is not None else []
        for notice in notices:
            self.show(*self.wrapped(f"note: {notice}", "magenta"), ())

    def wrapped(self, text: str, style: str = "", indent: str = "", *, is_exact: bool = False) -> list[Line]:
        """Text from any source as lines that fit the screen, control characters escaped.

        Args:
            is_exact: for text of others, in which no words may stand for signs.
        """
        lines = wrap(plain(escape_control_characters(text), style), self.screen.width - len(indent))
        if is_exact:
            lines = [tuple(replace(span, is_exact=True) for span in line) for line in lines]
        return [(Span(indent), *line) if indent else line for line in lines]
