"""Open what a room needs before it can begin: the model's file and the engine. The one place that picks an engine."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from chat import wiring
from chat.conversation import Conversation
from chat.ground.errors import FileError, ModelError
from chat.guide import PATH as GUIDE_FILE
from chat.models.resolve import resolve
from chat.session_settings import ORIGIN, kept, with_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chat.events import Replier
    from chat.layers import Layered
    from chat.request import EngineOptions, Prompt
    from chat.sessions.book import Book
    from chat.sessions.records import SessionRecord
    from chat.sessions.store import Store
    from chat.settings import Settings
    from chat.terminal.modes import Modes


@contextmanager
def open_engine(settings: Settings, *, keeps_states: bool = False, prompt: Prompt | None = None) -> Iterator[Replier]:
    """The engine that answers one shots; it loads while the caller goes on, and is let go at the end.

    Args:
        keeps_states: save the engine's state for the session or the file that the prompt belongs to.
        prompt: the only one, if it is known: a long one is read by repacked rows.

    Raises:
        ChatError: the model is not there, or options contradict each other.
    """
    engine = _remote(settings) if settings.remote else _local(settings, prompt, keeps_states=keeps_states)
    try:
        yield engine
    finally:
        engine.close()


def _local(settings: Settings, prompt: Prompt | None, *, keeps_states: bool) -> Replier:
    from chat.engine.child import STDERR
    from chat.engine.client import LocalEngine

    folder = _state_folder(settings) if keeps_states else None
    options = wiring.engine_options(settings, resolve(settings.model), session=False, state_folder=folder)
    if prompt is not None and folder is None:  # what goes on from a state has little to read
        options = replace(options, first_prompt_bytes=prompt.length)
    log_file = settings.log_file or (STDERR if settings.verbose else None)
    return _guided(LocalEngine(options, log_file=log_file), options)


def _guided(engine: Replier, options: EngineOptions) -> Replier:
    """The engine; the guide is asked as it was taught to be."""
    if Path(options.model_path) != GUIDE_FILE:
        return engine
    from chat.guide.guided import Guided

    return Guided(engine)


def _remote(settings: Settings) -> Replier:
    from chat.remote.client import RemoteEngine
    from chat.remote.server import server_at

    key = os.environ.get("MISTRAL_CHAT_REMOTE_KEY")
    return RemoteEngine(server_at(settings.remote or "", key, insecure=settings.insecure), settings.remote_model)


@contextmanager
def open_book(layered: Layered) -> Iterator[tuple[Book, Settings]]:
    """The stored session that the settings ask for, and the settings with what belongs to that session.

    Raises:
        UsageError: the session's name is impossible.
    """
    from chat.sessions.book import Book
    from chat.sessions.store import open_history

    with open_history(enabled=not layered.settings.no_history) as store:
        record, layered = _session_of(store, layered)
        yield Book(store, _conversation(store, record, layered), record, kept(layered)), layered.settings


def enter_session(layered: Layered, modes: Modes) -> int:
    """Hold a terminal session with the engine and the stored session that these settings name.

    Args:
        modes: by which the terminal is held.

    Raises:
        ChatError: the model cannot be used at all, or the session is not there.
    """
    from chat.ground.folders import config_folder
    from chat.sessions.store import open_history
    from chat.terminal.session import Opening, run_session

    with open_history(enabled=not layered.settings.no_history) as store:
        base = layered
        record, layered = _session_of(store, base)
        if answers_as_guide(layered.settings):
            from chat.welcome import choose_model

            with modes.lent():
                model = choose_model()
            layered = replace(layered, settings=replace(layered.settings, model=model))
        settings = layered.settings
        opening = Opening(
            store,
            record,
            _conversation(store, record, layered),
            base,
            files=settings.file,
            config_file=config_folder() / "config.toml",
            state_folder=_state_folder(settings),
        )
        return run_session(lambda options: _engine_of(options, settings), layered, opening, modes)


def answers_as_guide(settings: Settings) -> bool:
    """Whether the guide answers because nobody named a model."""
    return settings.model is None and not settings.remote and resolve(None) == GUIDE_FILE


def _state_folder(settings: Settings) -> Path | None:
    """Where the engine's states are saved; None where nothing is to be stored, or there is no home to store it in."""
    from chat.ground.folders import state_folder

    if settings.no_history or not settings.state_cache:
        return None
    try:
        return state_folder()
    except FileError:
        return None


def _engine_of(options: EngineOptions, settings: Settings) -> Replier:
    """The engine for a session, which may change the model by other options."""
    if settings.remote:
        return _remote(replace(settings, remote_model=options.model_path or None))
    from chat.engine.client import LocalEngine

    return _guided(LocalEngine(options, log_file=settings.log_file), options)


def _session_of(store: Store, layered: Layered) -> tuple[SessionRecord | None, Layered]:
    """The session that the settings ask for, and the settings with what belongs to it.

    One of a new name is begun; without a session to go on with there is none yet.

    Raises:
        UsageError: the name is impossible.
    """
    settings = layered.settings
    record = None
    if settings.session is not None:
        record = store.find_named(settings.session)
        if record is None:
            system = Conversation(system=wiring.system_prompt(settings))
            begun = store.create(
                name=settings.session, model=settings.model or "", settings=kept(layered), conversation=system
            )
            return begun, layered
    elif settings.continue_last:
        record = store.latest()
    return record, layered if record is None else _with_model(with_session(layered, record))


def _with_model(layered: Layered) -> Layered:
    """The settings of a session that goes on, whose model has to be there still.

    Raises:
        ModelError: it is not.
    """
    settings = layered.settings
    if layered.origins.get("model") == ORIGIN and not settings.remote:
        try:
            resolve(settings.model)
        except ModelError as error:
            hint = "`-m NAME` goes on with it under another model"
            raise ModelError(f"the session's model is gone: {error.message}", hint=hint) from error
    return layered


def _conversation(store: Store, record: SessionRecord | None, layered: Layered) -> Conversation:
    """What was said in a session, under the system prompt that holds now."""
    conversation = store.load(record.id)[1] if record else Conversation()
    return conversation.with_system(wiring.system_prompt(layered.settings))
