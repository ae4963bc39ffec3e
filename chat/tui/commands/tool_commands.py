"""`/tools`: the functions that the model may call, their rules, and the results of the last calls."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chat.config.conflicts import check_effect
from chat.config.settings_file import read_settings_file
from chat.errors import UsageError
from chat.rendering.styled_text import Line, Span, cut, plain
from chat.system.terminal_text import counted, escape_line
from chat.tui import exchange
from chat.tui.commands.option_changes import change_options

if TYPE_CHECKING:
    from chat.tools.rules import ToolRule, ToolRules
    from chat.tools.tool import RunnableTool
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
    check_effect(["run_tools"], state.settings)
    change_options(state, {"run_tools": True}, "/tools")
    _list(state)


def _switch_off(state: SessionState) -> None:
    change_options(state, {"run_tools": False}, "/tools")
    state.report(OFF)


def _list(state: SessionState) -> None:
    from chat.tools.toolbox import name_of
    from chat.tui.tool_calls import wait_for_functions

    loop = state.calls
    if loop is None:
        names = ", ".join(map(name_of, state.own_tools))
        return state.report(f"{OFF} The model may call {names}." if names else OFF)
    if not wait_for_functions(state):
        return state.report("Stopped.")
    found = loop.toolbox.tools()
    described = [name for name in map(name_of, loop.toolbox.schemas()) if name not in found]
    cells = max(map(len, (*found, *described)), default=0)
    for tool in found.values():
        place = f"{tool.source.name} · {_rule_words(loop.rules, tool)}"
        state.show(*_rows(state, tool.name.ljust(cells), place, tool.own.description))
    for name in described:
        state.show(*_rows(state, name.ljust(cells), "--tools · you answer, by /result", ""))
    state.show_notices()
    return state.report(f"At most {counted(loop.most_calls, 'call')} for one question.")


def _rule_words(rules: ToolRules, tool: RunnableTool) -> str:
    """What the rules say of a function."""
    denied = [rule for rule in rules.deny if rule.names(tool)]
    if not all(rule.patterns for rule in denied):
        return "never"
    allowed = [str(rule.of_any_version) for rule in rules.allow if rule.names(tool) and not rule.is_outdated(tool)]
    asks = "asks, as it has changed" if rules.are_outdated(tool) else "asks"
    return f"{', '.join(allowed) or asks}{''.join(f', never {rule}' for rule in denied)}"


def _rows(state: SessionState, name: str, place: str, description: str) -> list[Line]:
    """A function's name, source and rules, and as much of the description as fits into one line."""
    head, shown = f"{escape_line(name)}  ", escape_line(place)
    room = state.screen.width - 1 - len(head)
    if len(shown) > room:
        return state.wrapped(head + shown)
    first = next(iter(description.strip().splitlines()), "")
    return [(Span(head), Span(cut(f"{shown} · {escape_line(first)}" if first else shown, room), "dim"))]


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
        state.show(*state.wrapped(node.message.content or "(empty)", is_exact=True), ())


def _forget(state: SessionState, text: str) -> None:
    """Remove a rule, with its version or without, from this session and from the settings file."""
    from chat.config.allowed_rules import store_allowed
    from chat.tools.rules import read_rule, read_rules

    def is_meant(rule: ToolRule) -> bool:
        return text in (str(rule), str(rule.of_any_version))

    def kept_of(rules: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(rule for rule in rules if not is_meant(read_rule(rule, "allow")))

    file = state.config_file
    table = read_settings_file(file).tool_table() if file is not None else None
    stored = table.allow if table else ()
    own = state.calls.rules.allow if state.calls is not None else state.allowed
    known = [*read_rules(stored, "allow"), *own]
    if not any(map(is_meant, known)):
        rules = ", ".join(dict.fromkeys(map(str, known)))
        raise UsageError(f"no rule allows `{escape_line(text)}`", hint=f"rules: {rules}" if rules else "there are none")
    if file is not None and kept_of(stored) != stored:
        store_allowed(file, kept_of(stored))
    settings = state.settings  # else the rule would be back with the next change of an option
    table = settings.tool_table and replace(settings.tool_table, allow=kept_of(settings.tool_table.allow))
    settings = replace(settings, allow_tool=kept_of(settings.allow_tool), tool_table=table)
    state.resolved = replace(state.resolved, settings=settings)
    state.allowed = tuple(rule for rule in state.allowed if not is_meant(rule))
    if state.calls is not None:
        loop = state.calls
        loop.rules = replace(loop.rules, allow=tuple(rule for rule in loop.rules.allow if not is_meant(rule)))
    state.report(f"Forgotten: {text}.")
