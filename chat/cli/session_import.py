"""Read exported sessions, and store them as new ones."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from chat.app.sessions import OF_THE_MODEL
from chat.documents.plain_text import decode
from chat.errors import DataError, FileError, UsageError
from chat.history.session_json import from_json, is_json_lines
from chat.system.text_files import read_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chat.core.conversation import Conversation
    from chat.history.records import SessionRecord
    from chat.history.store import Store
    from chat.system.environment import Environment

MOST_BYTES = 512 << 20  # of all sessions together


def read_exports(
    file: Path, environment: Environment
) -> Iterator[tuple[SessionRecord, Conversation] | DataError | FileError]:
    """Read the sessions of a file: one, or one on each line.

    Yields:
        A session, or the error in place of one that cannot be read.
    """
    try:
        if file == Path("-"):
            text = decode(environment.read_stdin(MOST_BYTES), "stdin").text
        else:
            text = read_text(file, MOST_BYTES)
    except (DataError, FileError) as error:
        yield error
        return
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if is_json_lines(text):
        places = [(f"{file}, line {number}", line) for number, line in lines]
    else:
        places = [(str(file), text)]
    for place, part in places:
        try:
            yield from_json(part)
        except DataError as error:
            yield DataError(f"{place}: {error.message}", hint=error.hint)


def take_in(store: Store, record: SessionRecord, conversation: Conversation, environment: Environment) -> SessionRecord:
    """Store an exported session, without its name if that is not free or not allowed."""
    # a file from another machine must not choose a server or an adapter
    settings = {key: value for key, value in record.settings.items() if key not in OF_THE_MODEL}
    now = time.time()
    created = min(record.created or now, now)

    def create(name: str | None) -> SessionRecord:
        return store.create(
            name=name,
            title=record.title,
            model=record.model,
            settings=settings,
            conversation=conversation,
            times=(created, max(created, min(record.updated or now, now))),
        )

    try:
        return create(record.name)
    except UsageError as error:
        environment.notify(f"{error.message}, so this one has no name")
        return create(None)
