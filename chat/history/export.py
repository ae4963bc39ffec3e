"""Export sessions as Markdown, plain text, JSON, JSON Lines, HTML or ShareGPT's JSON Lines."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from chat.config.option_types import option_specs
from chat.errors import UsageError
from chat.history.records import SessionRecord, branch_title
from chat.history.session_json import iso_time, one_line, to_json, to_json_line
from chat.system.characters import fence_around
from chat.system.terminal_text import cell_width, counted, escape_control_characters

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chat.core.conversation import Conversation, Message
    from chat.history.html_page import PageSection

ExportFormat = Literal["markdown", "text", "json", "jsonl", "html", "sharegpt"]
R = TypeVar("R", bound=SessionRecord)

TEXT_WIDTH = 80  # columns of plain text

_HEADINGS = {"system": "System", "user": "You", "assistant": "Assistant", "tool": "Tool"}
_NOTES = {"interrupted": "(interrupted)", "length": "(cut off at the limit)"}
_IMAGE = "<image>\n"
_MARKED = re.compile(r"[\[\]\\\s]+")  # would end the text of a picture in Markdown
_SHAREGPT_NAMES = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


def export_text(
    record: SessionRecord, conversation: Conversation, kind: ExportFormat, *, with_paths: bool = False
) -> str:
    """The session as text: JSON and JSON Lines have the whole tree, the other formats the messages up to the leaf.

    Args:
        record: the session.
        conversation: its messages.
        kind: the format.
        with_paths: whether absolute paths of files on this machine, such as the model's, stay in it.
    """
    return _WRITERS[kind](record if with_paths else without_paths(record), conversation)


def without_paths(record: R) -> R:
    """The record with the last parts of absolute paths in place of them, and without the model's file."""
    specs = option_specs()
    settings = {
        name: _shortened(value) if name in specs and specs[name].names_file else value
        for name, value in record.settings.items()
    }
    return replace(record, model=_shortened(record.model), model_path="", settings=settings)


def _shortened(value: Any) -> Any:
    """A path's last part; anything else as it is."""
    if isinstance(value, list | tuple):
        return [_shortened(item) for item in value]
    if not isinstance(value, str) or "\n" in value:
        return value
    windows = PureWindowsPath(value)
    is_path = value.startswith(("/", "~")) or (windows.drive and windows.root)
    return windows.name or value if is_path else value


def format_of_suffix(path: Path, *, every: bool = False) -> ExportFormat:
    """The format that belongs to the suffix of a file's name.

    Args:
        path: the file. JSON Lines of one session are for training, in ShareGPT's style.
        every: whether all sessions are written: then JSON Lines hold them whole, to be read back.

    Raises:
        UsageError: no format has this suffix.
    """
    kind = _SUFFIXES.get(path.suffix.lower())
    if every and kind == "sharegpt":
        return "jsonl"
    if kind is None:
        raise UsageError(
            f"there is no export format for `{path.suffix or path.name}`",
            hint=f"use one of {', '.join(_SUFFIXES)}",
        )
    return kind


def _markdown(record: SessionRecord, conversation: Conversation) -> str:
    parts = [f"# {_title(record, conversation)}", _about(record, conversation)]
    for section in _sections(conversation):
        reasoning = f"<details>\n<summary>Reasoning</summary>\n\n{section.reasoning}\n\n</details>"  # folded away
        parts += [f"## {section.title}", reasoning if section.reasoning else ""]
        parts += [f"![{_MARKED.sub(' ', name)}]({address})" for name, address in section.pictures]
        parts.append(section.text)
        parts += map(_fenced, section.calls)
        parts += [f"*{section.note}*" if section.note else ""]
    return "\n\n".join(part for part in parts if part) + "\n"


