"""Open what a room needs before it can begin: the model's file and the engine. The one place that picks an engine."""

from __future__ import annotations

import os
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
    engine = _remote(settings) if settings.remote else _local(settings, session=session)
    try:
        yield engine
    finally:
        engine.close()


def _local(settings: Settings, *, session: bool) -> Replier:
    from chat.engine.client import LocalEngine

    options = wiring.engine_options(settings, resolve(settings.model), session=session, state_folder=None)
    return LocalEngine(options, log_file=settings.log_file)


def _remote(settings: Settings) -> Replier:
    from chat.remote.client import RemoteEngine
    from chat.remote.transport import server_at

    key = os.environ.get("MISTRAL_CHAT_REMOTE_KEY")
    return RemoteEngine(server_at(settings.remote or "", key, insecure=settings.insecure), settings.remote_model)


def enter_session(layered: Layered) -> int:
    """Hold a terminal session with the engine that these settings name.

    Raises:
        ChatError: the model cannot be used at all.
    """
    from chat.engine.client import LocalEngine
    from chat.terminal.session import run_session

    log_file = layered.settings.log_file
    return run_session(lambda options: LocalEngine(options, log_file=log_file), layered)
