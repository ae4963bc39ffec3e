"""Text that knows, character by character, whether a chat template or the conversation wrote it."""

from __future__ import annotations

from typing import TYPE_CHECKING, SupportsIndex

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DATA = "\0"  # the origin of a character that a user, a file, a tool or a model wrote, and of every untraced one
TEMPLATE = "\1"  # the origin of a character that the template wrote
FIRST_PART = 2  # origins from here on number parts of the conversation


class TracedText(str):
    """A string whose operations carry the origin of each character along.

    It equals, hashes and behaves like the plain string, so that a template cannot see a difference. Where an operation
    is not traced, its result is a plain string, and counts as data: origins are lost only to the safe side. The names
    that a template must not reach begin with an underscore, which the sandbox refuses.
    """

    __slots__ = ("_origins",)
    _origins: str

    def __new__(cls, text: str, origins: str | None = None) -> TracedText:
        """Trace a text.

        Args:
            text: the characters.
            origins: one character for each; None keeps those of `text`, which are `DATA` for a plain string.
        """
        self = super().__new__(cls, text)
        self._origins = origins_of(text) if origins is None else origins
        return self

    def __str__(self) -> str:
        return self

    def __add__(self, other: str) -> str:
        if hasattr(other, "__html__") or not isinstance(other, str):
            return NotImplemented
        return TracedText(str.__add__(self, other), self._origins + origins_of(other))

    def __radd__(self, other: str) -> str:
        if not isinstance(other, str):
            return NotImplemented
        return TracedText(str.__add__(other, self), origins_of(other) + self._origins)

    def __mul__(self, times: SupportsIndex) -> str:
        return TracedText(str.__mul__(self, times), self._origins * times)

    __rmul__ = __mul__

    def __mod__(self, values: object) -> str:
        pieces = str.split(self, "%s")
        many = values if isinstance(values, tuple) else (values,)
        if len(pieces) != len(many) + 1 or any("%" in piece for piece in pieces):
            return str.__mod__(self, values)
        return concat(part for pair in zip(self.split("%s"), (*map(str, many), ""), strict=True) for part in pair)

    def __getitem__(self, key: SupportsIndex | slice) -> str:
        return TracedText(str.__getitem__(self, key), self._origins[key])

    def __iter__(self) -> Iterator[str]:
        for character, origin in zip(str.__iter__(self), self._origins, strict=True):
            yield TracedText(character, origin)

    def strip(self, chars: str | None = None, /) -> str:
        return self.rstrip(chars).lstrip(chars)

    def lstrip(self, chars: str | None = None, /) -> str:
        return self[len(self) - len(str.lstrip(self, chars)) :]

    def rstrip(self, chars: str | None = None, /) -> str:
        return self[: len(str.rstrip(self, chars))]

    def removeprefix(self, prefix: str, /) -> str:
        return self[len(prefix) :] if str.startswith(self, prefix) else self

    def removesuffix(self, suffix: str, /) -> str:
        return self[: len(self) - len(suffix)] if suffix and str.endswith(self, suffix) else self

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._located(str.split(self, sep, maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._located(str.rsplit(self, sep, maxsplit), sep)

    def splitlines(self, keepends: bool = False) -> list[str]:
        whole = self._located(str.splitlines(self, True), "")
        return whole if keepends else [line[: len(str.splitlines(line)[0])] for line in whole]

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        before, found, after = self._located(list(str.partition(self, sep)), "")
        return before, found, after

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        before, found, after = self._located(list(str.rpartition(self, sep)), "")
        return before, found, after

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:
        if not old:
            return str.replace(self, old, new, count)
        position, origins = 0, []
        for part in str.split(self, old, count):
            origins.append(self._origins[position : position + len(part)])
            position += len(part) + len(old)
        return TracedText(str.replace(self, old, new, count), origins_of(new).join(origins))

    def join(self, texts: Iterable[str], /) -> str:
        parts = list(texts)
        return TracedText(str.join(self, parts), self._origins.join(map(origins_of, parts)))

    def lower(self) -> str:
        return self._recased(str.lower(self))

    def upper(self) -> str:
        return self._recased(str.upper(self))

    def title(self) -> str:
        return self._recased(str.title(self))

    def capitalize(self) -> str:
        return self._recased(str.capitalize(self))

    def _recased(self, text: str) -> str:
        """The same characters in another case; a text whose length changes is data."""
        return TracedText(text, self._origins if len(text) == len(self) else None)

    def _located(self, parts: list[str], sep: str | None) -> list[str]:
        """Parts of this text in their order, between which `sep` stands, or white space where it is None."""
        found: list[str] = []
        position = 0
        for part in parts:
            start = str.find(self, part, position) if sep is None else position
            found.append(self[start : start + len(part)])
            position = start + len(part) + len(sep or "")
        return found


def origins_of(text: str) -> str:
    """The origin of each character of a text."""
    return text._origins if isinstance(text, TracedText) else DATA * len(text)


def concat(parts: Iterable[str]) -> TracedText:
    """The texts one after the other."""
    texts = list(parts)
    return TracedText("".join(texts), "".join(map(origins_of, texts)))
