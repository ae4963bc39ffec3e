"""HTML, and what is made of it, as Markdown."""

from __future__ import annotations

import re
from typing import Any

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
_BLANK_LINES = re.compile(r"\n[ \t]*\n(?:[ \t]*\n)+")


def markdown_of(html: str | bytes) -> str:
    """The text of a page as Markdown: of its main part, if it names one, without scripts, pictures and navigation.

    Raises:
        ImportError: the libraries are not installed.
        RecursionError: its elements are nested too deeply.
    """
    from bs4 import BeautifulSoup
    from markdownify import MarkdownConverter

    page: Any = BeautifulSoup(html, "html.parser")
    title = page.title.get_text(" ", strip=True) if page.title else ""
    for element in page(UNREAD):
        element.decompose()
    main = page.find_all(["main", "article"], limit=2)
    part = main[0] if len(main) == 1 else page
    text = MarkdownConverter(heading_style="ATX", bullets="-", strip=["img"]).convert_soup(part)
    text = _BLANK_LINES.sub("\n\n", text).strip()
    return f"# {title}\n\n{text}" if title and title not in text[: len(title) + 80] else text
