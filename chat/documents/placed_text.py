"""A text that grows, with the places of its pages, slides or rows."""

from __future__ import annotations

from chat.documents.document import Place
from chat.errors import DataError
from chat.system.terminal_text import counted

MOST_CHARACTERS = 64 << 20


class PlacedText:
    """What a reader makes of one document."""

    def __init__(self, name: str) -> None:
        """Begin without text; `name` of the document is for errors."""
        self.name = name
        self._parts: list[str] = []
        self._length = 0
        self.places: list[Place] = []
        self.warnings: list[str] = []
        self.pages: list[bytes] = []  # JPEG files of pages, where there is no text

    def add(self, text: str, place: str = "") -> None:
        """Put `text` at the end; it begins a place, if that is named.

        Raises:
            DataError: the document is too long.
        """
        if place:
            self.places.append(Place(self._length, place))
        self._parts.append(text)
        self._length += len(text)
        if self._length > MOST_CHARACTERS:
            raise DataError(f"{self.name}: has more than {MOST_CHARACTERS >> 20} million characters")

    def warn(self, words: str) -> None:
        """Note what the user should know of the document."""
        self.warnings.append(f"{self.name}: {words}")

    def note_pages(self, word: str, *, empty: int, hidden: int = 0) -> None:
        """Warn of pages without text and of hidden ones, when all are added as places.

        Args:
            word: "page" or "slide".
            empty: how many have no text.
            hidden: how many are hidden.

        Raises:
            DataError: none has text.
        """
        count = counted(len(self.places), word)
        if empty == len(self.places):
            raise DataError(f"{self.name}: has no text, only pictures on {count}")
        if hidden:
            self.warn(f"{counted(hidden, f'hidden {word}')} {'is' if hidden == 1 else 'are'} read, too")
        if empty:
            self.warn(f"{empty:,} of {count} have no text, only pictures")

    @property
    def text(self) -> str:
        """All of it, without blank lines at its end."""
        return "".join(self._parts).rstrip()
