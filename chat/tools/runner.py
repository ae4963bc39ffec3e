"""Run the functions that a model calls: decide about each call, and run those that may side by side."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from chat.core.conversation import Message
from chat.errors import fault_text
from chat.tools.tool import CallControl, CallLimits, ToolError, check_arguments, read_arguments, result_text, shown_call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chat.core.conversation import ToolCall
    from chat.tools.rules import ToolRules, Verdict
    from chat.tools.tool import RunnableTool
    from chat.tools.toolbox import Toolbox

POLL_SECONDS = 0.05
Outcome = Literal["done", "failed", "refused", "stopped"]
REFUSED = "The user refused this call. Do not make it again; continue without it, or ask."
DENIED = "The user's rules do not allow this call. Do not make it again; continue without it."
STOPPED = "The user stopped this call before it was done."
NOT_RUN = "The user stopped before this call was run."
OVER_LIMIT = "Not run: the limit of {steps} calls for one question is reached. Answer with what you know."


@dataclass(frozen=True)
class PreparedCall:
    """A call before it runs.

    Attributes:
        call: as the model wrote it.
        tool: the function; None if there is none of this name.
        arguments: parsed; empty where they cannot be.
        fault: why it cannot run; empty if it can.
        verdict: what the rules say.
        forbids: whether a rule denies the call with other arguments.
        has_changed: whether the function is another one than the user allowed, or than a call of it ran before.
    """

    call: ToolCall
    tool: RunnableTool | None = None
    arguments: Mapping[str, Any] | None = None
    fault: str = ""
    verdict: Verdict = "ask"
    forbids: Callable[[Mapping[str, Any]], bool] = lambda _: False
    has_changed: bool = False

    @property
    def shown(self) -> str:
        """The call as the user reads it, with the function's source."""
        name = self.call.name if self.tool is None else self.tool.qualified_name
        return shown_call(name, self.call.arguments if self.arguments is None else self.arguments)


@dataclass(frozen=True)
class CallResult:
    """How a call ended.

    Attributes:
        text: what the model is told.
        seconds: how long it ran.
    """

    call: ToolCall
    outcome: Outcome
    text: str
    seconds: float = 0.0

    def message(self) -> Message:
        """The result as the conversation has it."""
        return Message("tool", self.text, tool_call_id=self.call.id, name=self.call.name)


def prepare(call: ToolCall, toolbox: Toolbox, rules: ToolRules) -> PreparedCall:
    """Find the function of a call, check its arguments, and ask the rules."""
    tool = toolbox.tools().get(call.name)
    if tool is None:
        names = ", ".join(toolbox.tools())
        return PreparedCall(call, fault=f"there is no function {call.name}; functions: {names or 'none'}")
    arguments = None
    try:
        arguments = read_arguments(call.arguments)
        check_arguments(arguments, tool.own.parameters)
    except ToolError as error:
        return PreparedCall(call, tool, arguments, fault=str(error))
    return PreparedCall(
        call,
        tool,
        arguments,
        verdict=rules.verdict(tool, arguments),
        forbids=partial(rules.forbids, tool),
        has_changed=rules.are_outdated(tool),
    )


def failed(call: ToolCall, sentence: str) -> CallResult:
    """The result of a call that could not run."""
    return CallResult(call, "failed", f"error: {sentence}")


def refused(call: ToolCall, words: str = "") -> CallResult:
    """The result of a call that the user refused, maybe with what the model should do instead."""
    return CallResult(call, "refused", f"The user did not run this call, and says: {words}" if words else REFUSED)


def not_run(call: ToolCall) -> CallResult:
    """The result of a call that the user left for another message."""
    return CallResult(call, "refused", NOT_RUN)


def run_calls(
    calls: Sequence[PreparedCall], limits: CallLimits, wait: Callable[[Sequence[str]], bool]
) -> tuple[CallResult, ...]:
    """Run calls side by side.

    Args:
        calls: that may run, each with its function.
        limits: of each.
        wait: gets the names of the functions that run, again and again; False stops the calls. If it raises, they
            are stopped, too.

    Returns:
        The results in the order of the calls.
    """
    stopped = threading.Event()
    results: dict[int, CallResult] = {}

    def run(number: int, prepared: PreparedCall) -> None:
        results[number] = _run(prepared, CallControl(limits, stopped, prepared.forbids))

    threads = [
        threading.Thread(target=run, args=(number, each), daemon=True, name=each.call.name)
        for number, each in enumerate(calls)
    ]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    try:
        while (alive := [thread for thread in threads if thread.is_alive()]) and wait([each.name for each in alive]):
            alive[0].join(POLL_SECONDS)
    finally:
        stopped.set()
    for thread in threads:
        thread.join(2.0)
    seconds = time.monotonic() - began
    late = [CallResult(each.call, "stopped", STOPPED, seconds) for each in calls]
    return tuple(results.get(number, late[number]) for number in range(len(calls)))


def _run(prepared: PreparedCall, control: CallControl) -> CallResult:
    assert prepared.tool is not None and prepared.arguments is not None
    tool, began = prepared.tool, time.monotonic()
    try:
        text = tool.source.call(tool.own.name, prepared.arguments, control)
        result = CallResult(prepared.call, "done", result_text(text, control.limits.characters))
    except ToolError as error:
        sentence = result_text(str(error), control.limits.characters)
        is_stopped = control.stopped.is_set()
        result = CallResult(prepared.call, "stopped", STOPPED) if is_stopped else failed(prepared.call, sentence)
    except Exception as error:  # of one function: the others and the answer go on
        result = failed(prepared.call, result_text(fault_text(error), control.limits.characters))
    return replace(result, seconds=time.monotonic() - began)
