"""The options that a session can change: find the one that the user means, read its value, and say it in a hint."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any

from chat.config.option_types import checked, option_specs
from chat.config.options import Group
from chat.errors import UsageError
from chat.system.terminal_text import escape_line
from chat.tui.commands.lookup import unquoted

if TYPE_CHECKING:
    from chat.config.option_types import OptionSpec

LOADING_GROUPS = (Group.MODEL, Group.ENGINE)  # their options take effect when the model is loaded
FIXED = ("parallel",)
_FLAG = re.compile(r"(leave out |add )?((?:a )?(?:smaller|larger|fewer) )?`(--?[a-z][a-z-]*)( [^`]+)?`")


def changeable_options() -> dict[str, OptionSpec]:
    """The options that a session may change, by their names."""
    return {name: spec for name, spec in option_specs().items()
            if name not in FIXED and (spec.option.live or spec.option.group in LOADING_GROUPS)}  # fmt: skip


def find_option(name: str) -> OptionSpec:
    """The option with this name or flag, written with dashes or underscores.

    Raises:
        UsageError: there is none; the hint names the nearest.
    """
    found = _named(name)
    if found is None:
        near = get_close_matches(_normalized(name), changeable_options(), n=1)
        raise UsageError(
            f"there is no option `{escape_line(name)}`", hint=f"did you mean `{near[0]}`?" if near else None
        )
    return found


def parse_value(spec: OptionSpec, text: str) -> Any:
    """A value as the user types it: `default` is the default, and quotes keep spaces.

    Raises:
        UsageError: the option does not allow it.
    """
    if text == "default":
        return spec.default
    return checked(spec, unquoted(text))


def think_words() -> tuple[str, ...]:
    """The words that `/think` takes, `limit` with a number after it."""
    return ("show", *option_specs()["think"].choices, "limit")


def session_hint(hint: str) -> str:
    """A hint for a session: what it says of the flags of a shell, said of `/model` and `/set`."""
    return _FLAG.sub(_as_command, hint)


def _as_command(found: re.Match[str]) -> str:
    verb, amount, flag, value = (each or "" for each in found.groups())
    spec = _named(flag)
    if spec is None or spec.name not in changeable_options():
        return found[0]
    if spec.name == "model":
        return f"{amount}`/model{value}`"
    name = spec.name.replace("_", "-")  # as they are listed
    if verb == "leave out ":
        return f"use `/set {name} default`"
    if amount:
        return f"{amount}{name} (`/set {name} N`)"
    if spec.kind is bool and not value:
        value = " off" if flag.startswith("--no-") else " on"
    return f"{verb and 'use '}`/set {name}{value}`"


def _normalized(name: str) -> str:
    return name.lstrip("-").replace("-", "_").lower()


def _named(name: str) -> OptionSpec | None:
    """The option with this name or flag; None if there is none."""
    return option_specs().get(_normalized(name)) or _specs_by_flag().get(_normalized(name))


@cache
def _specs_by_flag() -> dict[str, OptionSpec]:
    return {
        _normalized(flag): spec
        for spec in option_specs().values()
        for flags in spec.option.flags
        for flag in flags.split("/")
    }
