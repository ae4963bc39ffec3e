"""Open the functions that the model may call in a session, and put others in their place while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat.app.request_builder import read_tools

if TYPE_CHECKING:
    from collections.abc import Collection

    from chat.app.request_builder import Tool
    from chat.config.options import Settings
    from chat.tools.loop import CallLoop
    from chat.tui.state import SessionState

OF_SOURCES = ("run_tools", "tools", "mcp_config")
OF_RULES = ("allow_tool", "deny_tool")
OF_LIMITS = ("tool_steps", "tool_timeout", "tool_output")
OF_FUNCTIONS = (*OF_SOURCES, *OF_RULES, *OF_LIMITS)


@dataclass(frozen=True)
class Functions:
    """What the model may call.

    Attributes:
        calls: runs functions; None where that is not wanted. Its sources are not started yet.
        own_tools: the functions of `--tools` then.
    """

    calls: CallLoop | None
    own_tools: tuple[Tool, ...] = ()


def functions_of(settings: Settings) -> Functions:
    """The functions that settings name.

    Raises:
        ChatError: a source of functions, or a rule, cannot be used as it is written.
    """
    if not settings.run_tools:
        return Functions(None, tuple(read_tools(settings)))
    from chat.app.tool_runs import call_loop

    return Functions(call_loop(settings))


def prepared_change(state: SessionState, settings: Settings, names: Collection[str]) -> Functions | None:
    """The functions after a change of options; None if the change is not about them.

    Args:
        settings: the new ones.
        names: of the options that change.

    Raises:
        ChatError: a source of functions, or a rule, cannot be used as it is written; nothing has changed.
    """
    if not set(OF_RULES).isdisjoint(names):
        from chat.tools.sources import rules_of

        rules_of(settings)  # also while no functions are run, so that a wrong rule is told now
    if not set(OF_SOURCES).isdisjoint(names):
        return functions_of(settings)
    loop = state.calls
    if loop is None or set(OF_FUNCTIONS).isdisjoint(names):
        return None
    from chat.tools.sources import limits_of, rules_of

    return Functions(loop.with_settings(rules_of(settings), limits_of(settings), settings.tool_steps))


def put_in_force(state: SessionState, functions: Functions, before: Settings) -> None:
    """Run other functions from now on; what the user allowed in this session stays allowed.

    Args:
        before: the settings of the functions so far.
    """
    old, new = state.calls, functions.calls
    state.calls, state.own_tools = new, functions.own_tools
    if old is not None:
        from chat.tools.sources import rules_of

        stored = rules_of(before).allow
        state.allowed = tuple(rule for rule in old.rules.allow if rule not in stored)
    if new is not None:
        for rule in state.allowed:
            new.rules = new.rules.with_allowed(rule)
    if old is not None and (new is None or new.toolbox is not old.toolbox):
        old.toolbox.close()
    if new is not None and (old is None or new.toolbox is not old.toolbox):
        new.toolbox.start()
