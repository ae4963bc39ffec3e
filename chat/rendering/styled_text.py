"""Styled text: measure, wrap, cut, highlight and parse it with rich, pygments and markdown-it.

A style is a rich style in words, such as "bold cyan". Only palette colours are used, which are legible on light and
dark terminals.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from chat.rendering.formulas import FORMULA, formula_text
from chat.system.terminal_text import cell_width

if TYPE_CHECKING:
    from collections.abc import Iterable

    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token
    from markdown_it.tree import SyntaxTreeNode
    from rich.console import Console
    from rich.text import Text


@dataclass(frozen=True)
class Span:
    """A text in one style.

    Attributes:
        text: the text.
        style: a rich style, which may have `link` and an address; empty for the terminal's own.
        is_exact: whether each character counts, so that no words stand for signs in it where a screen reader reads.
    """

    text: str
    style: str = ""
    is_exact: bool = False


Line = tuple[Span, ...]

MULTILINE_TOKENS = ("Token.Literal.String", "Token.Comment")
MAX_NESTING = 60  # levels that are parsed
TOKEN_STYLES = {  # pygments' token names, the most general of each family
    "Comment": "dim italic",
    "Keyword": "magenta",
    "Name.Builtin": "cyan",
    "Name.Function": "bold",
    "Name.Class": "bold",
    "Name.Decorator": "cyan",
    "Name.Tag": "magenta",
    "Name.Attribute": "cyan",
    "Literal.String": "green",
    "Literal.Number": "cyan",
    "Operator.Word": "magenta",
    "Generic.Deleted": "red",
    "Generic.Inserted": "green",
    "Generic.Heading": "bold",
}


def plain(text: str, style: str = "") -> Line:
    """A line in one style."""
    return (Span(text, style),)


def text_of(line: Line) -> str:
    """The line's characters."""
    return "".join(span.text for span in line)


def line_width(line: Line) -> int:
    """Columns of a line."""
    return cell_width(text_of(line))


def row_count(text: str, columns: int) -> int:
    """Rows that a line takes when the terminal wraps it; a wide character that does not fit goes to the next row."""
    if cell_width(text) <= columns:
        return 1
    rows, used = 1, 0
    for character in text:
        width = cell_width(character)
        if used + width > columns:
            rows, used = rows + 1, 0
        used += width
    return rows


def cut(text: str, width: int) -> str:
    """`text` on one line of at most `width` columns; an ellipsis marks the cut."""
    flat = " ".join(text.split())
    if cell_width(flat) <= width:
        return flat
    from rich.cells import set_cell_size

    return set_cell_size(flat, max(0, width - 1)).rstrip() + "…" if width > 0 else ""


def cut_start(text: str, width: int) -> str:
    """As `cut`, but the end of the text is kept, which tells paths apart."""
    flat = " ".join(text.split())
    return flat if cell_width(flat) <= width else cut(flat[::-1], width)[::-1]


def wrap(line: Iterable[Span], width: int) -> list[Line]:
    """Break a line at spaces, at its newlines, and inside of words that are too long.

    Args:
        line: the spans.
        width: columns, at least 1; at 1 a wide character takes a line of its own and is wider.
    """
    from rich.text import Text

    text = Text.assemble(*((span.text, span.style) for span in line if span.text), tab_size=4)
    wrapped = text.wrap(_console(), max(1, width), overflow="fold", tab_size=4)
    return [_spans(part) for part in wrapped] or [()]


def fold(line: Line, width: int) -> list[Line]:
    """Break a line after each `width` columns, so that no character is lost, as spaces are where words are wrapped."""
    lines: list[Line] = []
    row: list[Span] = []
    left = width
    for span in line:
        start = 0
        for place, character in enumerate(span.text):
            cells = cell_width(character)
            if cells > left and (row or place > start):
                lines.append((*row, replace(span, text=span.text[start:place])))
                row, start, left = [], place, width
            left -= cells
        row.append(replace(span, text=span.text[start:]))
    return [*lines, tuple(row)]


