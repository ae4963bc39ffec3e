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
    r"[ \t]*(#{1,6} .+|(?:chapter|section|part|§) ?[\divxlc.]+\b.{0,80}|\d+(?:\.\d+)*\.? {1,4}\S.{0,80})$", re.I
)
_PARAGRAPH = re.compile(r"[^\n]*\S[^\n]*(?:\n[^\n]*\S[^\n]*)*")
_ROW_END = re.compile(r"\n")
_TABLES = ("csv", "tsv")  # languages of documents that are one table
LONGEST_HEAD = 200  # characters of a table's first row that stand above a part of it
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
    for start, end, heading in _cut(text, set(starts), is_table=document.language in _TABLES):
        line = bisect_right(lines, start - 1) + 1
        label = document.places[bisect_right(starts, start) - 1].label if starts and starts[0] <= start else ""
        place = label or f"line {line:,}"
        found.append(Passage(number, start, end, heading, place, text[start:end]))
    return found


def _cut(text: str, places: set[int], *, is_table: bool) -> Iterator[tuple[int, int, str]]:
    """Where passages begin and end, and the heading above each; none goes on after one of the places.

    What is above a part of a table is also the table's first row.
    """
    heading, above, start, end = "", "", -1, -1
    is_title = False
    for first, last, head in _paragraphs(text, is_table=is_table):
        is_heading = _HEADING.match(text, first, last) is not None and "\n" not in text[first:last]
        is_parted = first in places or (is_heading and end - start >= SHORTEST // 3)
        is_full = last - start > LONGEST and not is_title
        if start >= 0 and (is_parted or is_full):
            yield start, end, above
            start = -1
        is_title = is_heading and (start < 0 or is_title)  # so far the passage is only headings
        if is_heading:
            heading = text[first:last].strip().lstrip("#").strip()
        if start < 0:
            start, above = first, f"{heading}: {head}" if heading and head else heading or head
        elif is_heading:
            above = heading
        end = last
    if start >= 0:
        yield start, end, above


def _paragraphs(text: str, *, is_table: bool) -> Iterator[tuple[int, int, str]]:
    """Where paragraphs begin and end, long ones cut into several; and the first row of a table that goes on."""
    for match in _PARAGRAPH.finditer(text):
        start, end = match.span()
        row = match.group().partition("\n")[0]
        is_rows = is_table or row.startswith("|")
        head = ""
        while end - start > LONGEST:
            borders = (_ROW_END if is_rows else _SENTENCE_END).finditer(text, start + SHORTEST, start + LONGEST)
            ends = [each.end() for each in borders]
            cut = ends[-1] if ends else start + LONGEST
            yield start, cut, head
            start = cut
            head = row.strip("| ")[:LONGEST_HEAD] if is_rows else ""
        if start < end:
            yield start, end, head
