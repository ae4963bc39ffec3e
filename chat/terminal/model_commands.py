"""The command that shows and switches the model, and how one is loaded again. Knows the desk, not engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.ground.errors import ChatError
from chat.terminal import talk
from chat.terminal.render import Span
from chat.terminal.room import options_for
from chat.terminal.status import loading_line

if TYPE_CHECKING:
    from chat.settings import Settings
    from chat.terminal.desk import Desk


def reload(desk: Desk, settings: Settings) -> None:
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
    talk.recount(desk)


def show_model(desk: Desk) -> None:
    """What is known of the model."""
    desk.room.wait()
    info = desk.room.info
    if info is None:
        return desk.tell(f"{desk.model_name} cannot be used")
    facts = {
        "file": info.path,
        "size": f"{info.size / 1e9:,.2f} GB" if info.size > 1e8 else f"{info.size / 1e6:,.1f} MB",
        "type": f"{info.type}, {info.architecture}",
        "context": f"{info.context:,} tokens (trained on {info.trained_context:,})",
        "window": f"{info.window:,} tokens" if info.window else "none",
        "prompts": info.prompt_format,
        **{name.replace("_", " "): str(value) for name, value in info.details.items()},
    }
    width = max(len(name) for name in facts) + 2
    for name, value in facts.items():
        lines = desk.wrapped(value, indent=" " * width)
        desk.say((Span(f"{name:<{width}}", "dim"), *lines[0][1:]), *lines[1:])
    return desk.say(())
