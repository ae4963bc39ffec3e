"""Cut a document into passages of a few paragraphs, each with the heading above it, its page and its line."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chat.documents.document import Document

LONGEST = 1000  # characters; a single paragraph that is longer is cut at the ends of sentences and lines
SHORTEST = 300  # a passage that is shorter gets the next paragraph, unless a heading parts them
_HEADING = re.compile(
    r"(#{1,6} .+|(?:chapter|section|part|§) ?[\divxlc.]+\b.{0,80}|\d+(?:\.\d+)*\.? {1,4}\S.{0,80})$", re.I
)
_PARAGRAPH = re.compile(r"[^\n]*\S[^\n]*(?:\n[^\n]*\S[^\n]*)*")
_SENTENCE_END = re.compile(r"(?<=[.!?…。！？])[\s\"”’)]+|\n")


@dataclass(frozen=True)
class Passage:
    """A part of a document.

    Attributes:
        document: number of the document in the search.
        start: characters before it.
        end: characters up to its end.
        heading: the last heading above it; empty if it has none.
        place: such as "page 3, line 40".
        text: what it says.
    """

    document: int
    start: int
    end: int
    heading: str
    place: str
    text: str


def all_passages(documents: Sequence[Document]) -> tuple[list[Document], list[Passage]]:
    """The documents with their parts, and the passages of all of them."""
    whole = [part for document in documents for part in (document, *document.parts)]
    return whole, [passage for number, each in enumerate(whole) for passage in passages_of(each, number)]


def passages_of(document: Document, number: int) -> list[Passage]:
    """The passages of a document, in its order; without those of its parts."""
    text = document.text
    starts = [place.start for place in document.places]
    lines = [match.start() for match in re.finditer("\n", text)]
    found = []
    for start, end, heading in _cut(text, set(starts)):
        line = bisect_right(lines, start - 1) + 1
        label = document.places[bisect_right(starts, start) - 1].label if starts and starts[0] <= start else ""
        place = label or f"line {line:,}"
        found.append(Passage(number, start, end, heading, place, text[start:end]))
    return found


def _cut(text: str, places: set[int]) -> Iterator[tuple[int, int, str]]:
    """Where passages begin and end, and the heading above each; none goes on after one of the places."""
    heading, start, end = "", -1, -1
    for first, last in _paragraphs(text):
        is_heading = _HEADING.match(text, first, last) is not None and "\n" not in text[first:last]
        is_parted = first in places or (is_heading and end - start >= SHORTEST // 3)
        if start >= 0 and (is_parted or last - start > LONGEST):
            yield start, end, heading
            start = -1
        if is_heading:
            heading = text[first:last].lstrip("#").strip()
        start, end = (first if start < 0 else start), last
    if start >= 0:
        yield start, end, heading


def _paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """Where paragraphs begin and end; a long one is cut into several."""
    for match in _PARAGRAPH.finditer(text):
        start, end = match.span()
        while end - start > LONGEST:
            ends = [each.end() for each in _SENTENCE_END.finditer(text, start + SHORTEST, start + LONGEST)]
            cut = ends[-1] if ends else start + LONGEST
            yield start, cut
            start = cut
        if start < end:
            yield start, end
