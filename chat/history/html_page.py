"""The HTML page of a session: one file without scripts, in which nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from chat.system.terminal_text import escape_line

if TYPE_CHECKING:
    from collections.abc import Sequence

_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1d2129; --soft: #f3f4f6; --line: #d5d8de; --dim: #5c6470;
  --link: #0b57b7; --magenta: #9a2a92; --cyan: #00697a; --green: #1c6e2c; --red: #b3261e }
@media (prefers-color-scheme: dark) {
  :root { --page: #17191d; --ink: #e4e6ea; --soft: #23262c; --line: #3d424b; --dim: #a0a7b3;
    --link: #7db4ff; --magenta: #e39adf; --cyan: #6fd0e0; --green: #8bd49a; --red: #ff9a90 } }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--ink); background: var(--page); overflow-wrap: anywhere }
header { border-bottom: 1px solid var(--line); margin-bottom: 1.5rem }
h1 { font-size: 1.4rem; line-height: 1.3; margin: 0 0 .3rem }
header p, h2, .note, summary, .language { color: var(--dim) }
header p { margin: 0 0 1rem }
section { margin: 0 0 1.6rem } section > :last-child { margin-bottom: 0 }
h2 { font-size: .85rem; margin: 0 0 .3rem } h2 span { font-weight: normal }
h3 { font-size: 1.25rem } h4 { font-size: 1.1rem } h5, h6 { font-size: 1rem }
h3, h4, h5, h6 { line-height: 1.3; margin: 1.2em 0 .5em }
p, ul, ol, blockquote, .text, .code, .table { margin: .6em 0 }
section.user, section.system, section.tool { border-radius: .6rem; padding: .7rem 1rem; background: var(--soft) }
.text { white-space: pre-wrap; tab-size: 4 }
ul, ol { padding-left: 1.7em } li > ul, li > ol { margin: 0 }
li.task { list-style: none; text-indent: -1.4em }
li.task > * { text-indent: 0 } li.task > p:first-child { text-indent: -1.4em }
blockquote { border-left: 3px solid var(--line); padding-left: 1em; margin-left: 0; color: var(--dim) }
a { color: var(--link) } hr { border: 0; border-top: 1px solid var(--line) }
.code { background: var(--soft); border-radius: .4rem; padding: .6rem .8rem }
section.user .code, section.system .code, section.tool .code { background: none; border: 1px solid var(--line) }
.language { display: block; font-size: .8rem; user-select: none }
pre { margin: 0; overflow-x: auto; tab-size: 4 }
code { font: .9em/1.45 ui-monospace, monospace } p code, li code, td code { background: var(--soft); padding: 0 .2em }
li pre code { background: none; padding: 0 }
.table { overflow-x: auto } table { border-collapse: collapse }
th, td { padding: .25em .7em; border-bottom: 1px solid var(--line); text-align: start; vertical-align: top }
.left { text-align: left } .center { text-align: center } .right { text-align: right }
img { max-width: 100%; max-height: 30rem; border-radius: .4rem }
details { border-left: 3px solid var(--line); padding-left: .8em; margin: .6em 0; color: var(--dim) }
summary { cursor: pointer } .note { font-style: italic }
.magenta { color: var(--magenta) } .cyan { color: var(--cyan) }
.green { color: var(--green) } .red { color: var(--red) }
.bold { font-weight: bold } .italic { font-style: italic } .dim { color: var(--dim) }
@media print {
  :root { --page: #fff; --ink: #000; --soft: #f3f4f6; --line: #bbb; --dim: #444;
    --link: #000; --magenta: #9a2a92; --cyan: #00697a; --green: #1c6e2c; --red: #b3261e }
  body { max-width: none; margin: 0; padding: 0; font-size: 11pt }
  pre { white-space: pre-wrap } h1, h2, h3, h4, h5, h6 { break-after: avoid } tr { break-inside: avoid }
  a.named::after { content: " (" attr(href) ")"; color: var(--dim) } }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_PAGE = """<!DOCTYPE html>
<html lang="mul">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{title}</h1><p>{about}</p></header>
{sections}
</body>
</html>
"""
_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src data:; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True)
class PageSection:
    """One message of a page, or of an export as text.

    Attributes:
        role: who wrote it; an answer is Markdown, another text is shown as it was written.
        heading: who wrote it, in words.
        source: the model of an answer; empty if it is not known.
        reasoning: what the model thought before an answer.
        text: the message.
        calls: the functions that an answer calls, each as JSON text.
        note: how an answer ended, if it was cut.
        pictures: names and data URLs of a question's pictures.
    """

    role: str
    heading: str
    source: str = ""
    reasoning: str = ""
    text: str = ""
    calls: tuple[str, ...] = ()
    note: str = ""
    pictures: tuple[tuple[str, str], ...] = ()

    @property
    def title(self) -> str:
        """The heading with the source, as one text."""
        return f"{self.heading} ({self.source})" if self.source else self.heading


def render_page(title: str, about: str, sections: Sequence[PageSection]) -> str:
    """Render the page. All text is escaped.

    Args:
        title: the heading and the title of the page.
        about: a line under the heading.
        sections: the messages.
    """
    return _PAGE.format(
        title=escape(escape_line(title)),
        about=escape(escape_line(about)),
        policy=_POLICY,
        style=_STYLE,
        sections="\n".join(map(_section, sections)),
    )


def _section(section: PageSection) -> str:
    from chat.rendering.markdown_html import code_html, markdown_html, plain_html, text_html

    source = f" <span>{escape(escape_line(section.source))}</span>" if section.source else ""
    parts = [f"<h2>{escape(escape_line(section.heading))}{source}</h2>"]
    if section.reasoning:
        parts.append(f"<details><summary>Reasoning</summary>{text_html(section.reasoning)}</details>")
    parts += [
        f'<p><img src="{escape(address)}" alt="{escape(escape_line(name))}"></p>' for name, address in section.pictures
    ]
    parts.append(markdown_html(section.text) if section.role == "assistant" else plain_html(section.text))
    parts += [code_html(call, "json") for call in section.calls]
    if section.note:
        parts.append(f'<p class="note">{escape(escape_line(section.note))}</p>')
    return f'<section class="{escape(section.role)}">\n' + "\n".join(filter(None, parts)) + "\n</section>"
