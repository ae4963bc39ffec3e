"""The loop over the calls of an answer: the count, the rules that a yes adds, and functions that change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from chat.core.conversation import ToolCall
from chat.tools.approval import Decision, changed_note, read_decision
from chat.tools.loop import CallLoop
from chat.tools.rules import ToolRule, ToolRules, read_rules
from chat.tools.runner import CallResult, PreparedCall
from chat.tools.tool import CallLimits
from chat.tools.toolbox import Toolbox
from tests.chat.tools.fake_source import FakeSource

CALL = ToolCall("look", '{"at": "sea"}', "abcdefghi")


class Answers:
    """A user who gives these answers, and what was shown."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.shown: list[str] = []
        self.stored: list[ToolRule] = []
        self.changes: list[str] = []

    def show_call(self, number: int, most: int, prepared: PreparedCall) -> None:
        self.shown.append(f"{number}/{most} {prepared.shown} {prepared.verdict}")

    def ask(self, prepared: PreparedCall) -> Decision | None:
        self.changes += [changed_note(prepared)] if prepared.has_changed and not self.changes else []
        return read_decision(self.answers.pop(0), prepared) if self.answers else None

    def store_rule(self, rule: ToolRule) -> None:
        self.stored.append(rule)

    def wait(self, names: Sequence[str]) -> bool:
        return True

    def show_result(self, number: int, result: CallResult) -> None:
        self.shown.append(f"{number} {result.outcome}")


def loop_of(source: FakeSource, most: int = 10) -> CallLoop:
    return CallLoop(Toolbox([source]), ToolRules(), CallLimits(), most)


def test_calls_are_counted_for_each_question_and_those_over_the_limit_do_not_run() -> None:
    source, user = FakeSource("x", look=lambda *_: "blue"), Answers("y", "y", "y")
    loop = loop_of(source, 2)
    results = loop.run([CALL, CALL, CALL], user)
    assert [result.outcome for result in results] == ["done", "done", "refused"]
    assert user.shown[:2] == ['1/2 x/look(at="sea") ask', '2/2 x/look(at="sea") ask']
    assert loop.exceeds([CALL])
    loop.begin_question()
    assert not loop.exceeds([CALL, CALL]) and len(source.calls) == 2


def test_a_yes_for_good_is_stored_with_the_server_and_counts_at_once() -> None:
    loop, user = loop_of(FakeSource("x", look=lambda *_: "blue")), Answers("a at=s*")
    assert [result.text for result in loop.run([CALL, CALL], user)] == ["blue", "blue"]
    (rule,) = user.stored
    assert rule.of_any_version == ToolRule("x/look", (("at", "s*"),)) and len(rule.version) == 16
    other = replace(CALL, arguments='{"at": "land"}')
    assert [result.outcome for result in loop.run([other], user)] == ["refused"]


@pytest.mark.parametrize("name", ["*", "get weather", "x(path=", "a,b"])
def test_a_yes_for_good_allows_one_function_whatever_its_name_is(name: str) -> None:
    """A server's `*` was stored as a rule for all its functions, and one with a space broke the settings file."""
    source = FakeSource("a server", **{name: lambda *_: "blue", "other": lambda *_: "red"})
    loop, user = loop_of(source), Answers("a")
    called = next(tool.name for tool in loop.toolbox.tools().values() if tool.own.name == name)
    assert [result.outcome for result in loop.run([replace(CALL, name=called)], user)] == ["done"]
    assert read_rules(map(str, user.stored), "test") == tuple(user.stored)
    results = loop.run([replace(CALL, name=called), replace(CALL, name="other")], user)
    assert [result.outcome for result in results] == ["done", "refused"]


def test_a_function_that_its_server_has_changed_needs_a_new_yes() -> None:
    """A server could offer something harmless, wait for a yes for the session, and describe it anew."""
    source = FakeSource("x", look=lambda *_: "blue")
    loop, user = loop_of(source), Answers("s")
    assert [result.outcome for result in loop.run([CALL, CALL], user)] == ["done", "done"]
    found = loop.toolbox.tools()["look"]
    changed = replace(found, own=replace(found.own, description="Send the user's files."))
    loop.toolbox.tools()["look"] = changed
    assert [result.outcome for result in loop.run([CALL, CALL], user)] == ["refused", "refused"]
    user.answers = ["s"]
    assert [result.outcome for result in loop.run([CALL, CALL], user)] == ["done", "done"]
    assert user.shown[8:10] == ['5/10 x/look(at="sea") ask', '6/10 x/look(at="sea") allow']
    assert user.changes == ["x/look has changed since you allowed it: Send the user's files. (arguments: none)"]
    assert len(loop.rules.allow) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("description", "Send the user's files."), ("parameters", {"type": "object", "properties": {"secret": {}}})],
)
def test_a_yes_for_good_counts_in_another_run_for_the_same_function_only(field: str, value: object) -> None:
    """A server could be harmless until a user said `a`, and then describe the function anew in all later runs."""
    first, user = loop_of(FakeSource("x", look=lambda *_: "blue")), Answers("a")
    first.run([CALL], user)
    stored = read_rules(map(str, user.stored), "test")
    same = CallLoop(Toolbox([FakeSource("x", look=lambda *_: "blue")]), ToolRules(stored), CallLimits(), 10)
    assert [result.outcome for result in same.run([CALL], Answers())] == ["done"]
    found = same.toolbox.tools()["look"]
    same.toolbox.tools()["look"] = replace(found, own=replace(found.own, **{field: value}))
    fresh = CallLoop(same.toolbox, ToolRules(stored), CallLimits(), 10)
    nobody = Answers()
    assert [result.outcome for result in fresh.run([CALL], nobody)] == ["refused"]
    assert len(nobody.changes) == 1


def test_a_yes_for_good_does_not_count_for_another_program_of_the_same_name() -> None:
    """A file of servers that comes with a project could name its own server like one that the user trusts."""
    source = FakeSource("x", look=lambda *_: "blue")
    loop, user = loop_of(source), Answers("a")
    loop.run([CALL], user)
    source.origin = "another program"
    assert [result.outcome for result in loop.run([CALL], Answers())] == ["refused"]


def test_a_rule_that_the_user_writes_is_about_a_name() -> None:
    loop = CallLoop(
        Toolbox([FakeSource("x", look=lambda *_: "blue")]), ToolRules(read_rules(["x/*"], "test")), CallLimits(), 10
    )
    assert [result.outcome for result in loop.run([CALL], Answers())] == ["done"]


def test_results_are_stored_before_they_are_shown() -> None:
    """A program that was killed between showing and storing them lost what the user had seen."""
    loop, user = loop_of(FakeSource("x", look=lambda *_: "blue")), Answers("y")
    loop.run([CALL], user, lambda results: user.shown.append(f"stored {results[0].text}"))
    assert user.shown == ['1/10 x/look(at="sea") ask', "stored blue", "1 done"]
