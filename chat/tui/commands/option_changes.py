"""Put new values of options in force, some of which need the model loaded again, and show what is in force."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chat.config.option_types import option_specs
from chat.config.remotes import public_value
from chat.errors import ChatError
from chat.prompts.model_settings import check_effort
from chat.rendering.status_text import loading_line
from chat.rendering.styled_text import Span, cut, cut_start
from chat.system.terminal_text import cell_width, escape_control_characters, escape_line
from chat.tui.background_backend import session_backend_options
from chat.tui.commands.session_options import LOADING_GROUPS
from chat.tui.functions import prepared_change, put_in_force

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.config.option_types import OptionSpec
    from chat.config.options import Settings
    from chat.core.backend import ModelInfo
    from chat.rendering.styled_text import Line
    from chat.tui.state import SessionState

OF_PATHS = ("model", "lora", "mmproj", "draft")
LEAST_VALUE_CELLS = 14  # of a value, before its origin is cut
LINE_NAME_CELLS = 17  # of a single option
NARROW = 60  # columns of a terminal
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 1.0  # until a wait is shown


def apply_options(state: SessionState, values: dict[str, Any], origin: str) -> None:
    """Put values in force as `change_options` does, and show them.

    Raises:
        ChatError: the model cannot be used with them; everything is as before.
    """
    change_options(state, values, origin)
    state.show(*(option_line(state, option_specs()[name]) for name in values), ())


def change_options(state: SessionState, values: dict[str, Any], origin: str) -> None:
    """Put values in force, and load the model again if they need it.

    Args:
        state: the session.
        values: the new values by the names of their options.
        origin: the command that gave them, e.g. `/set`.

    Raises:
        ChatError: the model cannot be used with them; everything is as before.
    """
    if values.get("effort") is not None and state.backend.info is not None and not state.settings.remote:
        check_effort(values["effort"], state.backend.info.efforts)
    values = {**_replaced_by(values), **values}
    changed = {name: value for name, value in values.items() if getattr(state.settings, name) != value}
    is_reloaded = any(option_specs()[name].option.group in LOADING_GROUPS for name in changed)
    before, after = state.settings, replace(state.settings, **changed)
    functions = prepared_change(state, after, changed)
    if is_reloaded:
        load_again(state, after)
    state.change_settings(origin, **values)
    if functions is not None:
        put_in_force(state, functions, before)
    if is_reloaded:
        state.store_model()  # before the user reads that it is in use
        state.last_completion = None  # its figures are another model's
    if "markdown" in values:
        state.shows_markdown = values["markdown"] is not False
    if "keys" in values:
        state.reader.use_vi(values["keys"] == "vi")
    if "system" in values:
        state.session.set_system(values["system"])


def _replaced_by(values: dict[str, Any]) -> dict[str, Any]:
    """A server replaces the local model, and a model the server; a server's model belongs to no other server."""
    if values.get("remote"):
        return {"model": None, "remote_model": None}
    return {"remote": None, "remote_model": None} if values.get("model") else {}


def option_line(state: SessionState, spec: OptionSpec) -> Line:
    """An option's name, value and origin; a star marks options that load the model again."""
    return option_table(state, [spec], LINE_NAME_CELLS)[0]


