"""Find the option that the user means, and put new values in force; some of them need the model loaded again."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from chat.config.option_types import checked, option_specs
from chat.config.options import Group
from chat.config.remotes import public_address
from chat.errors import ChatError, UsageError
from chat.prompts.model_settings import check_effort
from chat.rendering.status_text import loading_line
from chat.rendering.styled_text import Span, cell_width, cut
from chat.system.terminal_text import escape_control_characters, escape_line
from chat.tui import exchange
from chat.tui.background_backend import session_backend_options
from chat.tui.commands.lookup import unquoted

if TYPE_CHECKING:
    from chat.config.option_types import OptionSpec
    from chat.config.options import Settings
    from chat.rendering.styled_text import Line
    from chat.tui.state import SessionState

LOADING_GROUPS = (Group.MODEL, Group.ENGINE)  # their options take effect when the model is loaded
FIXED = ("parallel",)
LEAST_VALUE_CELLS = 8  # of a value, before its origin is cut
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 1.0  # until a wait is shown


def changeable_options() -> dict[str, OptionSpec]:
    """The options that a session may change, by their names."""
    return {name: spec for name, spec in option_specs().items()
            if name not in FIXED and (spec.option.live or spec.option.group in LOADING_GROUPS)}  # fmt: skip


def find_option(name: str) -> OptionSpec:
    """The option with this name or flag, written with dashes or underscores.

    Raises:
        UsageError: there is none; the hint names the nearest.
    """
    normalized = name.lstrip("-").replace("-", "_").lower()
    spellings = {
        flag.lstrip("-").replace("-", "_"): spec
        for spec in option_specs().values()
        for flags in spec.option.flags
        for flag in flags.split("/")
    }
    found = option_specs().get(normalized) or spellings.get(normalized)
    if found is None:
        near = get_close_matches(normalized, changeable_options(), n=1)
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
    if is_reloaded:
        _reload(state, replace(state.settings, **changed))
    state.change_settings(origin, **values)
    state.store_model()
    if is_reloaded:
        state.last_completion = None  # its figures are another model's
        exchange.update_used_tokens(state)
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
    value = state.session.conversation.system if spec.name == "system" else getattr(state.settings, spec.name)
    if spec.name == "remote" and value:
        value = public_address(value)
    star = "*" if spec.option.group in LOADING_GROUPS else " "
    name = f"{star} {spec.name.replace('_', '-'):<16} "
    origin = escape_line(state.resolved.origins.get(spec.name, "default"))
    if state.config_file is not None:
        origin = origin.replace(f"{escape_line(str(state.config_file))}, line ", f"{state.config_file.name}:")
    cells = max(1, state.screen.width - len(name) - 3)
    text = escape_control_characters(_value_text(value))
    shown = cut(text, max(LEAST_VALUE_CELLS, cells - cell_width(origin)))
    origin = cut(origin, max(1, cells - cell_width(shown)))
    return (Span(name, "dim"), Span(shown), Span(f"  {origin}", "dim"))


def _reload(state: SessionState, settings: Settings) -> None:
    """Load the model that these settings name, and wait for it.

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
        fault = state.backend.fault or ChatError("stopped, the earlier model is loaded again")
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
