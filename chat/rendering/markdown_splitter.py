"""Split a growing Markdown text into pieces that later text cannot change."""

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
    """A block, one item of a list, or one line of a fenced code block.

    Attributes:
        text: its lines.
        joined: whether it follows the piece before without an empty line.
        language: the language of a line of code, empty if none is named; None for other pieces.
        is_fence: whether it is the line that opens or closes a code block.
    """

    text: str
    joined: bool = False
    language: str | None = None
    is_fence: bool = False


@dataclass(frozen=True)
class _Fence:
    mark: str
    language: str
    indent: int  # columns that its lines lose

    def is_closed_by(self, line: str) -> bool:
        found = FENCE.match(line)
        if found is None:
            return False
        mark, rest = found[1] or found[3], found[2] or found[4] or ""
        return mark.startswith(self.mark) and not rest.strip(" \t")

    def content(self, line: str) -> str:
        """A line without the fence's indentation. Source: CommonMark 0.31, sections 2.2 and 4.5."""
        index = columns = 0
        while columns < self.indent and index < len(line) and line[index] in " \t":
            columns += 4 - columns % 4 if line[index] == "\t" else 1
            index += 1
        return " " * (columns - self.indent) + line[index:]  # a tab that is wider leaves spaces


def shown_again(text: str, line_ends: int) -> str:
    """What stands for an unfinished piece where the answer goes on below it: its end is on the screen already.

    An ellipsis for a paragraph, the last item of a list, and all of a table or a quote, whose rest needs its beginning.

    Args:
        text: of the piece, which is no code.
        line_ends: how many follow it: what goes on begins a line of its own if there are any.
    """
    after = "\n" * line_ends
    if [token.type for token in block_tokens(text) if token.level == 0] == ["paragraph_open", "paragraph_close"]:
        return "" if after else "…"
    lines = text.split("\n")
    items = [index for index, line in enumerate(lines) if ITEM.match(line) and not line.startswith(" ")]
    is_list = bool(items) and items[0] == 0
    return ("\n".join(lines[items[-1] :]) if is_list else text) + after


class MarkdownSplitter:
    """Takes text as it comes, and gives each piece once it is finished.

    The text is split only where the Markdown parser begins a block or an item of a list, so that the pieces have the
    same blocks as the whole text. Line ends are `\\n`.
    """

    def __init__(self) -> None:
        self._partial_line = ""
        self._lines: list[str] = []  # of the unfinished block or list item
        self._blanks: list[str] = []  # empty lines after them
        self._in_list = False
        self._joined = False
        self._next_parse = 0  # how many lines the piece has when it is parsed again
        self._fence: _Fence | None = None
        self._finished: list[MarkdownPiece] = []

    @property
    def pending(self) -> MarkdownPiece | None:
        """The unfinished piece; None if there is none."""
        if self._fence is not None:
            if not self._partial_line:
                return None
            return MarkdownPiece(self._fence.content(self._partial_line), True, self._fence.language)
        lines = [*self._lines, *([*self._blanks, self._partial_line] if self._partial_line else [])]
        return MarkdownPiece("\n".join(lines), self._joined) if lines else None

    def feed(self, text: str) -> list[MarkdownPiece]:
        """Add text, and give the pieces that it finished."""
        *lines, self._partial_line = (self._partial_line + text).split("\n")
        for line in lines:
            self._add_line(line)
        return self._take_finished()

    def close(self) -> list[MarkdownPiece]:
        """End the text, and give the last pieces."""
        if self._partial_line:
            line, self._partial_line = self._partial_line, ""
            self._add_line(line)
        self._finish_piece()
        return self._take_finished()

    def _take_finished(self) -> list[MarkdownPiece]:
        finished, self._finished = self._finished, []
        return finished

    def _add_line(self, line: str) -> None:
        if self._fence is not None:
            self._add_code(self._fence, line)
        elif not line.strip(" \t"):
            self._add_blank(line)
        elif self._may_begin_block(line) and self._begins_block(line):
            self._begin_piece(line)
        else:
            self._gather(line)
            if not self._in_list and UNDERLINE.match(line) and self._ends_with("heading_close"):
                self._finish_piece()

    def _add_code(self, fence: _Fence, line: str) -> None:
        if fence.is_closed_by(line):
            self._finished.append(MarkdownPiece(line.strip(), True, is_fence=True))
            self._fence = None
            return
        self._finished.append(MarkdownPiece(fence.content(line), True, fence.language))

    def _add_blank(self, line: str) -> None:
        """An empty line ends every block but lists and code."""
        if not self._lines:
            return
        if not self._in_list and not self._blanks and self._ends_with(*ENDED_BY_BLANK):
            self._finish_piece()
        else:
            self._blanks.append(line)

    def _may_begin_block(self, line: str) -> bool:
        """Whether the line has to be parsed; a cheap check."""
        if not self._lines:
            return True
        if self._in_list and line.startswith(("  ", "\t")):
            return False
        return bool(self._blanks) or any(pattern.match(line) for pattern in (ITEM, FENCE, HEADING, RULE, QUOTE))

    def _begins_block(self, line: str) -> bool:
        """Whether a block of the text, or an item of its list, begins with this line."""
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
        """Whether the empty lines at the end are code, of a fence in a list item that was never closed."""
        tokens = block_tokens("\n".join([*self._lines, *self._blanks, ""]))
        return any(token.type == "fence" and token.map and token.map[1] > len(self._lines) for token in tokens)

    def _tokens(self, lines: list[str]) -> list[Token]:
        """The tokens of these lines; none if too few lines were added to a long piece, so that the time is linear."""
        if len(lines) < self._next_parse:
            return []
        self._next_parse = len(lines) + len(lines) // 4 if len(lines) > 64 else 0
        return block_tokens("\n".join(lines))

    def _begin_piece(self, line: str) -> None:
        """The first line of a block or of a list item."""
        if ITEM.match(line) and not RULE.match(line):
            self._begin_item(line)
            return
        self._finish_piece()
        if fence := FENCE.match(line):
            words = (fence[2] or fence[4] or "").split()
            indent = len(line) - len(line.lstrip(" "))
            self._fence = _Fence(fence[1] or fence[3], words[0].lower() if words else "", indent)
            self._finished.append(MarkdownPiece(line.strip(), is_fence=True))
            return
        self._gather(line)
        if HEADING.match(line) or RULE.match(line):
            self._finish_piece()

    def _begin_item(self, line: str) -> None:
        joined = self._in_list and not self._blanks
        self._finish_piece()
        self._in_list = True
        self._joined = joined
        self._gather(line)

    def _gather(self, line: str) -> None:
        self._lines += [*self._blanks, line]
        self._blanks = []

    def _finish_piece(self) -> None:
        if self._lines:
            blanks = [*self._blanks, ""] if self._blanks and self._ends_in_open_fence() else []
            self._finished.append(MarkdownPiece("\n".join([*self._lines, *blanks]), self._joined))
        self._lines, self._blanks, self._in_list, self._joined, self._next_parse = [], [], False, False, 0
