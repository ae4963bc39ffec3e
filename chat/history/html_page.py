"""A session as one HTML file that needs nothing and runs nothing. Knows HTML, not where it goes."""

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


def page(title: str, about: str, sections: Sequence[tuple[str, str, str, str]]) -> str:
    """The page.

    Args:
        sections: (kind, heading, text, note) of each message; the kind is a CSS class of ours, the rest is anybody's.
    """
    return _PAGE.format(
        title=escape(escape_line(title)),
        about=escape(escape_line(about)),
        style=_STYLE,
        sections="\n".join(_section(*each) for each in sections),
    )


def _section(kind: str, heading: str, text: str, note: str) -> str:
    blocks = "".join(
        f"<pre><code>{escape(escape_control_characters(block))}</code></pre>" if is_code else _paragraphs(block)
        for is_code, block in _blocks(text)
    )
    ending = f'\n<p class="note">{escape(escape_line(note))}</p>' if note else ""
    return f'<section class="{escape(kind)}">\n<h2>{escape(escape_line(heading))}</h2>\n{blocks}{ending}\n</section>'


def _paragraphs(text: str) -> str:
    text = text.strip("\n")
    return f'<div class="text" dir="auto">{escape(escape_control_characters(text))}</div>' if text else ""


def _blocks(text: str) -> Iterator[tuple[bool, str]]:
    """(is code, text) of each part between fences; an open fence goes to the end."""
    fence = ""
    lines: list[str] = []
    for line in text.split("\n"):
        found = _FENCE.match(line)
        closes = found and fence and found[1].startswith(fence) and not line.strip(" `~")
        if closes or (found and not fence):
            yield bool(fence), "\n".join(lines)
            lines = []
            fence = "" if closes or not found else found[1]
        else:
            lines.append(line)
    yield bool(fence), "\n".join(lines)
