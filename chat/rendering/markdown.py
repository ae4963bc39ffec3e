"""Render Markdown as styled lines of a given width."""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import TYPE_CHECKING

from chat.rendering.styled_text import (
    Line,
    Span,
    highlight,
    line_width,
    parse_markdown,
    plain,
    text_of,
    wrap,
)
from chat.system.terminal_text import cell_width

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from markdown_it.tree import SyntaxTreeNode

HEADING_STYLES = {"h1": "bold underline", "h2": "bold", "h3": "bold italic"}
INLINE_STYLES = {"strong": "bold", "em": "italic", "s": "strike", "link": "underline"}
CONTEXT_LINES, MAX_CONTEXT_LINES = 6, 80  # of code above a line that are highlighted with it
BULLETS = ("•", "◦", "▪")
TASK_BOXES = {"[ ] ": "☐ ", "[x] ": "☑ ", "[X] ": "☑ "}
MAX_DEPTH = 20  # of lists and quotes that are indented
GAP = 2  # columns between columns
LEGIBLE_CELLS = 12  # a column may break words from this width on
_LINKED = re.compile(r"(?:https?://|mailto:)[!-~]+", re.IGNORECASE)
_MAILTO = re.compile(r"^mailto:", re.IGNORECASE)


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
        marker = f"{number}. " if node.type == "ordered_list" else task_box(item) or f"{bullet} "
        lines += _list_item(marker, item, width, depth)
        number += 1
    return lines


def task_box(item: SyntaxTreeNode) -> str:
    """The box of a list item that begins with `[ ]` or `[x]`, which its text loses; empty for another item.

    Source: GitHub Flavored Markdown, section 5.3.
    """
    paragraph = item.children[0] if item.children else None
    inline = paragraph.children[0] if paragraph is not None and paragraph.type == "paragraph" else None
    first = inline.children[0] if inline is not None and inline.children else None
    mark = first.content[:4] if first is not None and first.type == "text" else ""
    if mark not in TASK_BOXES or first is None or first.token is None:
        return ""
    first.token.content = first.content[4:]
    return TASK_BOXES[mark]


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


def is_linked(address: str) -> bool:
    """Whether a link to this address is clickable: it is on the web or an e-mail address, in printable ASCII."""
    return _LINKED.fullmatch(address) is not None


def is_named(address: str, text: str) -> bool:
    """Whether the text of a link does not tell its address."""
    return _MAILTO.sub("", address) != text


def link_text(node: SyntaxTreeNode) -> str:
    """The text of a link, as the screen shows it without the address."""
    return "".join(text_of(_inline(child, "")) for child in node.children)


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
        address = str(node.attrs.get("href", "")) if node.type == "link" else ""
        if is_linked(address):
            style = f"{style} link {address}".strip()
        inner = f"{style} {INLINE_STYLES.get(node.type, '')}".strip()
        inside = [span for child in node.children for span in _spans(child, inner)]
        yield from inside
        if node.type == "link" and is_named(address, text_of(tuple(inside))):
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


def table_lines(rows: Sequence[Sequence[Line]], aligned: Sequence[str], width: int) -> list[Line]:
    """Render a table.

    Args:
        rows: the cells of each row; the first row is the head.
        aligned: "left", "right", "center" or "" for each column.
        width: columns of the terminal.
    """
    columns = max(len(row) for row in rows)
    full = [[*row, *([()] * (columns - len(row)))] for row in rows]
    widths = _column_widths(full, width - GAP * (columns - 1))
    if widths is None:
        return _records(full, width)
    head, *body = full
    lines = _row([tuple(Span(s.text, f"{s.style} bold".strip()) for s in cell) for cell in head], aligned, widths)
    lines.append(plain((" " * GAP).join("─" * cells for cells in widths), "dim"))
    for row in body:
        lines += _row(row, aligned, widths)
    return lines


def _column_widths(rows: Sequence[Sequence[Line]], cells: int) -> list[int] | None:
    """Widths that fit into so many cells; the widest columns shrink first. None if one would be illegible."""
    columns = list(zip(*rows, strict=True))
    widths = [max(1, *(line_width(part) for cell in column for part in wrap(cell, 10_000))) for column in columns]
    lowest = [min(width, max(LEGIBLE_CELLS, _longest_word(column) if width <= 2 * LEGIBLE_CELLS else 0), cells)
              for width, column in zip(widths, columns, strict=True)]  # fmt: skip
    if sum(lowest) > cells:
        return None
    while (excess := sum(widths) - cells) > 0:
        slacks = [width - least for width, least in zip(widths, lowest, strict=True)]
        widest = slacks.index(max(slacks))
        second = sorted(slacks, reverse=True)[1] if len(slacks) > 1 else 0
        widths[widest] -= min(max(1, min(excess, slacks[widest] - second)), slacks[widest])
    return widths


def _longest_word(column: Sequence[Line]) -> int:
    words = [word for cell in column for word in text_of(cell).split()]
    return max((line_width(plain(word)) for word in words), default=1)


def _row(cells: Sequence[Line], aligned: Sequence[str], widths: Sequence[int]) -> list[Line]:
    """A row, with as many lines as its tallest cell."""
    wrapped = [wrap(cell, width) for cell, width in zip(cells, widths, strict=True)]
    lines = []
    for parts in zip_longest(*wrapped, fillvalue=()):
        line: list[Span] = []
        for index, (part, width) in enumerate(zip(parts, widths, strict=True)):
            before, after = _padding(width - line_width(part), aligned[index] if index < len(aligned) else "")
            is_last = index == len(widths) - 1
            line += [Span(" " * before), *part, Span("" if is_last else " " * (after + GAP))]
        lines.append(tuple(span for span in line if span.text))
    return lines


def _padding(cells: int, aligned: str) -> tuple[int, int]:
    """Empty cells before and after a part."""
    cells = max(0, cells)
    if aligned == "right":
        return cells, 0
    if aligned == "center":
        return cells // 2, cells - cells // 2
    return 0, cells


def _records(rows: Sequence[Sequence[Line]], width: int) -> list[Line]:
    """Each row as lines of "head: cell", with an empty line between rows."""
    head, *body = rows
    lines: list[Line] = []
    for row in body:
        if lines:
            lines.append(())
        for head_cell, cell in zip(head, row, strict=True):
            label = tuple(Span(span.text, "bold") for span in head_cell)
            lines += wrap((*label, Span(": " if label else ""), *cell), width)
    return lines or wrap(tuple(span for cell in head for span in (*cell, Span("  "))), width)
