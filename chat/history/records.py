"""A session without its messages: record, title, name."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chat.errors import UsageError
from chat.system.characters import whole_characters
from chat.system.terminal_text import escape_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chat.core.conversation import Conversation

SESSION_ID = re.compile(r"[0-9a-f]{8,64}")  # file names begin with an id, so it must not hold anything else
MAX_TITLE_LENGTH = 60  # characters
MAX_NAME_LENGTH = 100  # characters
SHORT_ID_LENGTH = 8  # characters of an id that lists show


@dataclass(frozen=True)
class SessionRecord:
    """A session without its messages.

    Attributes:
        id: 32 hexadecimal digits; empty for a session that is not stored.
        name: the name that the user gave it; unique.
        title: made from the first question.
        model: the model as the user named it.
        model_path: the model's file; empty for a server.
        system: the system prompt; empty for none, None for the model's own.
        settings: options that belong to the session, by name.
        created: seconds since 1970.
        updated: seconds since 1970.
        leaf: the id of the node up to which the conversation is shown; None is before the first message.
    """

    id: str
    name: str | None = None
    title: str = ""
    model: str = ""
    model_path: str = ""
    system: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    created: float = 0.0
    updated: float = 0.0
    leaf: str | None = None

    @property
    def label(self) -> str:
        """The name, else the beginning of the id."""
        return self.name or self.id[:SHORT_ID_LENGTH]


@dataclass(frozen=True)
class ListedSession(SessionRecord):
    """A session as a list shows it.

    Attributes:
        messages: how many messages the branch has that is shown.
    """

    messages: int = 0


def title_of(question: str) -> str:
    """The title of a session that begins with `question`: its first line with words, cut between words if too long."""
    lines = (line for line in question.splitlines() if not line.lstrip().startswith(("```", "~~~")))
    texts = (" ".join(line.split()).lstrip("#>*`- ") for line in lines)
    title = next((text for text in texts if text), "")
    if len(title) <= MAX_TITLE_LENGTH:
        return title
    cut = title[:MAX_TITLE_LENGTH]
    words, _, rest = cut.rpartition(" ")
    return (words if words and len(rest) < MAX_TITLE_LENGTH // 2 else cut[:-1]).rstrip(" ,;:.") + "…"


def branch_title(record: SessionRecord, conversation: Conversation) -> str:
    """The title of the branch that is shown: the session's, unless the branch begins with another question."""
    first = next((node for node in conversation.nodes.values() if node.message.role == "user"), None)
    shown = next((node for node in conversation.path() if node.message.role == "user"), None)
    return record.title if shown is None or shown is first else title_of(shown.message.summary)


def checked_name(name: str) -> str:
    """The name as it is stored.

    Raises:
        UsageError: it is empty, too long, or more than one line.
    """
    name = whole_characters(name.strip())
    if not name or len(name) > MAX_NAME_LENGTH or escape_line(name) != name:
        raise UsageError(
            f"`{escape_line(name[:MAX_NAME_LENGTH])}` cannot be a session's name",
            hint=f"use one line of 1 to {MAX_NAME_LENGTH} characters",
        )
    return name
