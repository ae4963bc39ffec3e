"""Run the functions that the model calls in a session: show each call, ask before it runs, and store its result."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from chat.app.tool_runs import store_rule
from chat.errors import ChatError, UsageError
from chat.rendering.status_text import duration
from chat.rendering.styled_text import Span, fold, plain
from chat.rendering.wait_indicator import PATIENCE_SECONDS
from chat.system.terminal_text import counted, escape_line
from chat.tools.approval import CHOICES, HELP, Decision, changed_note, read_decision
from chat.tools.runner import not_run
from chat.tui.signals import Terminated
from chat.tui.transcript import folded_result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.core.conversation import Message, ToolCall
    from chat.tools.rules import ToolRule
    from chat.tools.runner import CallResult, PreparedCall
    from chat.tui.state import SessionState

POLL_SECONDS = 0.05
QUESTION = "Run it? "


def wait_for_functions(state: SessionState) -> bool:
    """Wait until the sources of functions have started, and show that if it takes long; False if Ctrl+C stops it."""
    if state.calls is None or state.calls.toolbox.is_ready:
        return True
    began, toolbox = time.monotonic(), state.calls.toolbox
    with state.signals.counting_ctrl_c():
        while not (toolbox.is_ready or state.signals.presses or state.signals.ending_signal):
            waited = time.monotonic() - began
            if waited > PATIENCE_SECONDS:
                words = f"starting the functions of {', '.join(toolbox.starting)} · {duration(int(waited))}"
                state.screen.update((), [plain(escape_line(words)[: state.screen.width - 1], "dim")])
            time.sleep(POLL_SECONDS)
    state.screen.update()
    return not state.signals.presses


def run_pending_calls(state: SessionState) -> bool:
    """Run the calls of the last answer that have no result yet, each after a yes.

    Returns:
        Whether the model can answer on.

    Raises:
        Terminated: the program ends; the results are stored.
    """
    loop = state.calls
    pending = state.session.conversation.pending_calls()
    if loop is None or not pending or not wait_for_functions(state):
        return False
    calls = [call for call in pending if not loop.toolbox.is_described(call.name)]
    if state.signals.presses:
        state.report("Stopped. /continue runs the function calls.")
        return False
    if calls and loop.exceeds(calls):
        limit = counted(loop.most_calls, "function call")
        state.report(f"The limit of {limit} is reached. /continue allows as many more.")
        return False

    def keep(results: Sequence[CallResult]) -> None:
        state.session.ask(*(result.message() for result in results))

    if calls:
        try:
            with state.signals.counting_ctrl_c():
                results = loop.run(calls, _SessionCalls(state, has_several=len(calls) > 1), keep)
        except KeyboardInterrupt:
            state.report("Stopped. /continue asks again; a new message refuses the calls.")
            return False
        finally:
            state.screen.update()
        if state.signals.ending_signal:
            raise Terminated
        if any(result.outcome == "stopped" for result in results):
            state.report("Stopped. /continue lets the model answer.")
            return False
    return not state.session.conversation.pending_calls()


def results_of_calls_not_run(state: SessionState) -> tuple[Message, ...]:
    """The results for calls that the user has left for a new message; none where one has to be answered by hand."""
    pending: tuple[ToolCall, ...] = state.session.conversation.pending_calls()
    if state.calls is None or any(state.calls.toolbox.is_described(call.name) for call in pending):
        return ()
    return tuple(not_run(call).message() for call in pending)


class _SessionCalls:
    """Shows calls on the session's screen, and asks in its line editor."""

    def __init__(self, state: SessionState, *, has_several: bool) -> None:
        self._state = state
        self._has_several = has_several
        self._began_at = 0.0

    def show_call(self, number: int, most: int, prepared: PreparedCall) -> None:
        """Show a call, and why nobody is asked about it."""
        words = {"allow": " · allowed by a rule", "deny": " · not allowed by a rule"}.get(prepared.verdict, "")
        line = (
            Span(f"tool call {number} of at most {most}: ", "cyan"),
            Span(escape_line(prepared.shown), "cyan", is_exact=True),
            Span("" if prepared.fault else words, "cyan"),
        )
        screen = self._state.screen
        self._state.show(*([line] if screen.is_spoken else fold(line, screen.width)))

    def ask(self, prepared: PreparedCall) -> Decision | None:
        """Ask until the answer is clear; at the end of the input nothing runs.

        Raises:
            KeyboardInterrupt: Ctrl+C was pressed.
        """
        state = self._state
        if prepared.has_changed:
            state.show(*state.wrapped(escape_line(changed_note(prepared)), "yellow", is_exact=True))
        state.show(*state.wrapped(CHOICES, "dim"))
        while True:
            try:
                with state.signals.calling_on_ctrl_c(state.reader.interrupt):
                    line = state.reader.ask(QUESTION)
            except EOFError:
                return Decision(False)
            try:
                decision = read_decision(line, prepared)
            except UsageError as error:
                state.show_error(error)
                continue
            if decision is not None:
                return decision
            state.report(HELP)

    def store_rule(self, rule: ToolRule) -> None:
        """Store a rule in the settings file; where that fails, it counts for this session."""
        state = self._state
        if state.config_file is None:
            return state.report("There is no settings file, so this counts for this session.")
        try:
            store_rule(rule, state.config_file)
        except ChatError as error:
            return state.show_error(error)
        words = f"Stored: {rule}. /tools forget {rule.of_any_version} removes it."
        return state.show(*state.wrapped(words, "dim", is_exact=True), ())

    def wait(self, names: Sequence[str]) -> bool:
        """Show what runs; Ctrl+C or a signal stops it."""
        state = self._state
        self._began_at = self._began_at or time.monotonic()
        seconds = time.monotonic() - self._began_at
        if seconds > PATIENCE_SECONDS:
            words = f"running {', '.join(names)} · {duration(int(seconds))} · Ctrl+C stops"
            state.screen.update((), [plain(words[: state.screen.width - 1], "dim")])
        return not (state.signals.presses or state.signals.ending_signal)

    def show_result(self, number: int, result: CallResult) -> None:
        """Show the beginning of a result."""
        state = self._state
        state.screen.update()
        head = [plain(f"result of {escape_line(result.call.name)}", "cyan")] if self._has_several else []
        state.show(*head, *folded_result(state, result.text), ())