def paint(line: Line, *, colour: bool, links: bool = False) -> str:
    """The line with its styles as escape sequences.

    Args:
        line: a line.
        colour: show colours, not only weights such as bold.
        links: make links clickable.
    """
    from rich.color import ColorSystem

    parts = []
    for span in line:
        style = _style(span.style, colour, links)
        parts.append(style.render(span.text, color_system=ColorSystem.STANDARD) if span.style else span.text)
    return "".join(parts)


def highlight(code: str, language: str) -> tuple[list[Line], bool]:
    """Highlight source code.

    Args:
        code: its lines.
        language: its name for pygments; code in an unknown language is not highlighted.

    Returns:
        The lines, and whether the code ends inside of a string or a comment.
    """
    lexer = _lexer(language)
    if lexer is None:
        return [plain(line) for line in code.split("\n")], False
    from pygments import lex

    lines: list[list[Span]] = [[]]
    kind: Any = ""
    for kind, value in lex(code + "\n", lexer):
        style = _token_style(kind)
        for number, part in enumerate(value.split("\n")):
            if number:
                lines.append([])
            if part:
                lines[-1].append(Span(part, style))
    is_open = str(kind).startswith(MULTILINE_TOKENS) and "Single" not in str(kind)
    return [tuple(line) for line in lines[:-1]], is_open


def parse_markdown(text: str) -> SyntaxTreeNode | None:
    """The tree of a Markdown text; None if it is nested too deep.

    HTML and definitions of references stay text, so that nothing disappears, and formulas become text.
    """
    from markdown_it.tree import SyntaxTreeNode

    tokens = _parser().parse(_with_line_end(text))
    if max((token.level for token in tokens), default=0) >= MAX_NESTING - 2:  # the parser drops what is deeper
        return None
    return SyntaxTreeNode(tokens)


def block_tokens(text: str) -> list[Token]:
    """The blocks of a Markdown text as tokens, by the rules of `parse_markdown`.

    Text inside of a paragraph, heading or cell is not parsed. Blocks that are nested too deep are missing.

    Args:
        text: with `\\n` as line ends.
    """
    parser = _parser()
    tokens: list[Token] = []
    parser.block.parse(_with_line_end(text), parser, {}, tokens)
    return tokens


def _with_line_end(text: str) -> str:
    """The text with an end of its last line: without one the parser drops a line of spaces."""
    return text if text.endswith("\n") else text + "\n"


@cache
def _parser() -> Any:
    from markdown_it import MarkdownIt

    options = {"html": False, "maxNesting": MAX_NESTING}
    parser = MarkdownIt("commonmark", options).enable(["strikethrough", "table"]).disable("reference")
    parser.inline.ruler.before("escape", "formula", _formula)
    return parser


def _formula(state: StateInline, silent: bool) -> bool:
    """A rule of the parser: a formula is text, in Unicode or with its backslashes and asterisks."""
    found = FORMULA.match(state.src, state.pos)
    if found is None:
        return False
    if not silent:
        state.push("text", "", 0).content = formula_text(found[0])
    state.pos = found.end()
    return True


@cache
def _console() -> Console:
    import io

    from rich.console import Console

    return Console(file=io.StringIO(), width=80)


@lru_cache
def _style(words: str, colour: bool, links: bool) -> Any:
    from rich.style import Style

    style = Style.parse(words)
    style = style if links or not style.link else style.update_link(None)
    return style if colour else style.without_color


@lru_cache
def _lexer(language: str) -> Any:
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return get_lexer_by_name(language, stripnl=False, ensurenl=False) if language else None
    except ClassNotFound:
        return None


@cache
def _token_style(kind: Any) -> str:
    name = str(kind).removeprefix("Token.")
    while name:
        if name in TOKEN_STYLES:
            return TOKEN_STYLES[name]
        name = name.rpartition(".")[0]
    return ""


def _spans(text: Text) -> Line:
    """A rich text, whose spans must not overlap, as a line."""
    spans: list[Span] = []
    position = 0
    for start, end, style in sorted(text.spans):
        if start > position:
            spans.append(Span(text.plain[position:start]))
        spans.append(Span(text.plain[start:end], str(style)))
        position = end
    if position < len(text.plain):
        spans.append(Span(text.plain[position:]))
    return tuple(span for span in spans if span.text)
