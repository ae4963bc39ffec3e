"""A text that is attached to a message, with its name, and where its pages begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from chat.system.characters import fence_around, whole_characters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.core.conversation import Picture


class Place(NamedTuple):
    """Where a page, a chapter, a slide or a row begins."""

    start: int  # characters before it
    label: str  # such as "page 3"


@dataclass(frozen=True)
class Document:
    """A text that is attached to a message.

    Attributes:
        name: what the user knows it by: a file's name, a path in a folder, an address, a command.
        text: what the model gets.
        source: absolute path, address or command, by which it is known again.
        kind: the word before its name.
        language: stands behind the fence.
        places: where its pages begin; empty if it has none.
        warnings: what could not be read, and what else the user should know.
        parts: the files of a folder, whose own text is a tree of them.
        picture: of a file that is a picture, which has no text.
        pages: pictures of the pages of a document without text, such as a scan.
    """

    name: str
    text: str
    source: str = ""
    kind: str = "File"
    language: str = ""
    places: tuple[Place, ...] = ()
    warnings: tuple[str, ...] = ()
    parts: tuple[Document, ...] = ()
    picture: Picture | None = None
    pages: tuple[Picture, ...] = ()

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """What a model sees in place of text; empty for a text."""
        return self.pages if self.picture is None else (self.picture,)

    def __post_init__(self) -> None:
        """Keep no halves of characters, which names of files, notebooks and e-mails may have: no prompt can."""
        for name in ("name", "text"):
            object.__setattr__(self, name, whole_characters(getattr(self, name)))

    def all_text(self) -> str:
        """The text, and that of its parts."""
        return "\n".join([self.text, *(part.text for part in self.parts)])

    def fenced(self) -> str:
        """The text as a block with its name, in a fence longer than any in it; then the blocks of its parts."""
        fence = fence_around(self.text)
        body = self.text if self.text.endswith("\n") else self.text + "\n"
        block = f"{self.kind} `{self.name}`:\n{fence}{self.language}\n{body}{fence}"
        return "\n\n".join([block, *(part.fenced() for part in self.parts)])


def texts_of(documents: Sequence[Document]) -> list[Document]:
    """The documents that are no pictures."""
    return [document for document in documents if not document.pictures]


def pictures_of(documents: Sequence[Document]) -> tuple[Picture, ...]:
    """The pictures among documents."""
    return tuple(picture for document in documents for picture in document.pictures)
