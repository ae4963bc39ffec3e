"""Lay Markdown out as styled lines of a given width. Knows the tree of a text, not how it came or where it goes."""

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
CONTEXT_LINES, LONGEST_LINES = 6, 80  # of code above a line that its colours depend on, as a rule and at most
BULLETS = ("•", "◦", "▪")
DEEPEST = 20  # levels of lists that are still indented


def markdown_lines(text: str, width: int) -> list[Line]:
    """A Markdown text as lines of at most `width` columns; only code may be longer, so that it copies as it is."""
    tree = parse_markdown(text)
    return wrap((Span(text),), width) if tree is None else _blocks(tree.children, width, 0)


def closed(text: str) -> str:
    """A growing text with its last open emphasis or code closed, so that marks do not show until they are."""
    last = text.rpartition("\n\n")[2]
    if last.count("`") % 2:
        return text.removesuffix("`") if text.endswith("`") else text + "`"
    bold = re.sub(r"`[^`]*`", "", last).count("**")
    if bold % 2:
        return text[:-2] if text.endswith("**") else text.rstrip().removesuffix("*") + "**"
    return text


class Code:
    """The lines of a fence, coloured one by one nearly as if all of it were coloured at once."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._above: list[str] = []
        self._fresh: list[bool] = []  # whether each line above begins outside of strings and comments
        self._is_fresh = True

    def peek(self, text: str) -> Line:
        """A line that may still change."""
        return self._coloured(text)[0]

    def take(self, text: str) -> Line:
        """The next line for good."""
        line, goes_on = self._coloured(text)
        self._above.append(text)
        self._fresh.append(self._is_fresh)
        self._is_fresh = not goes_on
        latest = len(self._above) - CONTEXT_LINES
        start = max((at for at, fresh in enumerate(self._fresh) if fresh and at <= latest), default=0)
        start = max(start, len(self._above) - LONGEST_LINES)
        del self._above[:start], self._fresh[:start]
        return line

    def _coloured(self, text: str) -> tuple[Line, bool]:
        lines, goes_on = highlight("\n".join([*self._above, text]).expandtabs(4), self._language)
        return lines[-1], goes_on


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
    """Lines that are only indented: as they were written, because they are often no code."""
    return [plain(f"    {line}" if line else "") for line in node.content.removesuffix("\n").expandtabs(4).split("\n")]


def _quote(node: SyntaxTreeNode, width: int, depth: int) -> list[Line]:
    if depth >= DEEPEST or width < 4:
        return _blocks(node.children, width, depth)
    return [(Span("│ ", "dim"), *line) for line in _blocks(node.children, width - 2, depth)]


def _list(node: SyntaxTreeNode, width: int, depth: int) -> list[Line]:
    lines: list[Line] = []
    number = int(node.attrs.get("start", 1))
    for item in node.children:
        bullet = BULLETS[min(depth, len(BULLETS) - 1)]
        marker = f"{number}. " if node.type == "ordered_list" else f"{bullet} "
        lines += _hanging(marker, item, width, depth)
        number += 1
    return lines


def _hanging(marker: str, item: SyntaxTreeNode, width: int, depth: int) -> list[Line]:
    """An item's blocks, indented by the width of its marker."""
    indent = cell_width(marker)
    if depth >= DEEPEST or width - indent < 4:
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
    """The text below a node; a line break of the source stays one, as in poems and addresses."""
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
