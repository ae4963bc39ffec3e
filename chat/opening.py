"""Open what a room needs before it can begin: the model's file and the engine. The one place that picks an engine."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from chat import wiring
from chat.models.resolve import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chat.events import Replier
    from chat.layers import Layered
    from chat.request import EngineOptions
    from chat.sessions.records import SessionRecord
    from chat.sessions.store import Store
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
    """Hold a terminal session with the engine and the stored session that these settings name.

    Raises:
        ChatError: the model cannot be used at all, or the session is not there.
    """
    from chat.ground.folders import config_folder, state_folder
    from chat.sessions.store import open_history
    from chat.terminal.session import Opening, run_session

    settings = layered.settings
    with open_history(enabled=not settings.no_history) as store:
        record = _session_to_go_on(store, settings)
        record, conversation = store.load(record.id) if record else (None, None)
        if record and record.model_path and not (settings.model or settings.remote):
            settings = replace(settings, model=record.model_path)
            layered = replace(layered, settings=settings, origins={**layered.origins, "model": "session"})
        opening = Opening(
            store,
            record,
            conversation,
            files=settings.file,
            config_file=config_folder() / "config.toml",
            state_folder=None if settings.no_history or not settings.state_cache else state_folder(),
        )
        return run_session(lambda options: _engine_of(options, settings), layered, opening)


def _engine_of(options: EngineOptions, settings: Settings) -> Replier:
    """The engine for a session, which may change the model by other options."""
    if settings.remote:
        return _remote(replace(settings, remote_model=options.model_path or None))
    from chat.engine.client import LocalEngine

    return LocalEngine(options, log_file=settings.log_file)


def _session_to_go_on(store: Store, settings: Settings) -> SessionRecord | None:
    """The stored session that the settings ask for; one of a new name is begun.

    Raises:
        UsageError: the name is impossible.
    """
    if settings.session:
        return store.find(settings.session) or store.create(name=settings.session, model=settings.model or "")
    return store.latest() if settings.continue_last else None
