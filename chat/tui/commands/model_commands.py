"""`/model`: list models, switch to another one or to a server, and show what is known about the present one."""

from __future__ import annotations

import os
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.app.remotes import RemoteOptions
from chat.errors import ChatError, ModelError
from chat.models.resolve import resolve
from chat.rendering.styled_text import plain
from chat.system.paths import expand_path
from chat.system.table_output import table_lines
from chat.system.terminal_text import escape_line, size_text
from chat.tui.commands.lookup import unquoted
from chat.tui.commands.option_changes import NARROW, apply_options, change_options

if TYPE_CHECKING:
    from chat.core.backend import ModelInfo
    from chat.models.inventory import LocalModel
    from chat.tui.state import SessionState

HEADER_SECONDS = 2.0  # for reading what the models are
MODEL_COLUMNS = ["  NAME", "SIZE", "TYPE", "WINDOW", "WHERE"]
MODEL_HINT = "/model NAME or /model FILE switches; /model guide asks about this program. /model info shows details."
HIDDEN_DETAILS = ("cells", "rolling", "batch", "flash_attention_used")  # for reports only


def switch_model(state: SessionState, argument: str) -> None:
    """`/model [NAME|info]`: a model of the present server, a server `NAME|URL [MODEL]`, or a local model.

    Raises:
        ChatError: the model cannot be used; the earlier one is loaded again.
    """
    name = unquoted(argument)
    if name == "info":
        return show_model(state)
    if not name or (name in ("list", "ls") and not _is_file(name)):
        return list_models(state)
    from chat.models.inventory import summary

    change_options(state, _meant_by(state, name), "/model")
    info = state.backend.info
    about = f" ({summary(info.size, info.type, info.window)})" if info and info.size else ""
    return state.report(f"Now using {state.model_name}{about}.")


def list_models(state: SessionState) -> None:
    """Show the models of the server that answers, and those that are on this machine: the present one first, marked."""
    from chat.models.inventory import describe, usable_models
    from chat.models.stores import LocalFile

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
        ChatError: nothing has this name, or the server does not list its models and no local one has it.
    """
    names = {remote.name for remote in state.settings.remotes}
    server, _, model = name.partition(" ")
    if server in names or "://" in server:
        return {"remote": server, "remote_model": model.strip() or None}
    options = state.backend.options
    if not isinstance(options, RemoteOptions) or _is_file(name):
        return {"model": name}
    offered: tuple[str, ...] = ()
    fault: ChatError | None = None
    try:
        offered = state.model_lists.ask_server(options)
    except ChatError as error:
        fault = error
    if name in offered:
        return {"remote_model": name}
    try:
        resolve(name)
    except ChatError as error:
        if fault is not None:
            raise fault from error
        near = get_close_matches(name, [*offered, *names], 1)
        raise ModelError(
            f"neither {options.server.url} nor this machine has a model `{escape_line(name)}`",
            hint=f"did you mean `{near[0]}`?" if near else "`/model` lists them",
        ) from error
    return {"model": name}


def _is_file(name: str) -> bool:
    try:
        return expand_path(name).is_file()
    except (OSError, ValueError):  # too long for a path, or with a NUL
        return False


def show_choices(state: SessionState) -> None:
    """List the models of the present server, and the servers of the settings file."""
    options, rows = state.backend.options, []
    if isinstance(options, RemoteOptions):
        rows.append(("server", options.server.url))
        try:
            rows.append(("models", ", ".join(map(escape_line, state.model_lists.ask_server(options)))))
        except ChatError as error:
            state.show_error(error)
    if state.settings.remotes:
        rows.append(("servers", ", ".join(remote.name for remote in state.settings.remotes)))
    if rows:
        state.show_facts(rows)


def show_model(state: SessionState) -> None:
    """Show what is known about the model."""
    state.wait_for_load()
    info = state.backend.info
    if info is None:
        return state.report(f"{state.model_name} cannot be used")
    return state.show_facts(list(model_facts(info).items()))


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
    details.pop("mmproj", None)
    facts["pictures"] = f"read by {_abbreviated(info.details['mmproj'])}" if "mmproj" in info.details else "none"
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
