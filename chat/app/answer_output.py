"""Print a one-shot answer on stdout as it comes, and everything else on stderr."""

from __future__ import annotations

import time
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from chat.app.backends import answers_as_guide
from chat.app.json_report import reply_report, wanted_block
from chat.core.events import Completion, LoadProgress, Notice, ReasoningDelta, TextDelta
from chat.errors import ChatError, ExitCode
from chat.models.last_used import ORIGIN as LAST_SESSION
from chat.models.last_used import short_name
from chat.system.terminal_text import counted, escape_control_characters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import TextIO

    from chat.config.options import Settings
    from chat.config.resolve import ResolvedSettings
    from chat.core.backend import ModelInfo
    from chat.core.events import Event
    from chat.rendering.answer_view import AnswerView
    from chat.rendering.screen import Screen
    from chat.rendering.wait_indicator import WaitIndicator
    from chat.system.environment import Environment
    from chat.tools.runner import CallResult

ENDED_BY_SERVER = {
    "content_filter": "the server's content filter ended the answer",
    "refusal": "the model refused to answer",
}
KEEP_SECONDS = 1.0  # between two times that the unfinished answer is stored


class AnswerOutput:
    """Prints one answer, the wait for it, and notes about it.

    Attributes:
        settings: the settings of the run.
        environment: its streams.
        text: the answer so far.
        reasoning: what the model thought before it, so far.
    """

    def __init__(self, settings: Settings, environment: Environment) -> None:
        self.settings = settings
        self.environment = environment
        self.text = ""
        self.reasoning = ""
        is_last_only = settings.run_tools and not environment.stdout.isatty()  # a pipe gets no words between calls
        self._is_held = settings.json or settings.wants_code or is_last_only  # until the answer is complete
        self._view = None if self._is_held else self._styled_view()
        self._is_escaped = environment.stdout.isatty()  # a pipe gets the text unchanged
        self._wait: WaitIndicator | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Show what the program waits for while the block runs, until the first text is printed."""
        self._wait = self._wait_indicator()
        try:
            yield
        finally:
            if self._wait is not None:
                self._wait.end()

    def note_loading(self, fraction: float) -> None:
        """Show that this fraction of the model is loaded."""
        if self._wait is not None:
            self._wait.note(LoadProgress(fraction))

    def begin_next(self) -> None:
        """Begin another answer after the model's calls have run; what it said before them stays on a terminal."""
        if self._view is not None:
            self._view.finish()
            self._view = self._styled_view()
        elif self.text and not self._is_held and not self.text.endswith("\n"):
            self.environment.print("")
        self.environment.stdout.flush()
        self.text = self.reasoning = ""

    def stream(self, events: Iterator[Event], keep: Callable[[str, str], None]) -> Completion:
        """Print a reply as it comes.

        Args:
            events: the reply; it ends with a Completion.
            keep: called with the text and the reasoning so far, about every second.

        Raises:
            ChatError: whatever the events raise.
        """
        kept_at = time.monotonic()
        for event in events:
            if self._wait is not None:
                self._wait.note(event)
            if isinstance(event, TextDelta | ReasoningDelta):
                self._take(event)
                if time.monotonic() - kept_at >= KEEP_SECONDS:
                    keep(self.text, self.reasoning)
                    kept_at = time.monotonic()
            elif isinstance(event, Notice):
                self.note(event.text)
            elif isinstance(event, Completion):
                return event
        raise AssertionError("a reply ends with a Completion")

    def _take(self, event: TextDelta | ReasoningDelta) -> None:
        """Add to the answer or to the reasoning, which only a view on a terminal shows."""
        if isinstance(event, TextDelta):
            self.text += event.text
            self._print_delta(event.text)
            return
        self.reasoning += event.text
        if self._view is not None and self.settings.think != "hide":
            if self._wait is not None:
                self._wait.end()
            self._view.think(event.text)
            self._view.tick()

    def break_off(self) -> None:
        """End the line of an answer that a fault interrupted."""
        if self._view is not None:
            self._view.finish()
        elif self.text and not self._is_held and not self.text.endswith("\n"):
            self.environment.print("")
            self.environment.stdout.flush()

    def finish(self, done: Completion, info: ModelInfo, results: Sequence[CallResult] = ()) -> ExitCode:
        """Print what is printed only when the answer is complete.

        Args:
            done: the answer.
            info: the model.
            results: of the calls that were run for it.

        Returns:
            The exit code.

        Raises:
            ChatError: a code block is wanted and there is none, or the answer was cut and must not be.
        """
        self._print_end(done, info, results)
        self.environment.stdout.flush()  # the notes come after it where both go to one pipe
        if done.reasoning and not (done.text or done.tool_calls):
            self.note("the model thought but gave no answer")
        ended = ENDED_BY_SERVER.get(done.finish_reason, "")
        if ended and not self.settings.fails_when_cut:
            self.note(ended)
        if done.finish_reason == "length" and not (self.settings.fails_when_cut or self.settings.json):
            self.note("; ".join(filter(None, _reached_limit(done, info, self.settings))))  # a record has its own field
        if self.settings.stats:
            self._print_stats(done)
        if done.finish_reason == "interrupted":
            return ExitCode.INTERRUPTED
        if self.settings.wants_code and not done.tool_calls and wanted_block(done.text, self.settings) is None:
            hint = None if self.settings.json else f"the answer was: {done.text}"  # so that it is not lost
            raise ChatError("the answer has no code block", hint=hint)
        if ended and self.settings.fails_when_cut:
            raise ChatError(ended)
        if done.finish_reason == "length" and self.settings.fails_when_cut:
            fact, way_out = _reached_limit(done, info, self.settings)
            raise ChatError(fact, hint=way_out or None)
        return ExitCode.DONE

    def print_json(self, plain: Mapping[str, Any]) -> None:
        """Print an object as one line of JSON, and flush it."""
        self.environment.print_json(plain)
        self.environment.stdout.flush()

    def note(self, warning: str) -> None:
        """Print a note on stderr, unless the settings want quiet."""
        if not self.settings.quiet:
            with self._wait.hidden() if self._wait is not None else nullcontext():
                self.environment.notify(f"note: {warning}")

    def note_unnamed_model(self, resolved: ResolvedSettings) -> None:
        """Note which model answers, if nothing names one: that of the last session, or the guide."""
        if resolved.origins.get("model") == LAST_SESSION:
            name = short_name(resolved.settings.model or "")
            self.note(f"using {name}, the model of your last session; `-m FILE` chooses another")
        if resolved.missing_model is not None:
            self.note(f"the model of your last session is gone: {resolved.missing_model}")
        if answers_as_guide(resolved.settings):
            from chat.guide.backend import guide_notice

            self.note(f"no model is named, so {guide_notice()}")

    def _print_delta(self, text: str) -> None:
        if self._is_held:
            return
        if self._wait is not None:
            self._wait.end()
        if self._view is not None:
            self._view.feed(text)
            self._view.tick()
        else:
            self.environment.print(escape_control_characters(text) if self._is_escaped else text, end="")
            self.environment.stdout.flush()

    def _print_end(self, done: Completion, info: ModelInfo, results: Sequence[CallResult]) -> None:
        """The part of the answer that is printed at its end."""
        output = self.environment
        if self._view is not None:
            self._view.finish()
        elif self.settings.json:
            report = reply_report(done, info, self.settings)
            if self.settings.run_tools:
                from chat.app.tool_runs import results_report

                report["tool_results"] = results_report(results)
            return self.print_json(report)
        elif self.settings.wants_code:
            output.print(wanted_block(done.text, self.settings) or "", end="")
        elif self._is_held:
            output.print(done.text, end="" if done.text.endswith("\n") or done.tool_calls else "\n")
        elif not done.text.endswith("\n") and (done.text or not done.tool_calls):
            output.print("")
        for call in done.tool_calls:
            self.print_json(asdict(call))
        return None

    def _print_stats(self, done: Completion) -> None:
        """The answer's figures in one line on stderr, dim on a terminal."""
        from chat.rendering.status_text import stats_line

        self.environment.stdout.flush()
        self._screen(self.environment.stderr).line(stats_line(done))

    def _styled_view(self) -> AnswerView | None:
        """The view of Markdown on a terminal; None for plain text."""
        settings, stdout = self.settings, self.environment.stdout
        if settings.markdown is False or settings.raw or settings.raw_ids or not self.environment.can_redraw(stdout):
            return None
        from chat.rendering.answer_view import MarkdownAnswer

        return MarkdownAnswer(self._screen(stdout))

    def _wait_indicator(self) -> WaitIndicator | None:
        """The line on a terminal that shows waits; None if stderr is no terminal, or llama.cpp's log goes there."""
        stderr = self.environment.stderr
        shows = self.environment.can_redraw(stderr) or self.environment.is_spoken(stderr)
        if self.settings.quiet or self.settings.verbose or not shows:
            return None
        from chat.rendering.wait_indicator import WaitIndicator

        return WaitIndicator(self._screen(stderr))

    def _screen(self, stream: TextIO) -> Screen:
        from chat.rendering.screen import Screen
        from chat.rendering.spoken import SpokenScreen

        environment = self.environment
        is_live, colour = environment.can_redraw(stream), environment.has_colour(self.settings.color)
        links = environment.has_links(stream)
        kind = SpokenScreen if environment.is_spoken(stream) else Screen
        return kind(stream, is_live=is_live, colour=colour, links=links, size=environment.size)


def _reached_limit(done: Completion, info: ModelInfo, settings: Settings) -> tuple[str, str]:
    """A sentence about the limit that cut an answer, and what allows more; empty if nothing here does."""
    limit, count = settings.max_tokens, done.tokens.generated
    if limit is not None and (count >= limit or not done.tokens.are_known):
        return f"the answer was cut after {counted(limit, 'token')}", "`-n` allows more"
    if settings.remote:
        return "the server cut the answer at its own limit", ""
    return f"the answer was cut because the context of {info.context:,} tokens is full", "`--context` makes it larger"
