"""Put an answer on stdout as it comes, and all else on stderr. Knows events, pipes and terminals, not engines."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from chat.events import Done, Loading, Notice, Reading, Text
from chat.ground.errors import ChatError, ExitCode
from chat.ground.streams import say
from chat.ground.visible import visible
from chat.report import json_line, reply_report, wanted_block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chat.events import Event, ModelInfo
    from chat.settings import Settings
    from chat.terminal.answer import AnswerView
    from chat.terminal.screen import Screen

PATIENCE_SECONDS = 1.0  # waits shorter than this need no words
KEEP_SECONDS = 1.0  # between two times that the answer so far is stored


class AnswerOutput:
    """Where a one shot's answer goes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._is_held = settings.json or settings.wants_code  # shown only when it is whole
        self._view = None if self._is_held else _styled_view(settings)
        self._is_shown = sys.stdout.isatty()  # else the text stays as it is
        self._status = _status_screen(settings)
        self._began = time.monotonic()
        self.text = ""  # of the answer so far

    def stream(self, events: Iterator[Event], keep: Callable[[str], None]) -> Done:
        """Show a reply as it comes; `keep` is given the text so far every second."""
        kept_at = self._began
        for event in events:
            if isinstance(event, Text):
                self.text += event.text
                self._show(event.text)
                if time.monotonic() - kept_at >= KEEP_SECONDS:
                    keep(self.text)
                    kept_at = time.monotonic()
            elif isinstance(event, (Loading, Reading)):
                self._show_wait(event)
            elif isinstance(event, Notice):
                self.tell(event.text)
            elif isinstance(event, Done):
                self._clear_wait()
                return event
        raise AssertionError("a reply ends with Done")

    def break_off(self) -> None:
        """End the line of an answer that a fault cut off."""
        if self._view is not None:
            self._view.finish()
        elif self.text and not self._is_held and not self.text.endswith("\n"):
            print(flush=True)

    def finish(self, done: Done, info: ModelInfo) -> ExitCode:
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

    def _put(self, done: Done, info: ModelInfo) -> None:
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
        self._clear_wait()
        if not self._settings.quiet:
            say(f"note: {visible(warning)}")

    def _show(self, text: str) -> None:
        self._clear_wait()
        if self._is_held:
            return
        if self._view is not None:
            self._view.feed(text)
            self._view.tick()
        else:
            sys.stdout.write(visible(text) if self._is_shown else text)
            sys.stdout.flush()

    def _show_wait(self, event: Loading | Reading) -> None:
        waited = time.monotonic() - self._began
        if self._status is None or waited < PATIENCE_SECONDS:
            return
        from chat.terminal.status import loading_line, reading_line

        width = self._status.width
        if isinstance(event, Reading):
            self._status.update((), [reading_line(event, 0, width)])
        else:
            self._status.update((), [loading_line("the model", event.fraction, waited, width)])

    def _clear_wait(self) -> None:
        if self._status is not None:
            self._status.update()


def _is_live(stream: object) -> bool:
    return bool(getattr(stream, "isatty", bool)()) and os.environ.get("TERM", "dumb") not in ("dumb", "")


def _has_colour(settings: Settings) -> bool:
    return settings.color == "always" or (settings.color == "auto" and not os.environ.get("NO_COLOR"))


def _styled_view(settings: Settings) -> AnswerView | None:
    """Markdown on a terminal; None where the answer is to be plain text."""
    if settings.markdown is False or settings.raw or settings.raw_ids or not _is_live(sys.stdout):
        return None
    from chat.terminal.answer import MarkdownAnswer
    from chat.terminal.screen import Screen

    return MarkdownAnswer(Screen(sys.stdout, is_live=True, colour=_has_colour(settings)))


def _status_screen(settings: Settings) -> Screen | None:
    """Where waits are shown: a terminal on stderr."""
    if settings.quiet or not _is_live(sys.stderr):
        return None
    from chat.terminal.screen import Screen

    return Screen(sys.stderr, is_live=True, colour=_has_colour(settings))


def _say_stats(done: Done, settings: Settings) -> None:
    """The answer's figures in one line, dim on a terminal."""
    from chat.terminal.screen import Screen
    from chat.terminal.status import stats_line

    sys.stdout.flush()
    Screen(sys.stderr, is_live=_is_live(sys.stderr), colour=_has_colour(settings)).line(stats_line(done))
