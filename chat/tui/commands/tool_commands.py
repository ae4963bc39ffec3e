"""`/tools`: the functions that the model may call, their rules, and the results of the last calls."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chat.app.request_builder import read_tools
from chat.config.settings_file import read_settings_file
from chat.errors import UsageError
from chat.rendering.styled_text import Line, Span, cut, plain
from chat.system.terminal_text import counted, escape_line
from chat.tui import exchange

if TYPE_CHECKING:
    from chat.tools.rules import ToolRule
    from chat.tui.state import SessionState

WORDS = ("on", "off", "last", "again")
USAGE = f"{'|'.join(WORDS)}|forget RULE"
OFF = "Functions are not run here. /tools on runs them, each after a yes."


def tools(state: SessionState, argument: str) -> None:
    """`/tools [on|off|last|again|forget RULE]`

    Raises:
        UsageError: the argument is another word, or there is no such rule or result.
        ChatError: a source of functions cannot be used, or the settings file cannot be changed.
    """
    word, _, rest = argument.strip().partition(" ")
    if word == "forget" and rest.strip():
        return _forget(state, rest.strip())
    actions = {"": _list, "on": _switch_on, "off": _switch_off, "last": _show_last, "again": exchange.run_calls_again}
    if word not in actions or rest:
        raise UsageError(f"`/tools` does not take `{escape_line(argument.strip())}`", hint=f"use {USAGE}")
    return actions[word](state)


def _switch_on(state: SessionState) -> None:
    from chat.app.tool_runs import call_loop

    if state.calls is None:
        settings = replace(state.settings, run_tools=True)
        loop = call_loop(settings)
        loop.toolbox.start()
        state.calls = loop
        state.change_settings("/tools", run_tools=True)
    _list(state)


def _switch_off(state: SessionState) -> None:
    if state.calls is not None:
        state.calls.toolbox.close()
        state.calls = None
        state.own_tools = read_tools(state.settings)
        state.change_settings("/tools", run_tools=False)
    state.report(OFF)


def _list(state: SessionState) -> None:
    loop = state.calls
    if loop is None:
        names = ", ".join(str(tool.get("function", tool).get("name")) for tool in state.own_tools)
        return state.report(f"{OFF} The model may call {names}." if names else OFF)
    from chat.tui.tool_calls import wait_for_functions

    if not wait_for_functions(state):
        return state.report("Stopped.")
    found = loop.toolbox.tools()
    cells = max(map(len, found), default=0)
    for tool in found.values():
        rules = [rule for rule in loop.rules.allow if rule.names(tool) and not rule.is_outdated(tool)]
        is_denied = any(rule.names(tool) and not rule.patterns for rule in loop.rules.deny)
        words = "never" if is_denied else ", ".join(str(rule.of_any_version) for rule in rules) if rules else "asks"
        if loop.rules.are_outdated(tool) and not (is_denied or rules):
            words = "asks, as it has changed"
        state.show(_row(state, tool.name.ljust(cells), tool.source.name, words, tool.own.description))
    described = len(loop.toolbox.schemas()) - len(found)
    more = f" {counted(described, 'more function')} only you can answer, by /result." if described else ""
    state.show_notices()
    return state.report(f"At most {counted(loop.most_calls, 'call')} for one question.{more}")


def _row(state: SessionState, name: str, source: str, words: str, description: str) -> Line:
    first = description.strip().splitlines()[0] if description.strip() else ""
    room = state.screen.width - len(name) - 1
    shown = cut(escape_line(f"  {source} · {words}" + (f" · {first}" if first else "")), max(1, room))
    return (Span(escape_line(name)), Span(f"  {shown}"[: max(1, room)], "dim"))


def _show_last(state: SessionState) -> None:
    """Show the results of the last answer's calls whole."""
    path = state.session.conversation.path()
    last = next((number for number in range(len(path), 0, -1) if path[number - 1].message.role == "tool"), 0)
    if not last:
        raise UsageError("there is no result of a function here")
    first = last
    while first and path[first - 1].message.role == "tool":
        first -= 1
    for node in path[first:last]:
        state.show(plain(f"result of {escape_line(node.message.name or 'a function')}", "cyan"))
        state.show(*state.wrapped(node.message.content or "(empty)"), ())


def _forget(state: SessionState, text: str) -> None:
    """Remove a rule, with its version or without, from this session and from the settings file."""
    from chat.config.allowed_rules import store_allowed
    from chat.tools.rules import read_rule, read_rules

    def is_meant(rule: ToolRule) -> bool:
        return text in (str(rule), str(rule.of_any_version))

    file = state.config_file
    table = read_settings_file(file).tool_table() if file is not None else None
    stored = table.allow if table else ()
    own = state.calls.rules.allow if state.calls is not None else ()
    known = [*read_rules(stored, "allow"), *own]
    if not any(map(is_meant, known)):
        rules = ", ".join(dict.fromkeys(map(str, known)))
        raise UsageError(f"no rule allows `{escape_line(text)}`", hint=f"rules: {rules}" if rules else "there are none")
    kept = tuple(rule for rule in stored if not is_meant(read_rule(rule, "allow")))
    if file is not None and kept != stored:
        store_allowed(file, kept)
    if state.calls is not None:
        loop = state.calls
        loop.rules = replace(loop.rules, allow=tuple(rule for rule in loop.rules.allow if not is_meant(rule)))
    state.report(f"Forgotten: {text}.")
