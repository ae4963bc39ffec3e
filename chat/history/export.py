"""Export a session as Markdown, JSON, HTML or ShareGPT's JSON Lines."""

from __future__ import annotations

import json
import re
from html import escape
from typing import TYPE_CHECKING, Literal

from chat.errors import UsageError
from chat.history.session_json import iso_time, to_json
from chat.rendering.code_blocks import split_at_code
from chat.system.terminal_text import escape_control_characters, escape_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from chat.core.conversation import Conversation, Message
    from chat.history.records import SessionRecord

ExportFormat = Literal["markdown", "json", "html", "sharegpt"]

_HEADINGS = {"system": "System", "user": "You", "assistant": "Assistant", "tool": "Tool"}
_NOTES = {"interrupted": "(interrupted)", "length": "(cut off at the limit)"}
# JSON allows these line ends in strings, but programs that read line by line split there.
_LINE_ENDS = {code: f"\\u{code:04x}" for code in (0x85, 0x2028, 0x2029)}
_SHAREGPT_NAMES = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882 }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
header { border-bottom: 1px solid var(--line); margin-bottom: 1.5rem }
h1 { font-size: 1.4rem; margin: 0 0 .3rem } header p { margin: 0 0 1rem; opacity: .7 }
section { margin: 0 0 1.4rem } h2 { font-size: .85rem; margin: 0 0 .3rem; opacity: .7 }
section.user { background: var(--soft); border-radius: .6rem; padding: .7rem 1rem }
.text { white-space: pre-wrap; overflow-wrap: anywhere }
pre { background: var(--soft); border-radius: .4rem; padding: .7rem; overflow-x: auto; margin: .5rem 0 }
details { opacity: .7; margin-bottom: .5rem }
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


def export_text(record: SessionRecord, conversation: Conversation, kind: ExportFormat) -> str:
    """The session as text: JSON has the whole tree, the other formats the messages up to the leaf."""
    return _WRITERS[kind](record, conversation)


def format_of_suffix(path: Path) -> ExportFormat:
    """The format that belongs to the suffix of a file's name.

    Raises:
        UsageError: no format has this suffix.
    """
    kind = _SUFFIXES.get(path.suffix.lower())
    if kind is None:
        raise UsageError(
            f"`{path.suffix or path.name}` is not the suffix of a format",
            hint=f"use one of {', '.join(_SUFFIXES)}",
        )
    return kind


def _markdown(record: SessionRecord, conversation: Conversation) -> str:
    parts = [f"# {_title(record)}", _about(record)]
    for message in conversation.messages():
        parts += [f"## {_heading(message)}", _details(message), message.content]
        parts += [_fenced(call) for call in _calls(message)]
        parts += [f"*{note}*" if (note := _NOTES.get(message.finish_reason or "", "")) else ""]
    return "\n\n".join(part for part in parts if part) + "\n"


def _html(record: SessionRecord, conversation: Conversation) -> str:
    sections = [
        (
            message.role,
            _heading(message),
            message.reasoning,
            "\n".join((message.content, *(_fenced(call) for call in _calls(message)))),
            _NOTES.get(message.finish_reason or "", ""),
        )
        for message in conversation.messages()
    ]
    return render_page(_title(record), _about(record), sections)


def _sharegpt(record: SessionRecord, conversation: Conversation) -> str:
    turns = []
    for message in conversation.messages():
        calls = _calls(message)
        if message.content or message.reasoning or not calls:
            reasoning = {"reasoning": message.reasoning} if message.reasoning else {}
            turns.append({"from": _SHAREGPT_NAMES[message.role], "value": message.content, **reasoning})
        turns += [{"from": "function_call", "value": call} for call in calls]
    line = {"id": record.id, "model": record.model, "title": record.title, "conversations": turns}
    return json.dumps(line, ensure_ascii=False).translate(_LINE_ENDS) + "\n"


def _details(message: Message) -> str:
    """The reasoning of an answer as a part that readers of Markdown fold away."""
    if not message.reasoning:
        return ""
    return f"<details>\n<summary>Reasoning</summary>\n\n{message.reasoning}\n\n</details>"


def _title(record: SessionRecord) -> str:
    return " ".join((record.name or record.title or record.label).split())


def _about(record: SessionRecord) -> str:
    return " · ".join(part for part in (record.model, iso_time(record.updated)) if part)


def _heading(message: Message) -> str:
    heading = _HEADINGS[message.role]
    return f"{heading} `{message.name}`" if message.name else heading


def _calls(message: Message) -> list[str]:
    return [
        json.dumps({"name": call.name, "arguments": _parsed(call.arguments)}, ensure_ascii=False)
        for call in message.tool_calls
    ]


def _parsed(arguments: str) -> object:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _fenced(text: str) -> str:
    """A fenced block of JSON; the fence is longer than any in the text."""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f"{fence}json\n{text}\n{fence}"


_WRITERS: dict[ExportFormat, Callable[[SessionRecord, Conversation], str]] = {
    "markdown": _markdown,
    "json": to_json,
    "html": _html,
    "sharegpt": _sharegpt,
}
_SUFFIXES: dict[str, ExportFormat] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".json": "json",
    ".html": "html",
    ".htm": "html",
    ".jsonl": "sharegpt",
}


def render_page(title: str, about: str, sections: Sequence[tuple[str, str, str, str, str]]) -> str:
    """Render the page. All text is escaped.

    Args:
        title: the heading and the title of the page.
        about: a line under the heading.
        sections: (CSS class, heading, reasoning, text, note) of each message.
    """
    return _PAGE.format(
        title=escape(escape_line(title)),
        about=escape(escape_line(about)),
        style=_STYLE,
        sections="\n".join(_section(*section) for section in sections),
    )


def _section(kind: str, heading: str, reasoning: str, text: str, note: str) -> str:
    blocks = "".join(_code(part.text) if part.is_code else _paragraphs(part.text) for part in split_at_code(text))
    if reasoning:
        blocks = f"<details><summary>Reasoning</summary>{_paragraphs(reasoning)}</details>{blocks}"
    note_html = f'\n<p class="note">{escape(escape_line(note))}</p>' if note else ""
    return f'<section class="{escape(kind)}">\n<h2>{escape(escape_line(heading))}</h2>\n{blocks}{note_html}\n</section>'


def _code(text: str) -> str:
    return f"<pre><code>{escape(escape_control_characters(text.removesuffix(chr(10))))}</code></pre>"


def _paragraphs(text: str) -> str:
    text = text.strip("\n")
    return f'<div class="text" dir="auto">{escape(escape_control_characters(text))}</div>' if text else ""