def _text(record: SessionRecord, conversation: Conversation) -> str:
    """Plain text: answers as the screen shows them, without colours."""
    title = _title(record, conversation)
    parts = [f"{title}\n{_about(record, conversation)}"]
    for section in _sections(conversation):
        parts.append(f"{section.title}\n{'-' * min(cell_width(section.title), TEXT_WIDTH)}")
        if section.reasoning:
            parts.append("\n".join(f"  | {line}".rstrip() for line in section.reasoning.strip("\n").splitlines()))
        parts += [f"[{name}]" for name, _ in section.pictures]
        parts.append(_as_on_screen(section.text) if section.role == "assistant" else section.text)
        parts += [*map(_fenced, section.calls), section.note]
    return escape_control_characters("\n\n".join(part.strip("\n") for part in parts if part.strip("\n"))) + "\n"


def _as_on_screen(text: str) -> str:
    from chat.rendering.code_blocks import with_plain_line_ends
    from chat.rendering.markdown import markdown_lines
    from chat.rendering.styled_text import text_of

    lines = markdown_lines(escape_control_characters(with_plain_line_ends(text)), TEXT_WIDTH)
    return "\n".join(text_of(line).rstrip() for line in lines)


def _html(record: SessionRecord, conversation: Conversation) -> str:
    from chat.history.html_page import render_page

    return render_page(_title(record, conversation), _about(record, conversation), _sections(conversation))


def _sections(conversation: Conversation) -> list[PageSection]:
    from chat.history.html_page import PageSection

    return [
        PageSection(
            message.role,
            f"{_HEADINGS[message.role]} `{message.name}`" if message.name else _HEADINGS[message.role],
            source,
            message.reasoning,
            message.content,
            tuple(_calls(message)),
            _NOTES.get(message.finish_reason or "", ""),
            tuple((each.name, each.data_url) for each in message.pictures),
        )
        for message, source in _messages(conversation)
    ]


def _sharegpt(record: SessionRecord, conversation: Conversation) -> str:
    turns = []
    for message, source in _messages(conversation):
        calls = _calls(message)
        if message.content or message.reasoning or not calls:
            more = {"reasoning": message.reasoning, "model": source}
            turn: dict[str, Any] = {"from": _SHAREGPT_NAMES[message.role], "value": message.content}
            if message.pictures:  # as LLaVA marks them
                turn["value"] = _IMAGE * len(message.pictures) + message.content
                turn["images"] = [each.data_url for each in message.pictures]
            turns.append(turn | {name: value for name, value in more.items() if value})
        turns += [{"from": "function_call", "value": call} for call in calls]
    title = branch_title(record, conversation)
    return one_line({"id": record.id, "model": record.model, "title": title, "conversations": turns})


def _messages(conversation: Conversation) -> list[tuple[Message, str]]:
    """The system prompt and the branch that is shown, each message with the model that wrote it."""
    sources = [node.details.source if node.details else "" for node in conversation.path()]
    messages = conversation.messages()
    return list(zip(messages, ["", *sources][-len(messages) :], strict=True)) if messages else []


def _title(record: SessionRecord, conversation: Conversation) -> str:
    return " ".join((record.name or branch_title(record, conversation) or record.label).split())


def _about(record: SessionRecord, conversation: Conversation) -> str:
    """The models that answered, the number of messages and the time."""
    path = conversation.path()
    sources = dict.fromkeys(node.details.source for node in path if node.details and node.details.source)
    count = counted(len(path), "message")
    return " · ".join(part for part in (", ".join(sources) or record.model, count, iso_time(record.updated)) if part)


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


def _fenced(call: str) -> str:
    fence = fence_around(call)
    return f"{fence}json\n{call}\n{fence}"


_WRITERS: dict[ExportFormat, Callable[[SessionRecord, Conversation], str]] = {
    "markdown": _markdown,
    "text": _text,
    "json": to_json,
    "jsonl": to_json_line,
    "html": _html,
    "sharegpt": _sharegpt,
}
_SUFFIXES: dict[str, ExportFormat] = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
    ".json": "json",
    ".html": "html",
    ".htm": "html",
    ".jsonl": "sharegpt",
}
