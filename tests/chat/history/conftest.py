"""A history worth damaging, searching and exporting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from chat.core.conversation import Conversation, Message
from chat.history.store import open_store

if TYPE_CHECKING:
    from pathlib import Path


class Fill(Protocol):
    """Writes a history and returns what is in it, by the sessions' names."""

    def __call__(self, path: Path, *, sessions: int = 6, turns: int = 30) -> dict[str, Conversation]: ...


@pytest.fixture(scope="session")
def filled_history() -> Fill:
    """Writes sessions with turns of about 600 bytes, checkpointed into the file."""
    return _fill


def _fill(path: Path, *, sessions: int = 6, turns: int = 30) -> dict[str, Conversation]:
    made: dict[str, Conversation] = {}
    with open_store(path) as store:
        for s in range(sessions):
            conversation = Conversation(f"system of {s}")
            for t in range(turns):
                conversation = conversation.add(Message("user", f"question {t} of session {s}; " * 12), f"{s}-{t}-q")
                answer = Message("assistant", f"answer {t} of session {s}; " * 12, (s, t), "stop")
                conversation = conversation.add(answer, f"{s}-{t}-a")
            store.create(name=f"s{s}", conversation=conversation)
            made[f"s{s}"] = conversation
    return made
