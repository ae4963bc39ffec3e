"""HTML, and what is made of it, as Markdown; and rows of Markdown tables."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# what is no text of the page: code that would run, and what stands on every page of a site
UNREAD = (
    "script",
    "style",
    "noscript",
    "template",
    "svg",
    "iframe",
    "object",
    "nav",
    "head",
    "title",
    "form",
    "dialog",
)
# elements that end others which a page did not close, and those that hold such elements
_CELLS = ("td", "th")
_GROUPS = ("thead", "tbody", "tfoot")
_ENDS = {
    "li": ("li",),
    **dict.fromkeys(("dt", "dd"), ("dt", "dd")),
    **dict.fromkeys(_CELLS, _CELLS),
    "tr": ("tr", *_CELLS),
    **dict.fromkeys(_GROUPS, (*_GROUPS, "tr", *_CELLS)),
}
_HOLDERS = ("ul", "ol", "menu", "dl", "table")
_MOST_OPEN = 20  # elements inside of one that is not closed
_BAR = r"\|"  # in a cell
_BLANK_LINES = re.compile(r"\n[ \t]*\n(?:[ \t]*\n)+")


def markdown_of(html: str | bytes) -> str:
    """The text of a page as Markdown: of its main part, if it names one, without scripts, pictures and navigation.

    Raises:
        ImportError: the libraries are not installed.
        RecursionError: its elements are nested too deeply.
    """
    from bs4 import Declaration, ProcessingInstruction
    from markdownify import MarkdownConverter

    page: Any = _parsed(html)
    title = page.title.get_text(" ", strip=True) if page.title else ""
    for element in page(UNREAD):
        element.decompose()
    for element in page(string=lambda text: isinstance(text, (Declaration, ProcessingInstruction))):
        element.extract()  # such as the XML declaration of a book's chapter
    main = page.find_all(["main", "article"], limit=2)
    part = main[0] if len(main) == 1 else page
    converter = MarkdownConverter(heading_style="ATX", bullets="-", strip=["img"], table_infer_header=True)
    text = converter.convert_soup(part)
    text = _BLANK_LINES.sub("\n\n", text).strip()
    return f"# {title}\n\n{text}" if title and title not in text[: len(title) + 80] else text


def _parsed(html: str | bytes) -> Any:
    """The tree of a page; Python's parser leaves elements open that a page does not close."""
    from bs4 import BeautifulSoup

    class Page(BeautifulSoup):
        def handle_starttag(self, name: str, *rest: Any, **more: Any) -> Any:
            ended = "p" if name == "p" == self.tagStack[-1].name else None
            for tag in self.tagStack[: -_MOST_OPEN - 1 : -1] if name in _ENDS else ():
                if tag.name in _HOLDERS:
                    break
                ended = tag.name if tag.name in _ENDS[name] else ended
            if ended is not None:
                self.handle_endtag(ended)
            return super().handle_starttag(name, *rest, **more)

    return Page(html, "html.parser")


def table_lines(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a Markdown table, the first row as its head."""
    for number, row in enumerate(rows):
        yield table_row(row)
        if number == 0:
            yield "|" + " --- |" * len(row)


def table_row(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(' '.join(cell.replace('|', _BAR).split()) for cell in cells)} |"
