"""Render Markdown as HTML, by the rules by which the screen shows it. All text is escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from chat.rendering.code_blocks import split_at_code, with_plain_line_ends
from chat.rendering.markdown import is_linked, is_named, link_text, task_box
from chat.rendering.styled_text import highlight, parse_markdown, text_of
from chat.system.terminal_text import escape_control_characters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from markdown_it.tree import SyntaxTreeNode

INLINE_TAGS = {"strong": "strong", "em": "em", "s": "s"}
HEADING_TAGS = {"h1": "h3", "h2": "h4", "h3": "h5"}  # the page has the first two levels


def markdown_html(text: str) -> str:
    """The blocks of a Markdown text as HTML without scripts, images and style attributes.

    Links lead to http, https and mailto alone; the address of any other one is shown as text. A text that is nested too
    deep for the parser is shown as it was written.
    """
    text = escape_control_characters(with_plain_line_ends(text))
    tree = parse_markdown(text)
    return plain_html(text) if tree is None else _blocks(tree.children)


def plain_html(text: str) -> str:
    """A text as it was written, and its code blocks, as HTML."""
    return "".join(code_html(part.text) if part.is_code else text_html(part.text) for part in split_at_code(text))


def text_html(text: str) -> str:
    """A text with its line breaks as HTML; nothing for an empty one."""
    text = text.strip("\n")
    return f'<div class="text" dir="auto">{_escaped(text)}</div>' if text else ""


def code_html(code: str, language: str = "") -> str:
    """A code block as HTML.

    Args:
        code: its lines.
        language: its name, for highlighting and as a label; empty for none.
    """
    code = escape_control_characters(code.removesuffix("\n"))
    lines = highlight(code, language.lower())[0]
    if "\n".join(map(text_of, lines)) == code:
        shown = "\n".join("".join(_span(span.text, span.style) for span in line) for line in lines)
    else:  # the lexer changed the text
        shown = _escaped(code)
    label = f'<span class="language">{_escaped(language)}</span>' if language else ""
    return f'<div class="code">{label}<pre><code>{shown}</code></pre></div>'


def _span(text: str, style: str) -> str:
    return f'<span class="{escape(style)}">{_escaped(text)}</span>' if style else _escaped(text)


def _escaped(text: str) -> str:
    return escape(escape_control_characters(text))


def _blocks(nodes: Sequence[SyntaxTreeNode]) -> str:
    return "".join(BLOCKS.get(node.type, _unknown)(node) for node in nodes)


def _paragraph(node: SyntaxTreeNode) -> str:
    inside = _inlines(node.children)
    return inside if node.hidden else _p(inside)


def _p(inside: str) -> str:
    return f'<p dir="auto">{inside}</p>'


def _heading(node: SyntaxTreeNode) -> str:
    tag = HEADING_TAGS.get(node.tag, "h6")
    return f'<{tag} dir="auto">{_inlines(node.children)}</{tag}>'


def _code(node: SyntaxTreeNode) -> str:
    return code_html(node.content, "".join(node.info.split()[:1]))


def _indented(node: SyntaxTreeNode) -> str:
    """Lines that are only indented, as they were written, because they are often not code."""
    return text_html("\n".join(f"    {line}" if line else "" for line in node.content.split("\n")))


def _quote(node: SyntaxTreeNode) -> str:
    return f"<blockquote>{_blocks(node.children)}</blockquote>"


def _list(node: SyntaxTreeNode) -> str:
    if node.type == "bullet_list":
        return f"<ul>{''.join(_item(item, task_box(item)) for item in node.children)}</ul>"
    start = int(node.attrs.get("start", 1))
    beginning = "<ol>" if start == 1 else f'<ol start="{start}">'
    return f"{beginning}{''.join(_item(item, '') for item in node.children)}</ol>"


def _item(node: SyntaxTreeNode, box: str) -> str:
    if not box:
        return f'<li dir="auto">{_blocks(node.children)}</li>'
    first, *rest = node.children  # the paragraph whose beginning the box stands for
    inside = box + _inlines(first.children)
    return f'<li class="task" dir="auto">{inside if first.hidden else _p(inside)}{_blocks(rest)}</li>'


def _table(node: SyntaxTreeNode) -> str:
    rows = "".join(_row(row) for part in node.children for row in part.children)
    return f'<div class="table"><table>{rows}</table></div>'


def _row(node: SyntaxTreeNode) -> str:
    cells = []
    for cell in node.children:
        aligned = str(cell.attrs.get("style", "")).removeprefix("text-align:")
        chosen = f' class="{aligned}"' if aligned in ("left", "right", "center") else ""
        cells.append(f'<{cell.tag}{chosen} dir="auto">{_inlines(cell.children)}</{cell.tag}>')
    return f"<tr>{''.join(cells)}</tr>"


def _rule(_: SyntaxTreeNode) -> str:
    return "<hr>"


def _unknown(node: SyntaxTreeNode) -> str:
    return f'<p dir="auto">{_escaped(node.content) or _inlines(node.children)}</p>'


def _inlines(nodes: Sequence[SyntaxTreeNode]) -> str:
    return "".join(map(_inline, nodes))


def _inline(node: SyntaxTreeNode) -> str:
    """The text of a node; a line break in the source stays one, as in poems and addresses."""
    if node.type == "text":
        return _escaped(node.content)
    if node.type in ("softbreak", "hardbreak"):
        return "<br>\n"
    if node.type == "code_inline":
        return f"<code>{_escaped(node.content)}</code>"
    if node.type == "image":  # nothing is fetched
        return _escaped(f"[{node.content}]({node.attrs.get('src', '')})")
    inside = _inlines(node.children) if node.children else ""
    if node.type == "link":
        return _link(node, inside)
    tag = INLINE_TAGS.get(node.type)
    return f"<{tag}>{inside}</{tag}>" if tag else inside or _escaped(node.content)


def _link(node: SyntaxTreeNode, inside: str) -> str:
    address = str(node.attrs.get("href", ""))
    has_name = is_named(address, link_text(node))
    if not is_linked(address):
        return f"{inside} ({_escaped(address)})" if has_name else inside
    kind = ' class="named"' if has_name else ""
    return f'<a{kind} href="{_escaped(address)}" rel="noopener noreferrer nofollow">{inside}</a>'


BLOCKS: dict[str, Callable[[SyntaxTreeNode], str]] = {
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
