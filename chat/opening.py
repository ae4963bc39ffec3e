"""Open what a room needs before it can begin: the model's file and the engine. The one place that picks an engine."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from chat import wiring
from chat.models.resolve import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chat.events import Replier
    from chat.layers import Layered
    from chat.settings import Settings


@contextmanager
def open_engine(settings: Settings, *, session: bool) -> Iterator[Replier]:
    """The engine that answers under these settings; it loads while the caller goes on, and is let go at the end.

    Raises:
        ChatError: the model is not there, or options contradict each other.
    """
    from chat.engine.client import LocalEngine

    options = wiring.engine_options(settings, resolve(settings.model), session=session, state_folder=None)
    engine = LocalEngine(options, log_file=settings.log_file)
    try:
        yield engine
    finally:
        engine.close()


def enter_session(layered: Layered) -> int:
    """Hold a terminal session with the engine that these settings name.

    Raises:
        ChatError: the model cannot be used at all.
    """
    from chat.engine.client import LocalEngine
    from chat.terminal.session import run_session

    log_file = layered.settings.log_file
    return run_session(lambda options: LocalEngine(options, log_file=log_file), layered)
