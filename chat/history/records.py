"""What is known of a session besides its messages: record, title, name. Knows no database."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chat.errors import UsageError
from chat.system.terminal_text import escape_line

if TYPE_CHECKING:
    from collections.abc import Mapping

SESSION_ID = re.compile(r"[0-9a-f]{8,64}")  # also the beginning of file names: nothing else may come to the disk
TITLE_WIDTH = 60  # characters
LONGEST_NAME = 100  # characters
SHOWN_OF_ID = 8  # characters


@dataclass(frozen=True)
class SessionRecord:
    """A session without its messages; times are seconds since 1970."""

    id: str
    name: str | None = None  # unique, given by a person
    title: str = ""  # made from the first question
    model: str = ""  # as it was asked for
    model_path: str = ""
    system: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    created: float = 0.0
    updated: float = 0.0
    leaf: str | None = None
    messages: int = 0  # in the whole tree

    @property
    def label(self) -> str:
        """What a person calls it: the name, else the beginning of the id."""
        return self.name or self.id[:SHOWN_OF_ID]


def title_of(question: str) -> str:
    """A title for a session that begins with `question`: its first line that says something, cut between words."""
    said = (
        line for line in question.splitlines() if not line.lstrip().startswith(("```", "~~~"))
    )  # fences say nothing
    lines = (" ".join(line.split()).lstrip("#>*`- ") for line in said)
    line = next((line for line in lines if line), "")
    if len(line) <= TITLE_WIDTH:
        return line
    cut = line[:TITLE_WIDTH]
    words, _, rest = cut.rpartition(" ")
    return (words if words and len(rest) < TITLE_WIDTH // 2 else cut[:-1]).rstrip(" ,;:.") + "…"


def storable(text: str) -> str:
    """The text as UTF-8 can hold it: surrogate pairs are joined, lone surrogates become U+FFFD."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def checked_name(name: str) -> str:
    """The name as it is stored.

    Raises:
        UsageError: it is empty, too long, or would not print as one line.
    """
    name = storable(name.strip())
    if not name or len(name) > LONGEST_NAME or escape_line(name) != name:
        raise UsageError(
            f"`{escape_line(name[:LONGEST_NAME])}` cannot be a session's name",
            hint=f"use one line of 1 to {LONGEST_NAME} characters",
        )
    return name