def option_table(state: SessionState, specs: Sequence[OptionSpec], least_name_cells: int = 0) -> list[Line]:
    """A line for each option with its name, value and origin in columns that fit the screen.

    Args:
        state: the session.
        specs: the options, at least one.
        least_name_cells: the least width of the first column.
    """
    rows = [(_name_text(spec), escape_control_characters(effective_value(state, spec)), _origin_text(state, spec))
            for spec in specs]  # fmt: skip
    name_cells = max(least_name_cells, *(len(name) for name, _, _ in rows))
    gap = "  " if state.screen.width >= NARROW or len(rows) == 1 else " "
    cells = max(1, state.screen.width - name_cells - 1 - 2 * len(gap))
    origin_cells = max(cell_width(origin) for _, _, origin in rows)
    value_cells = max(cell_width(" ".join(value.split())) for _, value, _ in rows)
    most_cells = max(LEAST_VALUE_CELLS, cells - origin_cells)
    if len(rows) > 1 and state.screen.width >= NARROW:  # one long value does not move the origins far away
        most_cells = max(LEAST_VALUE_CELLS, min(most_cells, state.screen.width // 2))
    value_cells = min(value_cells, most_cells)
    lines: list[Line] = []
    for spec, (name, value, origin) in zip(specs, rows, strict=True):
        shown = (cut_start if spec.name in OF_PATHS else cut)(value, value_cells)
        padded = shown + " " * (value_cells - cell_width(shown))
        shown_origin = cut(origin, max(1, cells - value_cells))
        lines.append((Span(f"{name:<{name_cells}}{gap}", "dim"), Span(padded), Span(f"{gap}{shown_origin}", "dim")))
    return lines


def effective_value(state: SessionState, spec: OptionSpec) -> str:
    """An option's value; where the engine chose it, with that in parentheses: `auto (8)`."""
    value = state.session.conversation.system if spec.name == "system" else getattr(state.settings, spec.name)
    value = public_value(spec.name, value)
    info = state.backend.info
    chosen = _chosen_by_engine(info).get(spec.name) if info is not None and info.size else None
    if chosen is None or value not in (None, "auto", "all"):
        return _value_text(value)
    return f"{value or 'auto'} ({chosen})"


def is_changed(state: SessionState, spec: OptionSpec) -> bool:
    """Whether an option was given and has another value than its default."""
    return spec.name in state.resolved.origins and getattr(state.settings, spec.name) != spec.default


def _chosen_by_engine(info: ModelInfo) -> dict[str, str]:
    """What the engine uses where it may choose, by the options' names."""
    details = info.details
    numbers = {"context": info.context, "gpu_layers": details.get("gpu_layers"), "threads": details.get("threads")}
    switches = {"repack": details.get("repack"), "flash_attention": details.get("flash_attention_used")}
    return {
        "window": f"{info.window:,}" if info.window else "off",
        **{name: f"{number:,}" for name, number in numbers.items() if number is not None},
        **{name: _value_text(is_on) for name, is_on in switches.items() if is_on is not None},
    }


def _name_text(spec: OptionSpec) -> str:
    star = "*" if spec.option.group in LOADING_GROUPS else " "
    return f"{star} {spec.name.replace('_', '-')}"


def _origin_text(state: SessionState, spec: OptionSpec) -> str:
    """Where a value comes from; the settings file without its folder."""
    origin = escape_line(state.resolved.origins.get(spec.name, "default"))
    if state.config_file is not None:
        origin = origin.replace(f"{escape_line(str(state.config_file))}, line ", f"{state.config_file.name}:")
    return origin


def load_again(state: SessionState, settings: Settings) -> None:
    """Load the model that these settings name, with what is there now, and wait for it.

    Raises:
        ChatError: it cannot be used, or Ctrl+C stopped the wait; the earlier model is loaded again.
    """
    options = session_backend_options(settings, state.state_folder)
    before = state.backend.options
    state.backend.reload(options)
    with state.signals.counting_ctrl_c():
        waited = 0.0
        while (
            not state.backend.wait_for_load(POLL_SECONDS)
            and not state.signals.presses
            and not state.signals.ending_signal
        ):
            waited += POLL_SECONDS
            if waited >= PATIENCE_SECONDS:
                fraction, width = state.backend.loaded_fraction, state.screen.width
                state.screen.update((), [loading_line(state.model_name, fraction, int(waited), width)])
        state.screen.update()
    if state.backend.fault is not None or state.backend.is_loading:
        fault = state.backend.fault or ChatError("stopped; the previous model is loaded again")
        state.backend.reload(before)
        raise fault


def _value_text(value: Any) -> str:
    if value == "":
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(repr(part) for part in value) or "-"
    return "-" if value is None else str(value)
