"""Commands that change how answers are made: system prompt, model, options, presets, Markdown."""

from __future__ import annotations

import re
from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from chat.config.option_types import checked, option_specs
from chat.config.options import Group
from chat.errors import UsageError
from chat.rendering.styled_text import Span, cell_width, cut, plain
from chat.system.terminal_text import escape_control_characters, escape_line
from chat.tui import exchange
from chat.tui.commands.lookup import unquoted
from chat.tui.commands.model_commands import reload, show_model

if TYPE_CHECKING:
    from chat.config.option_types import OptionSpec
    from chat.rendering.styled_text import Line
    from chat.tui.state import SessionState

OF_THE_ENGINE = (Group.MODEL, Group.ENGINE)
LEAST_CELLS = 8  # of a value, where its origin gives way
FIXED = ("remote", "remote_model", "insecure", "parallel")


def changeable() -> dict[str, OptionSpec]:
    """The options that a session may change."""
    return {name: each for name, each in option_specs().items()
            if name not in FIXED and (each.option.live or each.option.group in OF_THE_ENGINE)}  # fmt: skip


def option_of(name: str) -> OptionSpec:
    """The option that a person means: its name or any of its flags, with dashes or underscores.

    Raises:
        UsageError: there is none, or a session cannot change it.
    """
    plain_name = name.lstrip("-").replace("-", "_").lower()
    spellings = {
        flag.lstrip("-").replace("-", "_"): each
        for each in option_specs().values()
        for written in each.option.flags
        for flag in written.split("/")
    }
    found = option_specs().get(plain_name) or spellings.get(plain_name)
    if found is None:
        near = get_close_matches(plain_name, changeable(), n=1)
        raise UsageError(
            f"there is no option `{escape_line(name)}`", hint=f"did you mean `{near[0]}`?" if near else None
        )
    return found


def change(desk: SessionState, argument: str) -> None:
    """`/set [option [value]]`"""
    argument = argument.removeprefix("parameter ")  # as Ollama writes it
    if not argument:
        return show(desk, "")
    name, *rest = re.split(r"\s*=\s*|\s+", argument.strip(), maxsplit=1)  # `temperature 0.2`, or as a file has it
    value = "".join(rest)
    spec = option_of(name)
    if spec.name not in changeable():
        raise UsageError(
            f"`{spec.option.flag}` belongs to the command line, not to a session",
            hint="`/show` lists what may change",
        )
    if not value.strip():
        return show(desk, spec.name)
    special = {"model": switch_model, "system": set_system}.get(spec.name)
    if special is not None:
        return special(desk, value)
    put(desk, {spec.name: value_of(spec, value.strip())})
    return None


def value_of(spec: OptionSpec, text: str) -> Any:
    """A value as a person typed it; `default` is the default, quotes keep spaces.

    Raises:
        UsageError: it is wrong.
    """
    if text == "default":
        return spec.default
    return checked(spec, unquoted(text))


def put(desk: SessionState, values: dict[str, Any], origin: str = "/set") -> None:
    """Put values in force, with the model loaded again where they need it, and say so.

    Raises:
        ChatError: they cannot be; all is as before.
    """
    changed = {name: value for name, value in values.items() if getattr(desk.settings, name) != value}
    if any(option_specs()[name].option.group in OF_THE_ENGINE for name in changed):
        reload(desk, replace(desk.settings, **changed))
    desk.change_settings(origin, **values)
    desk.remember_model()
    if "markdown" in values:
        desk.shows_markdown = values["markdown"] is not False
    if "keys" in values:
        desk.reader.use_vi(values["keys"] == "vi")
    if "system" in values:
        desk.session.set_system(values["system"])
    for name in values:
        desk.say(_option_line(desk, option_specs()[name]))
    desk.say(())


def switch_model(desk: SessionState, argument: str) -> None:
    """`/model [name]`"""
    if wanted := unquoted(argument):
        put(desk, {"remote_model" if desk.settings.remote else "model": wanted}, "/model")
    show_model(desk)


def set_system(desk: SessionState, argument: str) -> None:
    """`/system [text]`"""
    text = argument.strip()
    if text:
        text = unquoted(text)
        system = None if text.lower() in ("none", "clear", "") else text
        desk.change_settings("/system", system=system)
        desk.session.set_system(system)
        exchange.recount(desk)
    system = desk.session.conversation.system
    desk.say(*(desk.wrapped(system) if system else [plain("no system prompt", "dim")]), ())


def show(desk: SessionState, argument: str) -> None:
    """`/show [option]`"""
    if argument.strip() in ("model", "info"):
        return show_model(desk)
    if argument.strip():
        spec = option_of(argument.strip())
        desk.say(_option_line(desk, spec), *desk.wrapped(spec.option.help, "dim"), ())
        return None
    for group in Group:
        rows = [each for each in changeable().values() if each.option.group is group]
        if rows:
            desk.say(plain(group.value, "bold"), *(_option_line(desk, each) for each in rows))
    return desk.tell("/set OPTION VALUE changes one; * loads the model again")


def use_preset(desk: SessionState, argument: str) -> None:
    """`/preset [name]`"""
    from chat.config.resolve import resolve_settings

    name = argument.strip()
    if not name:
        known = ", ".join(escape_line(each) for each in desk.resolved.presets)
        return desk.tell(
            f"presets: {known}" if known else "there are no presets; `[preset.NAME]` in the settings file makes one"
        )
    resolved = resolve_settings({"preset": name}, {}, desk.config_file)
    given = [each for each, origin in resolved.origins.items() if origin == f"preset {name}"]
    values = {each: getattr(resolved.settings, each) for each in given if each in changeable()}
    return put(desk, values, f"/preset {name}")


def toggle_raw(desk: SessionState, argument: str) -> None:
    """`/raw [on|off]`"""
    words = {"": desk.shows_markdown, "on": True, "off": False}
    if argument.strip().lower() not in words:
        raise UsageError("needs on or off")
    desk.shows_markdown = not words[argument.strip().lower()]
    desk.tell(
        "answers are shown with Markdown styled" if desk.shows_markdown else "answers are shown as they are written"
    )


def _option_line(desk: SessionState, spec: OptionSpec) -> Line:
    value = desk.session.conversation.system if spec.name == "system" else getattr(desk.settings, spec.name)
    star = "*" if spec.option.group in OF_THE_ENGINE else " "
    name = f"{star} {spec.name.replace('_', '-'):<16} "
    origin = escape_line(desk.resolved.origins.get(spec.name, "default"))
    if desk.config_file is not None:
        origin = origin.replace(f"{escape_line(str(desk.config_file))}, line ", f"{desk.config_file.name}:")
    room = max(1, desk.screen.width - len(name) - 3)
    shown = cut(escape_control_characters(_words(value)), max(LEAST_CELLS, room - cell_width(origin)))
    origin = cut(origin, max(1, room - cell_width(shown)))
    return (Span(name, "dim"), Span(shown), Span(f"  {origin}", "dim"))


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(repr(each) for each in value) or "-"
    return "-" if value is None else str(value)
