"""The command that shows and switches the model, and how one is loaded again. Knows the desk, not engines."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from chat.errors import ChatError
from chat.rendering.status_text import loading_line
from chat.rendering.styled_text import Span
from chat.system.units import size_text
from chat.tui import exchange
from chat.tui.background_backend import options_for

if TYPE_CHECKING:
    from chat.config.options import Settings
    from chat.core.backend import ModelInfo
    from chat.tui.state import SessionState

OF_NO_INTEREST = ("cells", "rolling", "batch")  # details that only a report needs


def reload(desk: SessionState, settings: Settings) -> None:
    """Load the model that these settings want, and wait; Ctrl+C goes back to the one before.

    Raises:
        ChatError: it cannot be used; the one before is being loaded again.
    """
    options = options_for(settings, desk.state_folder)
    before = desk.room.options
    desk.room.change(options)
    with desk.signals.answering():
        seconds = 0.0
        while not desk.room.wait(0.1) and not desk.signals.presses and not desk.signals.leaving:
            seconds += 0.1
            if seconds >= 1:
                line = loading_line(desk.model_name, desk.room.loaded, int(seconds), desk.screen.width)
                desk.screen.update((), [line])
        desk.screen.update()
    if desk.room.fault is not None or not desk.room.is_settled:
        fault = desk.room.fault or ChatError("stopped, the model before is loaded again")
        desk.room.back_to(before)
        raise fault
    exchange.recount(desk)


def show_model(desk: SessionState) -> None:
    """What is known of the model."""
    desk.room.wait()
    info = desk.room.info
    if info is None:
        return desk.tell(f"{desk.model_name} cannot be used")
    facts = facts_of(info)
    width = max(len(name) for name in facts) + 2
    for name, value in facts.items():
        lines = desk.wrapped(value, indent=" " * width)
        desk.say((Span(f"{name:<{width}}", "dim"), *lines[0][1:]), *lines[1:])
    return desk.say(())


def facts_of(info: ModelInfo) -> dict[str, str]:
    """What a person wants to know of a model, in words."""
    if not info.size:  # a server's
        return {"server": info.path, "model": info.name}
    details = dict(info.details)
    reason = details.pop("prompt_format_reason", "")
    facts = {
        "file": _from_home(info.path),
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
        elif name not in OF_NO_INTEREST:
            facts[name.replace("_", " ")] = ("off", "on")[value] if isinstance(value, bool) else str(value)
    return facts


def _from_home(path: str) -> str:
    """A path as people write it."""
    with suppress(ValueError, RuntimeError):
        return f"~/{Path(path).relative_to(Path.home())}"
    return path
