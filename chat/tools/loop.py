"""The calls of one answer: each is decided, those that may run do so side by side, and the calls are counted."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from chat.errors import ChatError
from chat.system.terminal_text import counted
from chat.tools.runner import DENIED, OVER_LIMIT, CallResult, PreparedCall, failed, prepare, refused, run_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chat.core.conversation import ToolCall
    from chat.tools.approval import Decision
    from chat.tools.rules import ToolRule, ToolRules, Verdict
    from chat.tools.tool import CallLimits
    from chat.tools.toolbox import Toolbox


class CallUi(Protocol):
    """Shows calls to the user, and asks about them."""

    def show_call(self, number: int, most: int, prepared: PreparedCall) -> None:
        """Show a call that the model makes.

        Args:
            number: of this call, counted from 1 for each question.
            most: how many calls there may be.
        """

    def ask(self, prepared: PreparedCall) -> Decision | None:
        """Ask whether a call runs; None where nobody can be asked.

        Raises:
            KeyboardInterrupt: the user stops everything.
        """

    def store_rule(self, rule: ToolRule) -> None:
        """Store a rule that counts for good."""

    def wait(self, names: Sequence[str]) -> bool:
        """Show that these functions still run; called again and again. False stops them."""

    def show_result(self, number: int, result: CallResult) -> None:
        """Show how a call ended."""


class CallLoop:
    """Runs calls, answer by answer, under rules that the user may add to.

    Attributes:
        toolbox: the functions.
        rules: in force.
        limits: of each call.
        most_calls: for one question.
        made: calls for this question so far.
    """

    def __init__(self, toolbox: Toolbox, rules: ToolRules, limits: CallLimits, most_calls: int) -> None:
        self.toolbox = toolbox
        self.rules = rules
        self.limits = limits
        self.most_calls = most_calls
        self.made = 0
        self._seen: dict[str, str] = {}  # the version of each function when a call of it ran last

    def begin_question(self) -> None:
        """Count the calls anew."""
        self.made = 0

    def exceeds(self, calls: Sequence[ToolCall]) -> bool:
        """Whether these calls would be more than there may be."""
        return self.made + len(calls) > self.most_calls

    def beside(self) -> CallLoop:
        """Another count of calls, for a question that is answered beside this one, of the same functions and rules."""
        return self.with_settings(self.rules, self.limits, self.most_calls)

    def with_settings(self, rules: ToolRules, limits: CallLimits, most_calls: int) -> CallLoop:
        """The same functions under other rules and limits."""
        other = CallLoop(self.toolbox, rules, limits, most_calls)
        other._seen = self._seen
        return other

    def has_by_hand(self, calls: Sequence[ToolCall]) -> bool:
        """Whether one is of a function that only the caller of this program can run."""
        return any(self.toolbox.is_described(call.name) for call in calls)

    def check_goes_on(self) -> None:
        """Refuse further calls where the model was told before that there are no more.

        Raises:
            ChatError: the limit was reached by an earlier answer.
        """
        if self.made > self.most_calls:
            limit = counted(self.most_calls, "call")
            raise ChatError(f"the model still calls functions after {limit}", hint="`--tool-steps` allows more")

    def run(
        self, calls: Sequence[ToolCall], ui: CallUi, keep: Callable[[Sequence[CallResult]], None] = lambda _: None
    ) -> tuple[CallResult, ...]:
        """Decide about each call, run those that may, and show how they end; those over the limit do not run.

        Args:
            calls: of one answer.
            ui: shows them.
            keep: stores the results before they are shown.

        Raises:
            KeyboardInterrupt: the user stops everything; no call has run, or those that ran are stopped.
        """
        results: dict[int, CallResult] = {}
        running: dict[int, PreparedCall] = {}
        numbers: list[int] = []
        for place, call in enumerate(calls):
            self.made += 1
            numbers.append(self.made)
            if self.made > self.most_calls:
                results[place] = CallResult(call, "refused", OVER_LIMIT.format(steps=self.most_calls))
                continue
            prepared = self._prepared(call)
            ui.show_call(self.made, self.most_calls, prepared)
            result = self._decided(prepared, ui.ask, ui.store_rule)
            if result is None:
                running[place] = prepared
                if prepared.tool is not None:
                    self._seen[prepared.tool.qualified_name] = prepared.tool.version
            else:
                results[place] = result
        results |= dict(zip(running, run_calls(tuple(running.values()), self.limits, ui.wait), strict=True))
        ordered = tuple(results[place] for place in range(len(calls)))
        keep(ordered)
        for number, result in zip(numbers, ordered, strict=True):
            ui.show_result(number, result)
        return ordered

    def _prepared(self, call: ToolCall) -> PreparedCall:
        """A call before it runs; a server that has changed a function since a call of it needs a new yes."""
        prepared = prepare(call, self.toolbox, self.rules)
        tool = prepared.tool
        if tool is None:
            return prepared
        if self._seen.get(tool.qualified_name, tool.version) == tool.version:
            return prepared
        verdict: Verdict = "ask" if prepared.verdict == "allow" else prepared.verdict
        return replace(prepared, verdict=verdict, has_changed=True)

    def _decided(
        self,
        prepared: PreparedCall,
        ask: Callable[[PreparedCall], Decision | None],
        store_rule: Callable[[ToolRule], None],
    ) -> CallResult | None:
        """The result of a call that does not run; None for one that does."""
        if prepared.fault:
            return failed(prepared.call, prepared.fault)
        if prepared.verdict == "deny":
            return CallResult(prepared.call, "refused", DENIED)
        if prepared.verdict == "allow":
            return None
        decision = ask(prepared)
        if decision is None:
            return CallResult(prepared.call, "refused", DENIED)
        if not decision.runs:
            return refused(prepared.call, decision.words)
        if decision.rule is not None:
            self.rules = self.rules.with_allowed(decision.rule)
            if decision.lasts == "always":
                store_rule(decision.rule)
        return None
