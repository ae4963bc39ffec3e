"""`/model`: show the model, or switch to another one."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from chat.rendering.styled_text import Span
from chat.system.units import size_text
from chat.tui.commands.lookup import unquoted
from chat.tui.commands.option_changes import apply_options

if TYPE_CHECKING:
    from chat.core.backend import ModelInfo
    from chat.tui.state import SessionState

HIDDEN_DETAILS = ("cells", "rolling", "batch")  # for reports only


def switch_model(state: SessionState, argument: str) -> None:
    """`/model [NAME]`

    Raises:
        ChatError: the model cannot be used; the earlier one is loaded again.
    """
    if name := unquoted(argument):
        apply_options(state, {"remote_model" if state.settings.remote else "model": name}, "/model")
    show_model(state)


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
