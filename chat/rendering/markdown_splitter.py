"""Cut a growing Markdown text into pieces that will not change any more."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat.rendering.styled_text import block_tokens

if TYPE_CHECKING:
    from markdown_it.token import Token

FENCE = re.compile(r"^ {0,3}(?:(`{3,})([^`]*)|(~{3,})(.*))$")
HEADING = re.compile(r"^ {0,3}#{1,6}([ \t]|$)")
UNDERLINE = re.compile(r"^ {0,3}(=+|-+)[ \t]*$")
RULE = re.compile(r"^ {0,3}([-*_])[ \t]*(\1[ \t]*){2,}$")
ITEM = re.compile(r"^ {0,3}([-*+]|\d{1,9}[.)])([ \t]+|$)")
QUOTE = re.compile(r"^ {0,3}>")
ENDED_BY_BLANK = ("paragraph_close", "heading_close", "table_close", "blockquote_close", "hr")


@dataclass(frozen=True)
class MarkdownPiece:
    """Markdown that is complete: a block, one item of a list, or one line of a fence.

    `joined` pieces follow the one before without a blank line.
    """

    text: str
    joined: bool = False
    language: str | None = None  # of a line of code; "" where none was named
    is_fence: bool = False  # the line that opens or closes a fence


@dataclass(frozen=True)
class _Fence:
    mark: str
    language: str
    columns: int  # of its own indentation, which its lines lose

    def is_closed_by(self, line: str) -> bool:
        found = FENCE.match(line)
        if found is None:
            return False
        mark, rest = found[1] or found[3], found[2] or found[4] or ""
        return mark.startswith(self.mark) and not rest.strip(" \t")

    def content(self, line: str) -> str:
        """A line without the fence's indentation. Source: CommonMark 0.31, sections 2.2 and 4.5."""
        at = columns = 0
        while columns < self.columns and at < len(line) and line[at] in " \t":
            columns += 4 - columns % 4 if line[at] == "\t" else 1
            at += 1
        return " " * (columns - self.columns) + line[at:]  # a tab that reaches further leaves spaces


class MarkdownSplitter:
    """Text goes in as it comes; finished pieces come out once and in order; `pending` is the rest.

    The text is cut only where the parser of Markdown says that a block or an item of a list begins, so that the pieces
    hold the same blocks as the whole. Line ends are `\n`.
    """

    def __init__(self) -> None:
        self._partial = ""  # the line that has no end yet
        self._lines: list[str] = []  # of the block or list item being gathered
        self._blanks: list[str] = []  # empty lines since the last line gathered
        self._in_list = False
        self._joins = False
        self._next_look = 0  # lines to gather before the parser is asked again
        self._fence: _Fence | None = None
        self._out: list[MarkdownPiece] = []

    @property
    def pending(self) -> MarkdownPiece | None:
        """What is not finished, to be shown for now."""
        if self._fence is not None:
            if not self._partial:
                return None
            return MarkdownPiece(self._fence.content(self._partial), True, self._fence.language)
        partial = [*self._blanks, self._partial] if self._partial else []
        lines = [*self._lines, *partial]
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
        elif not line.strip(" \t"):
            self._take_blank(line)
        elif self._may_begin_block(line) and self._begins_block(line):
            self._take_start(line)
        else:
            self._gather(line)
            if not self._in_list and UNDERLINE.match(line) and self._ends_with("heading_close"):
                self._cut()

    def _take_code(self, fence: _Fence, line: str) -> None:
        if fence.is_closed_by(line):
            self._out.append(MarkdownPiece(line.strip(), True, is_fence=True))
            self._fence = None
            return
        self._out.append(MarkdownPiece(fence.content(line), True, fence.language))

    def _take_blank(self, line: str) -> None:
        """An empty line ends every block but lists and code."""
        if not self._lines:
            return
        if not self._in_list and not self._blanks and self._ends_with(*ENDED_BY_BLANK):
            self._cut()
        else:
            self._blanks.append(line)

    def _may_begin_block(self, line: str) -> bool:
        """Whether it is worth asking the parser."""
        if not self._lines:
            return True
        if self._in_list and line.startswith(("  ", "\t")):
            return False
        return bool(self._blanks) or any(rule.match(line) for rule in (ITEM, FENCE, HEADING, RULE, QUOTE))

    def _begins_block(self, line: str) -> bool:
        """Whether a block of the text or an item of its list begins with this line."""
        if not self._lines:
            return True
        lines = [*self._lines, *self._blanks, line]
        return any(
            token.map is not None
            and token.map[0] == len(lines) - 1
            and (token.level == 0 or (token.level == 1 and token.type == "list_item_open"))
            for token in self._tokens(lines)
        )

    def _ends_with(self, *types: str) -> bool:
        tokens = self._tokens(self._lines)
        return bool(tokens) and tokens[-1].type in types

    def _ends_in_open_fence(self) -> bool:
        """Whether the empty lines at the end are code: of a fence in a list item that was never closed."""
        lines = [*self._lines, *self._blanks, ""]
        tokens = block_tokens("\n".join(lines))
        return any(token.type == "fence" and token.map and token.map[1] > len(self._lines) for token in tokens)

    def _tokens(self, lines: list[str]) -> list[Token]:
        """The tokens of these lines; none where so few lines came since the last time that it would take too long."""
        if len(lines) < self._next_look:
            return []
        self._next_look = len(lines) + len(lines) // 4 if len(lines) > 64 else 0  # so that the time is linear
        return block_tokens("\n".join(lines))

    def _take_start(self, line: str) -> None:
        """The first line of a block or of a list item."""
        item = ITEM.match(line) is not None and not RULE.match(line)
        if item:
            self._begin_item(line)
            return
        self._cut()
        if fence := FENCE.match(line):
            words = (fence[2] or fence[4] or "").split()
            columns = len(line) - len(line.lstrip(" "))
            self._fence = _Fence(fence[1] or fence[3], words[0].lower() if words else "", columns)
            self._out.append(MarkdownPiece(line.strip(), is_fence=True))
            return
        self._gather(line)
        if HEADING.match(line) or RULE.match(line):
            self._cut()

    def _begin_item(self, line: str) -> None:
        goes_on = self._in_list
        loose = bool(self._blanks)
        self._cut()
        self._in_list = True
        self._joins = goes_on and not loose
        self._gather(line)

    def _gather(self, line: str) -> None:
        self._lines += [*self._blanks, line]
        self._blanks = []

    def _cut(self) -> None:
        if self._lines:
            blanks = [*self._blanks, ""] if self._blanks and self._ends_in_open_fence() else []
            self._out.append(MarkdownPiece("\n".join([*self._lines, *blanks]), self._joins))
        self._lines, self._blanks, self._in_list, self._joins, self._next_look = [], [], False, False, 0
