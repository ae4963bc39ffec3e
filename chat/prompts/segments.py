"""The parts that a prompt is made of. Values only; a vocabulary turns them into ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Control:
    """One control piece, by its name.

    `or_text`: where the vocabulary has no such piece the name itself is text, joined to what surrounds it.
    """

    piece: str
    or_text: bool = False


@dataclass(frozen=True)
class Text:
    """Text of a person, a file, a tool or a model: it never becomes a control id.

    Each text is encoded on its own, as mistral-common does; a `joined` one is encoded together with the text before it.
    """

    text: str
    joined: bool = False


@dataclass(frozen=True)
class Ids:
    """Ids that were generated: an answer goes back as what it was.

    Where they do not decode to text with all of `says` in it, because another vocabulary made them or the answer was
    edited since, the segments `instead` take their place.
    """

    ids: tuple[int, ...]
    says: tuple[str, ...] = field(default=(), compare=False)
    instead: tuple[Segment, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Mark:
    """The vocabulary's own BOS, where its model wants one, or its EOS."""

    name: Literal["bos", "eos"]


@dataclass(frozen=True)
class Markup:
    """A chat template's own words: names of control pieces in it are control pieces."""

    text: str


Segment = Control | Text | Ids | Mark | Markup
