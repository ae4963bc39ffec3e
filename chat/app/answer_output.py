"""Put an answer on stdout as it comes, and all else on stderr. Knows events, pipes and terminals, not engines."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING

from chat.app.backends import answers_as_guide
from chat.app.json_report import json_line, reply_report, wanted_block
from chat.core.events import Completion, LoadProgress, Notice, TextDelta
from chat.errors import ChatError, ExitCode
from chat.system.standard_streams import say
from chat.system.terminal_text import escape_control_characters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chat.config.options import Settings
    from chat.core.backend import ModelInfo
    from chat.core.events import Event
    from chat.rendering.answer_view import AnswerView
    from chat.rendering.wait_indicator import WaitIndicator

KEEP_SECONDS = 1.0  # between two times that the answer so far is stored


class AnswerOutput:
    """Where a one shot's answer goes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._is_held = settings.json or settings.wants_code  # shown only when it is whole
        self._view = None if self._is_held else _styled_view(settings)
        self._is_shown = sys.stdout.isatty()  # else the text stays as it is
        self._status: WaitIndicator | None = None  # of the wait for an answer
        self.text = ""  # of the answer so far

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Say what one waits for while the block runs, up to the first word that is shown."""
        self._status = _status_line(self._settings)
        try:
            yield
        finally:
            if self._status is not None:
                self._status.end()

    def note_loading(self, fraction: float) -> None:
        """The model is being loaded."""
        if self._status is not None:
            self._status.hear(LoadProgress(fraction))

    def stream(self, events: Iterator[Event], keep: Callable[[str], None]) -> Completion:
        """Show a reply as it comes; `keep` is given the text so far every second."""
        kept_at = time.monotonic()
        for event in events:
            if self._status is not None:
                self._status.hear(event)
            if isinstance(event, TextDelta):
                self.text += event.text
                self._show(event.text)
                if time.monotonic() - kept_at >= KEEP_SECONDS:
                    keep(self.text)
                    kept_at = time.monotonic()
            elif isinstance(event, Notice):
                self.tell(event.text)
            elif isinstance(event, Completion):
                return event
        raise AssertionError("a reply ends with Done")

    def break_off(self) -> None:
        """End the line of an answer that a fault cut off."""
        if self._view is not None:
            self._view.finish()
        elif self.text and not self._is_held and not self.text.endswith("\n"):
            print(flush=True)

    def finish(self, done: Completion, info: ModelInfo) -> ExitCode:
        """Show what is shown only of a whole answer, and say how it went.

        Raises:
            ChatError: a code block is wanted, but there is none; or the answer was cut and is worth nothing so.
        """
        self._put(done, info)
        if self._settings.stats:
            _say_stats(done, self._settings)
        if done.finish_reason == "interrupted":
            return ExitCode.INTERRUPTED
        if self._settings.wants_code and not done.tool_calls and wanted_block(done.text, self._settings) is None:
            hint = None if self._settings.json else f"it was: {done.text}"  # so that it is not lost
            raise ChatError("the answer holds no code block", hint=hint)
        if done.finish_reason == "length" and self._settings.fails_when_cut:
            raise ChatError(
                f"the answer was cut after {done.tokens.generated or 'too many'} tokens", hint="allow more by `-n`"
            )
        return ExitCode.DONE

    def _put(self, done: Completion, info: ModelInfo) -> None:
        """What is shown at the end, or only then."""
        if self._view is not None:
            self._view.finish()
        elif self._settings.json:
            print(json_line(reply_report(done, info, self._settings)))
            return
        elif self._is_held:
            print(wanted_block(done.text, self._settings) or "", end="")
        elif not done.text.endswith("\n") and (done.text or not done.tool_calls):
            print()
        if done.tool_calls:
            print(*(json_line(asdict(call)) for call in done.tool_calls), sep="\n")

    def tell(self, warning: str) -> None:
        """Say something on stderr, unless nothing is to be said."""
        if not self._settings.quiet:
            with self._status.away() if self._status is not None else nullcontext():
                say(f"note: {escape_control_characters(warning)}")

    def tell_of_the_guide(self, settings: Settings) -> None:
        """Tell the user that no model is named and so the guide answers, where that is so."""
        if answers_as_guide(settings):
            from chat.guide.notice import GUIDE_NOTICE

            self.tell(f"no model is named, so {GUIDE_NOTICE}")

    def _show(self, text: str) -> None:
        if self._is_held:
            return
        if self._status is not None:
            self._status.end()
        if self._view is not None:
            self._view.feed(text)
            self._view.tick()
        else:
            sys.stdout.write(escape_control_characters(text) if self._is_shown else text)
            sys.stdout.flush()


def _is_live(stream: object) -> bool:
    return bool(getattr(stream, "isatty", bool)()) and os.environ.get("TERM", "dumb") not in ("dumb", "")


def _has_colour(settings: Settings) -> bool:
    return settings.color == "always" or (settings.color == "auto" and not os.environ.get("NO_COLOR"))


def _styled_view(settings: Settings) -> AnswerView | None:
    """Markdown on a terminal; None where the answer is to be plain text."""
    if settings.markdown is False or settings.raw or settings.raw_ids or not _is_live(sys.stdout):
        return None
    from chat.rendering.answer_view import MarkdownAnswer
    from chat.rendering.screen import Screen

    return MarkdownAnswer(Screen(sys.stdout, is_live=True, colour=_has_colour(settings)))


def _status_line(settings: Settings) -> WaitIndicator | None:
    """Where waits are shown: a terminal on stderr, where llama.cpp does not write."""
    if settings.quiet or settings.verbose or not _is_live(sys.stderr):
        return None
    from chat.rendering.screen import Screen
    from chat.rendering.wait_indicator import WaitIndicator

    return WaitIndicator(Screen(sys.stderr, is_live=True, colour=_has_colour(settings)))


def _say_stats(done: Completion, settings: Settings) -> None:
    """The answer's figures in one line, dim on a terminal."""
    from chat.rendering.screen import Screen
    from chat.rendering.status_text import stats_line

    sys.stdout.flush()
    Screen(sys.stderr, is_live=_is_live(sys.stderr), colour=_has_colour(settings)).line(stats_line(done))
