"""Cut a growing Markdown text into pieces that will not change any more. Knows lines, not rendering."""

from __future__ import annotations

import re
from dataclasses import dataclass

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[ \t]*([^`]*)$")
HEADING = re.compile(r"^ {0,3}#{1,6}([ \t]|$)")
UNDERLINE = re.compile(r"^ {0,3}(=+|-+)[ \t]*$")
RULE = re.compile(r"^ {0,3}([-*_])[ \t]*(\1[ \t]*){2,}$")
ITEM = re.compile(r"^ {0,1}([-*+]|\d{1,9}[.)])([ \t]+|$)")
QUOTE = re.compile(r"^ {0,3}>")


@dataclass(frozen=True)
class MarkdownPiece:
    """Markdown that is complete: a block, one item of a list, or one line of a fence.

    `joined` pieces follow the one before without a blank line.
    """

    text: str
    joined: bool = False
    language: str | None = None  # of a line of code; "" where none was named
    is_fence: bool = False  # the line that opens or closes a fence


@dataclass
class _Fence:
    mark: str
    language: str

    def is_closed_by(self, line: str) -> bool:
        bare = line.strip()
        return len(bare) >= len(self.mark) and set(bare) == {self.mark[0]} and len(line) - len(line.lstrip()) < 4


class MarkdownSplitter:
    """Text goes in as it comes; finished pieces come out once and in order; `pending` is the rest."""

    def __init__(self) -> None:
        self._partial = ""  # the line that has no end yet
        self._lines: list[str] = []  # of the block or list item being gathered
        self._in_list = False
        self._blank = False  # a blank line was seen since the last line gathered
        self._joins = False
        self._fence: _Fence | None = None
        self._out: list[MarkdownPiece] = []

    @property
    def pending(self) -> MarkdownPiece | None:
        """What is not finished, to be shown for now."""
        if self._fence is not None:
            if not self._partial:
                return None
            return MarkdownPiece(self._partial, True, self._fence.language)
        blank = [""] if self._blank and self._lines and self._partial else []
        lines = [*self._lines, *blank, *([self._partial] if self._partial else [])]
        return MarkdownPiece("\n".join(lines), self._joins) if lines else None

    def feed(self, text: str) -> list[MarkdownPiece]:
        """Take more text and give the pieces it finished."""
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            self._take(line)
        return self._drain()

    def close(self) -> list[MarkdownPiece]:
        """Finish: the rest as pieces."""
        if self._partial:
            line, self._partial = self._partial, ""
            self._take(line)
        self._cut()
        return self._drain()

    def _drain(self) -> list[MarkdownPiece]:
        out, self._out = self._out, []
        return out

    def _take(self, line: str) -> None:
        if self._fence is not None:
            self._take_code(self._fence, line)
        elif not line.strip():
            self._take_blank()
        elif self._in_list and self._goes_on_in_item(line):
            self._gather(line)
        else:
            self._take_start(line)

    def _take_code(self, fence: _Fence, line: str) -> None:
        if fence.is_closed_by(line):
            self._out.append(MarkdownPiece(line.strip(), True, is_fence=True))
            self._fence = None
            return
        self._out.append(MarkdownPiece(line, True, fence.language))

    def _take_blank(self) -> None:
        self._blank = True
        if not self._in_list:
            self._cut()

    def _goes_on_in_item(self, line: str) -> bool:
        if line.startswith(("  ", "\t")):
            return True
        starts_block = any(rule.match(line) for rule in (ITEM, FENCE, HEADING, RULE, QUOTE))
        return not self._blank and not starts_block

    def _take_start(self, line: str) -> None:
        """A line that begins something, or goes on with a paragraph."""
        if fence := FENCE.match(line):
            self._cut()
            self._fence = _Fence(fence[1], fence[2].split()[0].lower() if fence[2].split() else "")
            self._out.append(MarkdownPiece(line.strip(), is_fence=True))
        elif HEADING.match(line):
            self._cut()
            self._gather(line)
            self._cut()
        elif self._lines and not self._in_list and UNDERLINE.match(line):  # a heading by underlining
            self._gather(line)
            self._cut()
        elif RULE.match(line):
            self._cut()
            self._gather(line)
            self._cut()
        elif (item := ITEM.match(line)) and (self._in_list or not self._lines or item[1] in "-*+1.1)"):
            self._begin_item(line)
        else:
            if self._in_list:
                self._cut()
            self._gather(line)

    def _begin_item(self, line: str) -> None:
        goes_on = self._in_list
        loose = self._blank
        self._cut()
        self._in_list = True
        self._joins = goes_on and not loose
        self._gather(line)

    def _gather(self, line: str) -> None:
        if self._blank and self._lines:
            self._lines.append("")
        self._blank = False
        self._lines.append(line)

    def _cut(self) -> None:
        if self._lines:
            self._out.append(MarkdownPiece("\n".join(self._lines), self._joins))
        self._lines, self._in_list, self._joins, self._blank = [], False, False, False
