"""What runs the calls of a one-shot run or a session; a one-shot run shows them on stderr, and asks on a terminal."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from chat.config.allowed_rules import store_allowed
from chat.config.settings_file import read_settings_file
from chat.errors import ChatError, UsageError
from chat.rendering.spoken import in_words
from chat.rendering.status_text import duration
from chat.rendering.wait_indicator import PATIENCE_SECONDS
from chat.system.terminal_text import counted
from chat.tools.approval import CHOICES, HELP, Decision, changed_note, read_decision
from chat.tools.loop import CallLoop
from chat.tools.rules import read_rule
from chat.tools.sources import limits_of, rules_of, toolbox_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from chat.app.answer_output import AnswerOutput
    from chat.config.options import Settings
    from chat.tools.rules import ToolRule
    from chat.tools.runner import CallResult, PreparedCall
    from chat.tools.toolbox import Toolbox

POLL_SECONDS = 0.05


def call_loop(settings: Settings) -> CallLoop:
    """What runs the calls of a one-shot run or a session; its functions are not started yet.

    Raises:
        ChatError: a source of functions, or a rule, cannot be used as it is written.
    """
    rules = rules_of(settings)
    return CallLoop(toolbox_of(settings, runs=True), rules, limits_of(settings), settings.tool_steps)


def note_start(toolbox: Toolbox, output: AnswerOutput) -> None:
    """Say on a terminal which sources of functions the program waits for, if that takes long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not toolbox.is_ready and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    starting = toolbox.starting
    if starting and output.environment.stderr.isatty():
        output.note(f"starting the functions of {', '.join(starting)}")


def store_rule(rule: ToolRule, config_file: Path) -> None:
    """Add a rule to those that the settings file allows, in place of one for another version of its function.

    Raises:
        ChatError: the file cannot be read or written.
    """
    table = read_settings_file(config_file).tool_table()
    stored = table.allow if table else ()
    if str(rule) not in stored:
        others = [text for text in stored if read_rule(text, "allow").of_any_version != rule.of_any_version]
        store_allowed(config_file, (*others, str(rule)))


def not_run_note(prepared: PreparedCall, unasked: str = "there is no terminal to ask on") -> str:
    """Why a call did not run that nobody was asked about, and what allows it.

    Args:
        unasked: why nobody was asked.
    """
    name = prepared.tool.qualified_name if prepared.tool else prepared.call.name
    reason = "it has changed since it was allowed" if prepared.has_changed else unasked
    return f"{name} was not run, as {reason}; `--allow-tool {name}` allows it"


class OneShotCalls:
    """One line on stderr for each call; on a terminal one at its begin and one at its end, and a question between."""

    def __init__(self, output: AnswerOutput) -> None:
        self._output = output
        self._environment = output.environment
        self._shown: dict[int, str] = {}
        self._is_terminal = self._environment.stderr.isatty()
        self._is_spoken = self._environment.is_spoken(self._environment.stderr)
        self._can_ask = self._environment.stdin.isatty() and self._environment.stderr.isatty()

    def show_call(self, number: int, most: int, prepared: PreparedCall) -> None:
        """Show the call on a terminal; in a pipe its line comes with its end."""
        self._shown[number] = f"tool call {number} of at most {most}: {prepared.shown}"
        is_asked = self._can_ask and prepared.verdict == "ask" and not prepared.fault
        if self._is_terminal and (is_asked or not self._output.settings.quiet):
            self._environment.notify(self._shown[number])

    def ask(self, prepared: PreparedCall) -> Decision | None:
        """Ask on stderr; without a terminal nothing runs that no rule allows."""
        if not self._can_ask:
            self._output.note(not_run_note(prepared))
            return None
        self._environment.drop_typed_ahead()
        if prepared.has_changed:
            self._environment.notify(changed_note(prepared))
        while True:
            self._environment.notify(in_words(CHOICES) if self._is_spoken else CHOICES)
            print("Run it? ", end="", file=self._environment.stderr, flush=True)
            line = self._environment.stdin.readline()
            if not line:
                return Decision(False)
            try:
                decision = read_decision(line, prepared)
            except UsageError as error:
                self._environment.report(error)
                continue
            if decision is not None:
                return decision
            self._environment.notify(HELP)

    def store_rule(self, rule: ToolRule) -> None:
        """Store a rule in the settings file; where that fails, it counts for this run."""
        try:
            store_rule(rule, self._environment.config_file)
        except ChatError as error:
            self._environment.report(error)
        else:
            self._output.note(f"`{rule}` is in the settings file now, under [tools] allow")

    def wait(self, names: Sequence[str]) -> bool:
        """Wait on; Ctrl+C ends the program, and the calls with it."""
        return True

    def show_result(self, number: int, result: CallResult) -> None:
        """One line with the call, its outcome, the size of its result and its time."""
        size = counted(len(result.text.splitlines()), "line") if result.outcome == "done" else result.text[:200]
        call = self._shown.get(number, result.call.name)
        words = [result.call.name if self._is_terminal else call, result.outcome, size]
        words += [duration(result.seconds)] if result.seconds >= 0.1 else []
        if not self._output.settings.quiet:
            self._environment.notify((", " if self._is_spoken else " · ").join(words))


def results_report(results: Sequence[CallResult]) -> list[dict[str, Any]]:
    """The calls of a run and their results, as `--json` has them."""
    return [
        {
            "name": result.call.name,
            "arguments": _plain(result.call.arguments),
            "id": result.call.id,
            "outcome": result.outcome,
            "result": result.text,
            "seconds": round(result.seconds, 3),
        }
        for result in results
    ]


def _plain(arguments: str) -> Any:
    """Arguments as values; as the model wrote them where they are no JSON."""
    try:
        return json.loads(arguments) if arguments else {}
    except (ValueError, RecursionError):
        return arguments
