"""Render a session as one HTML file without scripts and without other files."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

from chat.system.terminal_text import escape_control_characters, escape_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882 }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
header { border-bottom: 1px solid var(--line); margin-bottom: 1.5rem }
h1 { font-size: 1.4rem; margin: 0 0 .3rem } header p { margin: 0 0 1rem; opacity: .7 }
section { margin: 0 0 1.4rem } h2 { font-size: .85rem; margin: 0 0 .3rem; opacity: .7 }
section.user { background: var(--soft); border-radius: .6rem; padding: .7rem 1rem }
.text { white-space: pre-wrap; overflow-wrap: anywhere }
pre { background: var(--soft); border-radius: .4rem; padding: .7rem; overflow-x: auto; margin: .5rem 0 }
code { font: .9em/1.45 ui-monospace, monospace } .note { font-style: italic; opacity: .7 }
"""
_PAGE = """<!DOCTYPE html>
<html lang="mul">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1><p>{about}</p></header>
{sections}
</body>
</html>
"""
_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})[^\n`]*$")


def render_page(title: str, about: str, sections: Sequence[tuple[str, str, str, str]]) -> str:
    """Render the page. All text is escaped.

    Args:
        title: the heading and the title of the page.
        about: a line under the heading.
        sections: (CSS class, heading, text, note) of each message.
    """
    return _PAGE.format(
        title=escape(escape_line(title)),
        about=escape(escape_line(about)),
        style=_STYLE,
        sections="\n".join(_section(*section) for section in sections),
    )


def _section(kind: str, heading: str, text: str, note: str) -> str:
    blocks = "".join(
        f"<pre><code>{escape(escape_control_characters(block))}</code></pre>" if is_code else _paragraphs(block)
        for is_code, block in _blocks(text)
    )
    note_html = f'\n<p class="note">{escape(escape_line(note))}</p>' if note else ""
    return f'<section class="{escape(kind)}">\n<h2>{escape(escape_line(heading))}</h2>\n{blocks}{note_html}\n</section>'


def _paragraphs(text: str) -> str:
    text = text.strip("\n")
    return f'<div class="text" dir="auto">{escape(escape_control_characters(text))}</div>' if text else ""


def _blocks(text: str) -> Iterator[tuple[bool, str]]:
    """Split a text at its fences: (whether it is code, text) of each part. An open fence reaches to the end."""
    fence = ""
    lines: list[str] = []
    for line in text.split("\n"):
        match = _FENCE.match(line)
        closes = match and fence and match[1].startswith(fence) and not line.strip(" `~")
        if closes or (match and not fence):
            yield bool(fence), "\n".join(lines)
            lines = []
            fence = "" if closes or not match else match[1]
        else:
            lines.append(line)
    yield bool(fence), "\n".join(lines)
