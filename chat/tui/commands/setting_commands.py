"""`/model`, `/set`, `/show`, `/system`, `/preset` and `/raw`: show and change how answers are made."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.app.remotes import RemoteOptions, server_models
from chat.config.conflicts import check_effect, has_effect
from chat.config.option_types import option_specs
from chat.config.options import Group
from chat.errors import ChatError, ModelError, UsageError
from chat.models.inventory import LocalModel, describe, usable_models
from chat.models.resolve import resolve
from chat.models.stores import LocalFile
from chat.rendering.styled_text import Span, plain
from chat.system.table_output import table_lines
from chat.system.terminal_text import escape_line, size_text
from chat.tui import exchange
from chat.tui.commands.lookup import unquoted
from chat.tui.commands.option_changes import (
    apply_options,
    change_options,
    is_changed,
    option_line,
    option_table,
)
from chat.tui.commands.session_options import changeable_options, find_option, parse_value
from chat.tui.transcript import show_reasoning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.config.option_types import OptionSpec
    from chat.core.backend import ModelInfo
    from chat.tui.state import SessionState

HEADER_SECONDS = 2.0  # for reading what the models are
NARROW = 60  # columns of a terminal
MODEL_COLUMNS = ["  NAME", "SIZE", "TYPE", "WINDOW", "WHERE"]
MODEL_HINT = "/model NAME or /model FILE switches. /model info shows the details of the current one."
HIDDEN_DETAILS = ("cells", "rolling", "batch", "flash_attention_used")  # for reports only


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
    """`/think [show | auto | on | off | hide | limit N]`

    Raises:
        UsageError: the argument is none of these.
    """
    word, _, value = argument.strip().lower().partition(" ")
    choice, limit = option_specs()["think"], option_specs()["think_limit"]
    if word == "show":
        return show_reasoning(state)
    if not word:
        return state.show(*(option_line(state, spec) for spec in (choice, limit)), ())
    if word == "limit":
        text = "default" if value.strip() in ("", "off", "none") else value.strip()
        return apply_options(state, {limit.name: parse_value(limit, text)}, "/think")
    if word not in choice.choices or value:
        raise UsageError(
            f"`/think` does not take `{escape_line(argument.strip())}`",
            hint="use show, auto, on, off, hide, or `limit` and a number of tokens",
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
    return apply_options(state, values, f"/preset {name}")


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


def switch_model(state: SessionState, argument: str) -> None:
    """`/model [NAME|info]`: a model of the present server, a server `NAME|URL [MODEL]`, or a local model.

    Raises:
        ChatError: the model cannot be used; the earlier one is loaded again.
    """
    name = unquoted(argument)
    if name == "info":
        return show_model(state)
    if not name:
        return list_models(state)
    change_options(state, _meant_by(state, name), "/model")
    state.remember_model()
    info = state.backend.info
    about = LocalModel("", "", "elsewhere", info.size, info.type, info.window) if info and info.size else None
    return state.report(f"Now using {state.model_name}" + (f" ({about.summary})." if about else "."))


def list_models(state: SessionState) -> None:
    """Show the models of the server that answers, and those that are on this machine: the present one first, marked."""
    show_choices(state)
    models = usable_models(HEADER_SECONDS)
    present = []
    if state.model_path:
        current = Path(state.model_path)
        present = [model for model in models if os.path.realpath(model.path) == os.path.realpath(current)]
        present = present or [describe(LocalFile(state.model_name, current, "elsewhere"))]
    others = [model for model in models if model not in present]
    rows = [MODEL_COLUMNS, *(model_row(model, "*") for model in present), *(model_row(model, "") for model in others)]
    columns = len(MODEL_COLUMNS) - (state.screen.width < NARROW)  # there without the place
    shown = [[escape_line(cell) for cell in row[:columns]] for row in rows]
    head, *lines = table_lines(shown, state.screen.width)
    if lines:
        state.show(plain(head, "dim"), *map(plain, lines), ())
    return state.report(MODEL_HINT)


def model_row(model: LocalModel, mark: str) -> list[str]:
    """The cells of a model in a list; those of a header that was not read are empty."""
    window = f"{model.window:,}" if model.window else "-" if model.type else ""
    return [f"{mark:1} {model.name}", size_text(model.size), model.type, window, model.where]


def switch_remote(state: SessionState, argument: str) -> None:
    """`/set remote NAME|URL`; `default` is no server.

    Raises:
        ChatError: the server cannot be used; the earlier model is loaded again.
    """
    name = unquoted(argument)
    apply_options(state, {"remote": None if name == "default" else name}, "/set")
    show_model(state)


def _meant_by(state: SessionState, name: str) -> dict[str, Any]:
    """The settings that `/model NAME` changes: a server, a model of the present server, or a local model.

    Raises:
        ChatError: nothing has this name.
    """
    names = {remote.name for remote in state.settings.remotes}
    server, _, model = name.partition(" ")
    if server in names or "://" in server:
        return {"remote": server, "remote_model": model.strip() or None}
    options = state.backend.options
    if not isinstance(options, RemoteOptions):
        return {"model": name}
    offered = server_models(options)
    if name in offered:
        return {"remote_model": name}
    try:
        resolve(name)
    except ChatError as error:
        near = get_close_matches(name, [*offered, *names], 1)
        raise ModelError(
            f"neither {options.server.url} nor this machine has a model {escape_line(name)}",
            hint=f"did you mean `{near[0]}`?" if near else "`/model` lists them",
        ) from error
    return {"model": name}


def show_choices(state: SessionState) -> None:
    """List the models of the present server, and the servers of the settings file."""
    options, rows = state.backend.options, []
    if isinstance(options, RemoteOptions):
        rows.append(("server", options.server.url))
        try:
            rows.append(("models", ", ".join(map(escape_line, server_models(options)))))
        except ChatError as error:
            state.show_error(error)
    if state.settings.remotes:
        rows.append(("servers", ", ".join(remote.name for remote in state.settings.remotes)))
    for name, value in rows:
        lines = state.wrapped(value, indent=" " * 9)
        state.show((Span(f"{name:<9}", "dim"), *lines[0][1:]), *lines[1:])
    if rows:
        state.show(())


def show_model(state: SessionState) -> None:
    """Show what is known about the model."""
    state.wait_for_load()
    info = state.backend.info
    if info is None:
        return state.report(f"{state.model_name} cannot be used")
    facts = model_facts(info)
    width = max(len(name) for name in facts) + 2
    for name, value in facts.items():
        lines = state.wrapped(value, indent=" " * width)
        state.show((Span(f"{name:<{width}}", "dim"), *lines[0][1:]), *lines[1:])
    return state.show(())


def model_facts(info: ModelInfo) -> dict[str, str]:
    """What a user wants to know about a model: texts by their labels."""
    if not info.size:  # on a server
        return {"server": info.path, "model": info.name}
    details = dict(info.details)
    reason = details.pop("prompt_format_reason", "")
    facts = {
        "file": _abbreviated(info.path),
        "size": size_text(info.size),
        "type": f"{info.type}, {info.architecture}",
        "context": f"{info.context:,} tokens (trained on {info.trained_context:,})",
        "window": f"{info.window:,} tokens" if info.window else "none",
        "prompts": info.prompt_format + (f" ({reason})" if reason else ""),
    }
    if info.efforts:
        facts["efforts"] = ", ".join(info.efforts)
    for name, value in details.items():
        if name.endswith("_bytes"):
            if value:
                facts[f"{name.removesuffix('_bytes')} memory"] = size_text(value)
        elif name not in HIDDEN_DETAILS:
            facts[name.replace("_", " ")] = ("off", "on")[value] if isinstance(value, bool) else str(value)
    return facts


def _abbreviated(path: str) -> str:
    """A path with `~` for the home folder."""
    with suppress(ValueError, RuntimeError):
        return f"~/{Path(path).relative_to(Path.home())}"
    return path
