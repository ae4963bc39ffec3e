"""Names of functions, decisions about calls, and calls that run side by side."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from chat.core.conversation import Message, ToolCall
from chat.errors import EngineError
from chat.tools.built_in import BuiltInTools
from chat.tools.rules import ToolRules, read_rules
from chat.tools.runner import STOPPED, prepare, refused, run_calls
from chat.tools.tool import CallControl, CallLimits, ToolError
from chat.tools.toolbox import Toolbox
from tests.chat.tools.fake_source import FakeSource


def said(text: str) -> Any:
    return lambda arguments, control: text


def until_done(threads: Sequence[threading.Thread]) -> bool:
    threads[0].join(0.01)
    return True


def test_names_are_unique_and_what_all_servers_allow() -> None:
    """A server's function never takes the name of a built-in one; both of two equal names get their server's."""
    first = FakeSource("a.b", read_file=said(""), search=said(""), time__now=said(""), **{"x" * 70: said("")})
    second = FakeSource("c", search=said(""), a_b_search=said(""))
    toolbox = Toolbox([BuiltInTools(), first, second])
    names = {name: tool.qualified_name for name, tool in toolbox.tools().items()}
    assert list(names)[5:] == [
        *("a_b_read_file", "a_b_search", "time_now", "x" * 64, "c_search", "a_b_search_2"),
    ]
    assert names["read_file"] == "read_file"
    assert names["a_b_read_file"] == "a.b/read_file"
    assert names["a_b_search_2"] == "c/a_b_search"
    assert toolbox.schemas()[-1]["function"] == {
        "name": "a_b_search_2", "description": "Do a_b_search.", "parameters": {"type": "object", "properties": {}},
    }  # fmt: skip


def test_a_source_that_cannot_be_used_is_left_out_and_told() -> None:
    broken = FakeSource("broken", fault=EngineError("`broken` cannot be used: it is"))
    described = {"type": "function", "function": {"name": "mine"}}
    toolbox = Toolbox([broken, FakeSource("fine", f=said(""))], [described])
    assert [each["function"]["name"] for each in toolbox.schemas()] == ["f", "mine"]
    assert toolbox.take_notices() == ["`broken` cannot be used: it is; its functions are not on offer"]
    assert toolbox.take_notices() == []
    assert broken.is_closed
    assert toolbox.is_described("mine") and not toolbox.is_described("f") and not toolbox.is_described("other")


def test_each_call_is_decided_by_its_name_its_arguments_and_the_rules() -> None:
    toolbox = Toolbox([BuiltInTools()])
    rules = ToolRules(read_rules(["calculate"], ""), read_rules(["list_files"], ""))
    calls = [
        ToolCall("calculate", '{"expression": "1"}'),
        ToolCall("list_files", ""),
        ToolCall("current_date", "{}"),
        ToolCall("calculate", '{"expression": '),
        ToolCall("calculate", "[1]"),
        ToolCall("calculate", '{"expr": "1"}'),
        ToolCall("delete_files", "{}"),
    ]
    prepared = [prepare(call, toolbox, rules) for call in calls]
    assert [(each.verdict, each.fault) for each in prepared] == [
        ("allow", ""),
        ("deny", ""),
        ("ask", ""),
        ("ask", "the arguments are not JSON"),
        ("ask", "the arguments are not a JSON object"),
        ("ask", "the argument `expression` is missing"),
        (
            "ask",
            "there is no function delete_files; "
            "functions: read_file, list_files, search_files, calculate, current_date",
        ),
    ]
    assert [each.shown for each in prepared[:4]] == [
        'calculate(expression="1")', "list_files()", "current_date()", 'calculate({"expression": )',
    ]  # fmt: skip


def test_calls_run_side_by_side_and_their_results_keep_the_order() -> None:
    """Each waits for the other, so one after the other would never end."""
    both = threading.Barrier(2, timeout=30)

    def meet(arguments: Mapping[str, Any], control: CallControl) -> str:
        both.wait()
        return str(arguments["n"])

    def fails(arguments: Mapping[str, Any], control: CallControl) -> str:
        raise ToolError("no such city")

    toolbox = Toolbox([FakeSource("x", meet=meet, fails=fails, breaks=lambda *_: str(1 // 0), long=said("y" * 999))])
    calls = [ToolCall("meet", '{"n": 1}', "a"), ToolCall("fails", "{}", "b"), ToolCall("meet", '{"n": 2}', "c"),
             ToolCall("breaks", "{}", "d"), ToolCall("long", "{}", "e")]  # fmt: skip
    prepared = [prepare(call, toolbox, ToolRules()) for call in calls]
    results = run_calls(prepared, CallLimits(9, 100), until_done)
    assert [(each.outcome, each.text) for each in results] == [
        ("done", "1"),
        ("failed", "error: no such city"),
        ("done", "2"),
        ("failed", "error: ZeroDivisionError: integer division or modulo by zero"),
        ("done", "y" * 100 + "\n[cut after 100 of 999 characters; ask for less]"),
    ]
    assert results[0].message() == Message("tool", "1", tool_call_id="a", name="meet")


def test_calls_that_are_stopped_tell_so_and_the_finished_ones_keep_their_results() -> None:
    def waits(arguments: Mapping[str, Any], control: CallControl) -> str:
        assert control.stopped.wait(30)
        raise ToolError("stopped")

    toolbox = Toolbox([FakeSource("x", waits=waits, quick=said("here"))])
    prepared = [prepare(ToolCall(name, "{}"), toolbox, ToolRules()) for name in ("waits", "quick")]

    def stop_after_quick(names: Sequence[str]) -> bool:
        return "quick" in names

    results = run_calls(prepared, CallLimits(), stop_after_quick)
    assert [(each.outcome, each.text) for each in results] == [("stopped", STOPPED), ("done", "here")]


def test_a_refused_call_tells_the_model_what_to_do_instead() -> None:
    assert refused(ToolCall("f", "")).text == (
        "The user refused this call. Do not make it again; continue without it, or ask."
    )
    assert refused(ToolCall("f", ""), "use g").text == "The user did not run this call, and says: use g"


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ('{"a": ' + "[" * 500 + "]" * 500 + "}", "the arguments are nested more than 100 levels deep"),
        ('{"a": ' + "[" * 99 + "]" * 99 + "}", ""),
        ('{"a": ' + "[" * 99999 + "]" * 99999 + "}", "the arguments are not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "the arguments are not JSON"),
        ('{"a": NaN}', "the arguments are not JSON"),
        ('{"a": -1e999}', "the arguments are not JSON"),
        ('{"a": 1}{"b": 2}', "the arguments are not JSON"),
        ("[1]", "the arguments are not a JSON object"),
        ('{"\\ud800": "\\udfff"}', ""),
    ],
)
def test_arguments_that_nothing_can_hold_are_faults(arguments: str, fault: str) -> None:
    """Lists in lists near the limit of the parser were read, and ended the session where they were written again."""
    toolbox = Toolbox([FakeSource("x", look=lambda *_: "blue")])
    prepared = prepare(ToolCall("look", arguments, "abcdefghi"), toolbox, ToolRules())
    assert prepared.fault == fault and prepared.shown.startswith(("x/look(", "look("))
