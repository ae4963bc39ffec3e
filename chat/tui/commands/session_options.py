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
from chat.tui.functions import OF_FUNCTIONS

if TYPE_CHECKING:
    from chat.config.option_types import OptionSpec

LOADING_GROUPS = (Group.MODEL, Group.ENGINE)  # their options take effect when the model is loaded
FIXED = ("parallel",)
_FLAG = re.compile(r"(leave out |add |use )?((?:a )?(?:smaller|larger|fewer) )?`(--?[a-z][a-z-]*)( [^`]+)?`")
_BARE_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]")
_COMMANDS = {"model": "/model", "remote_model": "/model", "think": "/think", "think_limit": "/think limit"}


def changeable_options() -> dict[str, OptionSpec]:
    """The options that a session may change, by their names."""
    return {name: spec for name, spec in option_specs().items()
            if name not in FIXED
            and (spec.option.live or spec.option.group in LOADING_GROUPS or name in OF_FUNCTIONS)}  # fmt: skip


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
    hint = hint.replace("leave out `--tools` and `--run-tools`", "`/tools off` leaves them out")
    return _FLAG.sub(_as_command, hint).replace("`mistral-chat models list`", "`/model`")


def session_sentence(sentence: str) -> str:
    """A note or an error for a session: `--context 99` is `/set context 99` there, and `--context` is `context`.

    Commands of a shell, such as `mistral-chat convert FILE --window 4096`, stay as they are.
    """
    parts = sentence.split("`")
    for number, part in enumerate(parts):
        if number % 2 == 0:
            parts[number] = _BARE_FLAG.sub(lambda found: _as_name(found[0], "`"), part)
        elif part.startswith("-"):
            is_command = " " in part or part.startswith("--no-")
            parts[number] = session_hint(f"`{part}`").strip("`") if is_command else _as_name(part)
    return "`".join(parts)


def _as_name(flag: str, quote: str = "") -> str:
    """An option's name in a session; the flag itself if a session cannot change it."""
    spec = _named(flag)
    is_known = spec is not None and spec.name in changeable_options()
    return f"{quote}{spec.name.replace('_', '-')}{quote}" if spec is not None and is_known else flag


def _as_command(found: re.Match[str]) -> str:
    verb, amount, flag, value = (each or "" for each in found.groups())
    spec = _named(flag)
    if spec is not None and spec.name in _COMMANDS and not (amount or verb == "leave out "):
        return f"{verb and 'use '}`{_COMMANDS[spec.name]}{value}`"
    if spec is None or spec.name not in changeable_options():
        return found[0]
    name = spec.name.replace("_", "-")  # as they are listed
    if verb == "leave out ":
        return f"use `/set {name} default`"
    if amount:
        return f"{verb}{amount}{name} (`/set {name} N`)"
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
