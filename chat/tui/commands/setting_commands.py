"""`/set`, `/show`, `/think`, `/system`, `/preset` and `/raw`: show and change how answers are made."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from chat.config.conflicts import check_effect, has_effect
from chat.config.option_types import option_specs
from chat.config.options import Group
from chat.errors import UsageError
from chat.rendering.styled_text import plain
from chat.system.terminal_text import escape_line
from chat.tui import exchange
from chat.tui.commands.lookup import unquoted
from chat.tui.commands.model_commands import show_model, switch_model, switch_remote
from chat.tui.commands.option_changes import (
    apply_options,
    is_changed,
    option_line,
    option_table,
)
from chat.tui.commands.session_options import changeable_options, find_option, parse_value, think_words
from chat.tui.transcript import show_reasoning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.config.option_types import OptionSpec
    from chat.tui.state import SessionState


def set_option(state: SessionState, argument: str) -> None:
    """`/set [OPTION [VALUE]]`

    Raises:
        UsageError: the option does not exist, cannot change in a session, or does not allow the value.
        ChatError: the model cannot be used with the value; everything is as before.
    """
    argument = argument.removeprefix("parameter ")  # as Ollama writes it
    if not argument:
        return show_options(state, "")
    name, *rest = re.split(r"\s*=\s*|\s+", argument.strip(), maxsplit=1)  # `temperature 0.2`, or as in a file
    value = "".join(rest).strip()
    spec = find_option(name)
    if spec.name not in changeable_options():
        raise UsageError(
            f"`{spec.option.flag}` can only be given on the command line",
            hint="`/show all` lists what a session can change",
        )
    if not value:
        return show_options(state, spec.name)
    if value != "default" and spec.name != "model":  # a model replaces a server
        check_effect([spec.name], state.settings)
    own_command = {"model": switch_model, "remote": switch_remote, "system": set_system}.get(spec.name)
    if own_command is not None:
        return own_command(state, value)
    return apply_options(state, {spec.name: parse_value(spec, value)}, "/set")


def show_options(state: SessionState, argument: str) -> None:
    """`/show [OPTION|all]`: the options that are not at their defaults, all in their groups, or one with its help.

    Raises:
        UsageError: there is no such option.
    """
    argument = argument.strip()
    if argument in ("model", "info"):
        return show_model(state)
    specs = [spec for name, spec in changeable_options().items() if has_effect(name, state.settings)]
    if argument == "all":
        return show_groups(state, specs)
    if argument:
        spec = find_option(argument)
        return state.show(option_line(state, spec), *state.wrapped(spec.option.help, "dim"), ())
    changed = [spec for spec in specs if is_changed(state, spec)]
    others = len(specs) - len(changed)
    if not changed:
        return state.report(f"All {others} options have their defaults; /show all lists them.")
    state.show(*option_table(state, changed))
    return state.report(f"{others} other options have their defaults; /show all lists them.")


def show_groups(state: SessionState, specs: Sequence[OptionSpec]) -> None:
    """Show options under the names of their groups, in columns that all groups share."""
    lines = dict(zip([spec.name for spec in specs], option_table(state, specs), strict=True))
    for group in Group:
        of_group = [lines[spec.name] for spec in specs if spec.option.group is group]
        if of_group:
            state.show(plain(group.value, "bold"), *of_group)
    return state.report("/set OPTION VALUE changes one. * loads the model again.")


def think(state: SessionState, argument: str) -> None:
    """`/think [show | limit [N|off] | CHOICE]`: a choice of `--think`.

    Raises:
        UsageError: the argument is none of these, or a server answers, which takes no limit.
    """
    word, _, value = argument.strip().lower().partition(" ")
    choice, limit = option_specs()["think"], option_specs()["think_limit"]
    if word == "show":
        return show_reasoning(state)
    if not word:
        return state.show(*(option_line(state, spec) for spec in (choice, limit)), ())
    if word == "limit" and not value.strip():
        return show_options(state, limit.name)
    if word == "limit":
        text = "default" if value.strip() in ("off", "none") else value.strip()
        if text != "default":
            check_effect([limit.name], state.settings)
        return apply_options(state, {limit.name: parse_value(limit, text)}, "/think")
    if word not in choice.choices or value:
        raise UsageError(
            f"`/think` does not take `{escape_line(argument.strip())}`",
            hint=f"use {', '.join(think_words()[:-1])}, or `limit` and a number of tokens",
        )
    return apply_options(state, {choice.name: word}, "/think")


def set_system(state: SessionState, argument: str) -> None:
    """`/system [TEXT]`: `none` is no system prompt, `default` the model's own."""
    if argument.strip():
        text = unquoted(argument)
        system = {"none": "", "clear": "", "default": None}.get(text.lower(), text)
        state.change_settings("/system", system=system)
        state.session.set_system(system)
        exchange.update_used_tokens(state)
    system = state.session.conversation.system
    own = state.model_system_prompt
    if own:
        state.show(*state.wrapped(own), *state.wrapped("The model's own; /system none leaves it out.", "dim"), ())
    else:
        state.show(*(state.wrapped(system) if system else [plain("There is no system prompt.", "dim")]), ())


def use_preset(state: SessionState, argument: str) -> None:
    """`/preset [NAME]`

    Raises:
        UsageError: there is no such preset.
        ChatError: the model cannot be used with its values; everything is as before.
    """
    from chat.config.resolve import resolve_settings

    name = argument.strip()
    if not name:
        known = ", ".join(escape_line(preset) for preset in state.resolved.presets)
        return state.report(
            f"Presets: {known}." if known else "There are no presets. `[preset.NAME]` in the settings file makes one."
        )
    resolved = resolve_settings({"preset": name}, {}, state.config_file)
    given = [option for option, origin in resolved.origins.items() if origin == f"preset {name}"]
    values = {option: getattr(resolved.settings, option) for option in given if option in changeable_options()}
    apply_options(state, values, f"/preset {name}")
    if others := [option.replace("_", "-") for option in given if option not in values]:
        words = ", ".join(others)
        state.report(f"Only a new session takes {words} from it: mistral-chat --preset {escape_line(name)}.")
    return None


def toggle_raw(state: SessionState, argument: str) -> None:
    """`/raw [on|off]`

    Raises:
        UsageError: the argument is another word.
    """
    is_raw = {"": state.shows_markdown, "on": True, "off": False}.get(argument.strip().lower())
    if is_raw is None:
        raise UsageError("`/raw` takes on or off")
    state.shows_markdown = not is_raw
    state.report("Answers are shown as they are written." if is_raw else "Answers are shown with Markdown styled.")
