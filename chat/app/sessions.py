"""Find or create the stored session that the settings name, and apply what is stored with it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from chat.app import request_builder
from chat.app.session_options import ORIGIN, apply_session, persisted_options
from chat.core.conversation import Conversation
from chat.errors import ModelError
from chat.models.resolve import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chat.config.options import Settings
    from chat.config.resolve import ResolvedSettings
    from chat.history.open_session import OpenSession
    from chat.history.records import SessionRecord
    from chat.history.store import Store


@contextmanager
def open_named_session(resolved: ResolvedSettings) -> Iterator[tuple[OpenSession, Settings]]:
    """Open the stored session that the settings name.

    Yields:
        The session, and the settings with its stored options.

    Raises:
        UsageError: the session's name is not allowed.
        ModelError: the session's model is missing.
    """
    from chat.history.open_session import OpenSession
    from chat.history.store import open_history

    with open_history(enabled=not resolved.settings.no_history) as store:
        record, resolved = find_session(store, resolved)
        conversation = load_conversation(store, record, resolved)
        yield OpenSession(store, conversation, record, persisted_options(resolved)), resolved.settings


def find_session(store: Store, resolved: ResolvedSettings) -> tuple[SessionRecord | None, ResolvedSettings]:
    """Find the session that the settings name, and apply its stored options.

    A new name creates a session. With `--continue` and no session, or without either option, there is none.

    Raises:
        ModelError: the session's model is missing.
        UsageError: the name is not allowed.
    """
    settings = resolved.settings
    record = None
    if settings.session is not None:
        record = store.find_named(settings.session)
        if record is None:
            system = Conversation(system=request_builder.system_prompt(settings))
            options = persisted_options(resolved)
            created = store.create(
                name=settings.session, model=settings.model or "", settings=options, conversation=system
            )
            return created, resolved
    elif settings.continue_last:
        record = store.latest()
    return record, resolved if record is None else _checked_model(apply_session(resolved, record))


def load_conversation(store: Store, record: SessionRecord | None, resolved: ResolvedSettings) -> Conversation:
    """The conversation of a session, with the system prompt of the settings.

    Raises:
        FileError: the system prompt's file cannot be read.
        DataError: that file is not UTF-8.
    """
    conversation = store.load(record.id)[1] if record else Conversation()
    return conversation.with_system(request_builder.system_prompt(resolved.settings))


def _checked_model(resolved: ResolvedSettings) -> ResolvedSettings:
    """The settings of a continued session.

    Raises:
        ModelError: its model is missing.
    """
    settings = resolved.settings
    if resolved.origins.get("model") == ORIGIN and not settings.remote:
        try:
            resolve(settings.model)
        except ModelError as error:
            hint = "`-m NAME` continues it with another model"
            raise ModelError(f"the session's model is gone: {error.message}", hint=hint) from error
    return resolved
