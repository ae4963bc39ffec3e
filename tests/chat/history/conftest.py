"""A history with several sessions, for tests of damage, search and export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from chat.core.conversation import Conversation, Message
from chat.history.store import open_store

if TYPE_CHECKING:
    from pathlib import Path


class Fill(Protocol):
    """Writes a history and returns its conversations by the names of the sessions."""

    def __call__(self, path: Path, *, sessions: int = 6, turns: int = 30) -> dict[str, Conversation]: ...


@pytest.fixture(scope="session")
def filled_history() -> Fill:
    """Writes sessions with turns of about 600 bytes; they are in the file, not in the write-ahead log."""
    return _fill


def _fill(path: Path, *, sessions: int = 6, turns: int = 30) -> dict[str, Conversation]:
    written: dict[str, Conversation] = {}
    with open_store(path) as store:
        for session in range(sessions):
            conversation = Conversation(f"system of {session}")
            for turn in range(turns):
                conversation = conversation.add(
                    Message("user", f"question {turn} of session {session}; " * 12), f"{session}-{turn}-q"
                )
                answer = Message("assistant", f"answer {turn} of session {session}; " * 12, (session, turn), "stop")
                conversation = conversation.add(answer, f"{session}-{turn}-a")
            store.create(name=f"s{session}", conversation=conversation)
            written[f"s{session}"] = conversation
    return written
