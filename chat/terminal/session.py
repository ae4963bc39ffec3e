"""Hold a conversation in a terminal: read, answer, again. Knows the rooms beside it, not engines, files or flags."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from chat import wiring
from chat.conversation import Conversation, Message
from chat.ground.errors import ChatError, ExitCode
from chat.ground.visible import visible_line
from chat.request import Prompt
from chat.terminal.answer import AnswerView, MarkdownAnswer, PlainAnswer
from chat.terminal.book import Book
from chat.terminal.reader import Candidate, PlainReader, Reader, without_block_marks
from chat.terminal.render import plain
from chat.terminal.screen import Screen
from chat.terminal.signals import Leaving, Signals
from chat.terminal.status import done_line, rate, toolbar, used_of
from chat.terminal.turn import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from chat.events import Done, ModelInfo, Replier
    from chat.layers import Layered
    from chat.request import EngineOptions
    from chat.terminal.turn import Reply

HELP = """\
Enter sends · Alt+Enter or Ctrl+J breaks the line · \"\"\" begins and ends a block · Ctrl+C stops an answer
/help  this help
/bye   leave (Ctrl+D)"""


@dataclass(frozen=True)
class Opening:
    """What a session begins with."""

    conversation: Conversation = field(default_factory=Conversation)
    prompt: str | None = None


def run_session(
    engine_factory: Callable[[EngineOptions], Replier], layered: Layered, opening: Opening | None = None
) -> ExitCode:
    """Talk until the person leaves.

    Raises:
        ChatError: the model cannot be used at all.
    """
    from chat.models.resolve import resolve

    settings = layered.settings
    options = wiring.engine_options(settings, resolve(settings.model), session=True, state_folder=None)
    engine = engine_factory(options)
    signals = Signals()
    try:
        with signals.installed():
            return Session(engine, layered, opening or Opening(), signals).run()
    finally:
        engine.close()


class Session:
    """One person, one model, one conversation."""

    def __init__(self, engine: Replier, layered: Layered, opening: Opening, signals: Signals) -> None:
        self._engine = engine
        self._settings = layered.settings
        self._signals = signals
        self._book = Book(opening.conversation.with_system(wiring.system_prompt(layered.settings)))
        self._opening = opening
        self._info: ModelInfo | None = None
        self._fault: ChatError | None = None
        self._loaded = threading.Event()
        self._last: Done | None = None
        is_live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "")
        self._screen = Screen(sys.stdout, is_live=is_live, colour=is_live and not os.environ.get("NO_COLOR"))
        self._reader = self._make_reader(is_live)

    def run(self) -> ExitCode:
        """Read and answer until the end."""
        self._signals.on_leave = lambda: self._reader.abandon(Leaving())
        threading.Thread(target=self._load, daemon=True, name="load").start()
        self._screen.line(plain(f"{self._name()} · /help for help", "dim"), ())
        try:
            if self._opening.prompt is not None:
                self._answer(self._opening.prompt)
            while True:
                text = self._reader.read()
                if text.strip():
                    self._take(text)
        except EOFError:
            return ExitCode.DONE
        except (KeyboardInterrupt, Leaving):
            return ExitCode.INTERRUPTED
        finally:
            self._signals.on_leave = lambda: None

    def _make_reader(self, is_live: bool) -> Reader:
        if not (is_live and sys.stdin.isatty()):
            return PlainReader()
        from chat.terminal.line_editor import LineEditor

        return LineEditor(complete=self._complete, toolbar=self._toolbar, past=self._past, colour=self._screen.colour)

    def _complete(self, text: str) -> Iterable[Candidate]:
        return [Candidate(name, len(text)) for name in ("/help", "/bye") if name.startswith(text)]

    def _past(self) -> Iterable[str]:
        return ()

    def _name(self) -> str:
        return visible_line(Path(self._settings.model or "").stem)

    def _load(self) -> None:
        try:
            self._info = self._engine.info()
        except ChatError as error:
            self._fault = error
            self._reader.abandon(error)
        finally:
            self._loaded.set()
            self._reader.redraw()

    def _toolbar(self) -> str:
        if not self._loaded.is_set():
            return f"loading {self._name()} …"
        parts = [self._name()]
        if self._info:
            tokens = self._last.tokens if self._last else None
            parts.append(used_of(self._info, tokens.prompt + tokens.generated if tokens else 0))
        if self._last and self._last.tokens.generated:
            parts.append(f"{rate(self._last.tokens.generated, self._last.seconds.generate)} tokens/s")
        return toolbar(parts, self._screen.width)

    def _take(self, text: str) -> None:
        """One message, or one command."""
        text = without_block_marks(text)
        if text in ("/bye", "/exit", "/quit"):
            raise EOFError
        if text in ("/help", "/?"):
            self._screen.line(*(plain(line) for line in HELP.splitlines()))
        elif text.startswith("/") and not text.startswith("//"):
            self._screen.line(plain(f"no command {visible_line(text)}; /help lists them", "red"))
        else:
            self._answer(text[1:] if text.startswith("//") else text)

    def _answer(self, text: str) -> None:
        self._book.ask(text)
        request = wiring.request(Prompt(messages=self._book.conversation.messages()), self._settings)
        markdown = self._settings.markdown is not False and self._screen.is_live
        view: AnswerView = MarkdownAnswer(self._screen) if markdown else PlainAnswer(self._screen)
        turn = Turn(self._engine, request, view, self._screen, self._signals, self._book.keep, self._name(),
                    self._loaded.is_set)  # fmt: skip
        self._screen.line(())
        with self._signals.quiet_keys():
            self._finish(turn.run())

    def _finish(self, reply: Reply) -> None:
        if reply.done is not None:
            done = reply.done
            self._last = done
            self._book.answer(Message("assistant", done.text, ids=done.ids, finish_reason=done.finish_reason))
            ends = {"length": "cut at the limit · ", "interrupted": "interrupted · "}.get(done.finish_reason, "")
            line = done_line(done, self._screen.width)
            self._screen.line((), plain(ends + line[0].text, "dim"), ())
        elif reply.text:
            self._book.answer(Message("assistant", reply.text, finish_reason="interrupted"))
        if isinstance(reply.error, ChatError):
            self._screen.line(plain(f"error: {visible_line(reply.error.message)}", "red"))
            if reply.error.hint:
                self._screen.line(plain(f"hint: {visible_line(reply.error.hint)}"))
            self._screen.line(())
        if reply.is_left:
            raise Leaving
