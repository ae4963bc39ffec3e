"""Find the fenced code blocks of an answer, for `-x`, `--xl`, `/copy code` and the HTML export.

The parser is the one that the screen uses, so that the same blocks are shown, printed, copied and exported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat.rendering.styled_text import block_tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

    from markdown_it.token import Token


@dataclass(frozen=True)
class AnswerPart:
    """The content of a code block, or the text between two blocks."""

    text: str
    is_code: bool


def code_blocks(text: str) -> tuple[str, ...]:
    """The contents of all fenced code blocks in their order, those in list items and block quotes included.

    Source: CommonMark 0.31, section 4.5. A block that is never closed runs to the end of its container. HTML is text,
    as on the screen: a fence between tags is a fence. A block that is only indented (section 4.4) is left out: models
    indent poems, tables and badly nested lists that way, and a script that asks for code must not get those.

    Returns:
        Each content with `\\n` as line ends. One that is not empty ends with a newline.
    """
    return tuple(token.content for token in _fences(with_plain_line_ends(text)))


def split_at_code(text: str) -> Iterator[AnswerPart]:
    """Split a text at its code blocks, which are those of `code_blocks`.

    The fences are left out; a list marker or a quotation mark before an opening fence stays in the text.

    Yields:
        The parts in their order with `\\n` as line ends: text, code, text, ..., the texts maybe empty.
    """
    text = with_plain_line_ends(text)
    lines = text.split("\n")
    begin = 0
    for token in _fences(text):
        assert token.map is not None
        opening, end = token.map
        before = lines[begin:opening]
        marker = lines[opening].partition(token.markup)[0]
        yield AnswerPart("\n".join([*before, marker] if marker.strip() else before), is_code=False)
        yield AnswerPart(token.content, is_code=True)
        begin = end
    yield AnswerPart("\n".join(lines[begin:]), is_code=False)


def _fences(text: str) -> list[Token]:
    if "```" not in text and "~~~" not in text:
        return []  # spares the import of the parser
    return [token for token in block_tokens(text) if token.type == "fence"]


def with_plain_line_ends(text: str) -> str:
    """The text with `\\n` as line ends."""
    return re.sub(r"\r\n?", "\n", text)
