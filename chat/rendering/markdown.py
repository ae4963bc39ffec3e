"""Render Markdown as styled lines of a given width."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from chat.rendering.styled_text import Line, Span, cell_width, highlight, parse_markdown, plain, text_of, wrap
from chat.rendering.tables import table_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from markdown_it.tree import SyntaxTreeNode

HEADING_STYLES = {"h1": "bold underline", "h2": "bold", "h3": "bold italic"}
INLINE_STYLES = {"strong": "bold", "em": "italic", "s": "strike", "link": "underline"}
CONTEXT_LINES, MAX_CONTEXT_LINES = 6, 80  # of code above a line that are highlighted with it
BULLETS = ("•", "◦", "▪")
MAX_DEPTH = 20  # of lists and quotes that are indented


def markdown_lines(text: str, width: int) -> list[Line]:
    """A Markdown text as lines of at most `width` columns; only code may be longer, so that it can be copied."""
    tree = parse_markdown(text)
    return wrap((Span(text),), width) if tree is None else _blocks(tree.children, width, 0)


def close_open_marks(text: str) -> str:
    """An unfinished text with its last bold or code mark closed, or removed if nothing follows it."""
    last_block = text.rpartition("\n\n")[2]
    if last_block.count("`") % 2:
        return text.removesuffix("`") if text.endswith("`") else text + "`"
    if re.sub(r"`[^`]*`", "", last_block).count("**") % 2:
        return text[:-2] if text.endswith("**") else text.rstrip().removesuffix("*") + "**"
    return text


class CodeHighlighter:
    """Highlights the lines of a code block one by one, with the lines above as context."""

    def __init__(self, language: str) -> None:
        """Begin a code block.

        Args:
            language: its name in lower case; empty if it has none.
        """
        self._language = language
        self._above: list[str] = []
        self._is_safe_start: list[bool] = []  # whether each line above begins outside of strings and comments
        self._next_is_safe = True

    def preview(self, text: str) -> Line:
        """The next line as far as it has come."""
        return self._highlighted(text)[0]

    def add(self, text: str) -> Line:
        """The next line, complete."""
        line, is_open = self._highlighted(text)
        self._above.append(text)
        self._is_safe_start.append(self._next_is_safe)
        self._next_is_safe = not is_open
        latest = len(self._above) - CONTEXT_LINES
        start = max((index for index, safe in enumerate(self._is_safe_start) if safe and index <= latest), default=0)
        start = max(start, len(self._above) - MAX_CONTEXT_LINES)
        del self._above[:start], self._is_safe_start[:start]
        return line

    def _highlighted(self, text: str) -> tuple[Line, bool]:
        lines, is_open = highlight("\n".join([*self._above, text]).expandtabs(4), self._language)
        return lines[-1], is_open


def _blocks(nodes: Sequence[SyntaxTreeNode], width: int, depth: int) -> list[Line]:
    lines: list[Line] = []
    for node in nodes:
        if lines and not node.hidden and not (node.type.endswith("_list") and depth):
            lines.append(())
        lines += BLOCKS.get(node.type, _unknown)(node, max(1, width), depth)
    return lines


def _paragraph(node: SyntaxTreeNode, width: int, depth: int) -> list[Line]:
    return wrap(_inline(node, ""), width)


def _heading(node: SyntaxTreeNode, width: int, depth: int) -> list[Line]:
    return wrap(_inline(node, HEADING_STYLES.get(node.tag, "italic")), width)


def _code(node: SyntaxTreeNode, width: int, depth: int) -> list[Line]:
    words = node.info.split()
    code = node.content.removesuffix("\n").expandtabs(4)
    lines = highlight(code, words[0].lower() if words else "")[0] if node.content else []
    return [plain(node.markup + "".join(words[:1]), "dim"), *lines, plain(node.markup, "dim")]


def _indented(node: SyntaxTreeNode, width: int, depth: int) -> list[Line]:
    """Lines that are only indented, as they were written, because they are often not code."""
    return [plain(f"    {line}" if line else "") for line in node.content.removesuffix("\n").expandtabs(4).split("\n")]


def _quote(node: SyntaxTreeNode, width: int, depth: int) -> list[Line]:
    if depth >= MAX_DEPTH or width < 4:
        return _blocks(node.children, width, depth)
    return [(Span("│ ", "dim"), *line) for line in _blocks(node.children, width - 2, depth)]


def _list(node: SyntaxTreeNode, width: int, depth: int) -> list[Line]:
    lines: list[Line] = []
    number = int(node.attrs.get("start", 1))
    for item in node.children:
        bullet = BULLETS[min(depth, len(BULLETS) - 1)]
        marker = f"{number}. " if node.type == "ordered_list" else f"{bullet} "
        lines += _list_item(marker, item, width, depth)
        number += 1
    return lines


def _list_item(marker: str, item: SyntaxTreeNode, width: int, depth: int) -> list[Line]:
    """The blocks of an item, indented by the width of its marker."""
    indent = cell_width(marker)
    if depth >= MAX_DEPTH or width - indent < 4:
        return _blocks(item.children, width, depth + 1)
    inside = _blocks(item.children, width - indent, depth + 1) or [()]
    rest = [(Span(" " * indent), *line) if line else line for line in inside[1:]]
    return [(Span(marker, "dim"), *inside[0]), *rest]


def _table(node: SyntaxTreeNode, width: int, depth: int) -> list[Line]:
    rows = [[_inline(cell, "") for cell in row.children] for part in node.children for row in part.children]
    styles = [str(cell.attrs.get("style", "")) for cell in node.children[0].children[0].children]
    return table_lines(rows, [style.removeprefix("text-align:") for style in styles], width)


def _rule(node: SyntaxTreeNode, width: int, depth: int) -> list[Line]:
    return [plain("─" * min(width, 40), "dim")]


def _unknown(node: SyntaxTreeNode, width: int, depth: int) -> list[Line]:
    return wrap((Span(node.content or "".join(text_of(_inline(child, "")) for child in node.children)),), width)


def _inline(node: SyntaxTreeNode, style: str) -> Line:
    return tuple(_spans(node, style))


def _spans(node: SyntaxTreeNode, style: str) -> Iterator[Span]:
    """The text of a node; a line break in the source stays one, as in poems and addresses."""
    if node.type == "text":
        yield Span(node.content, style)
    elif node.type in ("softbreak", "hardbreak"):
        yield Span("\n")
    elif node.type == "code_inline":
        yield Span(node.content, f"{style} cyan".strip())
    elif node.type == "image":
        yield Span(f"[{node.content}]({node.attrs.get('src', '')})", style)
    else:
        inner = f"{style} {INLINE_STYLES.get(node.type, '')}".strip()
        inside = [span for child in node.children for span in _spans(child, inner)]
        yield from inside
        if node.type == "link":
            address = str(node.attrs.get("href", ""))
            if address.removeprefix("mailto:") != text_of(tuple(inside)):
                yield Span(f" ({address})", f"{style} dim".strip())


BLOCKS: dict[str, Callable[[SyntaxTreeNode, int, int], list[Line]]] = {
    "paragraph": _paragraph,
    "heading": _heading,
    "fence": _code,
    "code_block": _indented,
    "blockquote": _quote,
    "bullet_list": _list,
    "ordered_list": _list,
    "table": _table,
    "hr": _rule,
}
