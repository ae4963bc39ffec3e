"""Tool calls that a model writes as text, as the chat templates of Hermes, Qwen and Llama 3 have them.

Whether a template has such calls is decided by letting it write one: what is read back must be the call.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from chat.core.conversation import Message, ToolCall
from chat.errors import ChatError
from chat.prompts.reasoning_splitter import partial_length
from chat.prompts.segments import ChatTemplate, PromptMessages, texts_of
from chat.prompts.tool_call_parser import ParsedAnswer, as_calls

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

Style = Literal["marked", "bare"]
BEGIN_CALL, END_CALL, PYTHON_TAG = "<tool_call>", "</tool_call>", "<|python_tag|>"
MARKS = (BEGIN_CALL, END_CALL, PYTHON_TAG)

_NAME, _ARGUMENTS = "find_it", {"what": "x", "many": [1, None]}
_TOOL = {"name": _NAME, "description": "Find it.", "parameters": {"type": "object", "properties": {}}}
_USER = Message("user", "U?")
_ARGUMENT_KEYS = ("arguments", "parameters")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True)
class TextCalls:
    """How a model writes calls.

    Attributes:
        style: `marked` are JSON objects, each between `<tool_call>` and `</tool_call>`; `bare` is an answer of JSON
            objects alone.
        names: the functions on offer, of which a bare object must name one to be a call; None: a marked one need not.
    """

    style: Style
    names: frozenset[str] | None = None


def text_calls(template: ChatTemplate, tools: Sequence[dict[str, Any]]) -> TextCalls | None:
    """How a model with this chat template calls the functions on offer as text; None if it does not, or of none."""
    if not tools:
        return None
    style = _style(template.for_tools(True), tuple(sorted(template.tokens.items())))
    if style == "bare":
        return TextCalls(style, frozenset(str(tool.get("function", tool).get("name")) for tool in tools))
    return TextCalls(style) if style is not None else None


@lru_cache(maxsize=8)
def _style(template: str, tokens: tuple[tuple[str, str], ...]) -> Style | None:
    """The style of the call that a template writes."""
    if not any(key in template for key in ("tool_calls", BEGIN_CALL)):
        return None
    call = Message("assistant", "", tool_calls=(ToolCall(_NAME, json.dumps(_ARGUMENTS), "abcdefghi"),))
    own = ChatTemplate(template, {}, dict(tokens))
    try:
        asked = _written((_USER,), own)
        after = _written((_USER, call, Message("tool", "R", tool_call_id="abcdefghi", name=_NAME)), own)
    except ChatError:  # the first prompt with a call reports it
        return None
    answer = after.rpartition(_USER.content)[2]
    if after.startswith(asked):
        answer = after[len(asked) :]
    for style in ("marked", "bare"):
        end = answer.find(END_CALL) + len(END_CALL) if style == "marked" else _end(answer)
        found = _read(answer[:end], style)
        if [(name, json.loads(arguments)) for name, arguments, _ in found[1]] == [(_NAME, _ARGUMENTS)]:
            return style
    return None


def _end(answer: str) -> int:
    """Where the JSON object at the start of an answer ends; 0 for another start."""
    start = len(answer) - len(answer.lstrip())
    try:
        return _DECODER.raw_decode(answer, start)[1]
    except (ValueError, RecursionError):
        return 0


def _written(messages: tuple[Message, ...], template: ChatTemplate) -> str:
    from chat.prompts.render_template import render

    return "".join(texts_of(render(PromptMessages(messages, (_TOOL,), template=template))))


def parse_text_calls(text: str, calls: TextCalls, salt: str = "") -> ParsedAnswer:
    """Separate the text of an answer from its calls; calls that are not well-formed stay text.

    Args:
        text: the whole answer, with its marks.
        calls: how the model writes calls.
        salt: differs between answers, and so makes the ids of their calls differ.
    """
    rest, raw = _read(text, calls.style, calls.names)
    found = as_calls(raw, salt) if raw else ()
    return ParsedAnswer(rest, found) if found else ParsedAnswer(text)


def _read(text: str, style: Style, names: Collection[str] | None = None) -> tuple[str, list[tuple[str, str, str]]]:
    """The text beside the calls, and (name, arguments, "") of each; no calls where one is not well-formed.

    Args:
        text: an answer.
        style: of its calls.
        names: those that a call may have; None for any.
    """
    if style == "marked":
        before, *pieces = text.split(BEGIN_CALL)
        bodies, texts = [], [before.rstrip()]
        for piece in pieces:
            body, mark, after = piece.partition(END_CALL)  # the last mark may be missing: the model ended there
            bodies.append(body.strip())
            texts += [after.strip()] if mark else []
        values = [_object(body) for body in bodies]
        rest = "\n".join(filter(None, texts))
    else:
        values, rest = _objects(text.strip().removeprefix(PYTHON_TAG)), ""
    calls = [_call(value) for value in values]
    if not all(call is not None and (names is None or call[0] in names) for call in calls):
        return text, []
    return rest, [call for call in calls if call is not None]


def _object(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _objects(text: str) -> list[Any]:
    """JSON values one after the other, with white space or semicolons between them; [None] for any other text."""
    values: list[Any] = []
    position = re.match(r"\s*", text).end()  # type: ignore[union-attr]
    while position < len(text):
        try:
            value, position = _DECODER.raw_decode(text, position)
        except (ValueError, RecursionError):
            return [None]
        values.append(value)
        position += len(text[position:]) - len(text[position:].lstrip("; \t\r\n"))
    return values


def _call(value: Any) -> tuple[str, str, str] | None:
    """(name, arguments, "") of an object that calls a function."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    given = [value[key] for key in _ARGUMENT_KEYS if key in value]
    if len(given) != 1 or not isinstance(given[0], dict):
        return None
    return value["name"], json.dumps(given[0], ensure_ascii=False), ""


class CallHolder:
    """Passes the text of an answer through, but nothing that may be a call."""

    def __init__(self, calls: TextCalls | None) -> None:
        """Start an answer.

        Args:
            calls: how the model writes calls as text; None: nothing is held back before `hold`.
        """
        self._style = calls.style if calls is not None else None
        self._held = ""
        self._is_start = True
        self._holds_all = False  # text that may be calls has begun: nothing passes any more

    def hold(self) -> None:
        """Let no more text pass: what follows are calls."""
        self._holds_all = True

    def push(self, text: str) -> str:
        """Add text; the return value is the text that may be shown."""
        self._held += text
        passing = 0 if self._holds_all else self._passing()
        shown, self._held = self._held[:passing], self._held[passing:]
        return shown

    def flush(self) -> str:
        """The text still held back; only when no more text can come."""
        shown, self._held = self._held, ""
        return shown

    def _passing(self) -> int:
        """How many of the held characters cannot belong to a call; sets `_holds_all`."""
        held = self._held
        if self._style is None:
            return len(held)
        if self._style == "bare":
            start = held.lstrip()
            self._holds_all = self._is_start and start.startswith(("{", PYTHON_TAG))
            if self._is_start and PYTHON_TAG.startswith(start):
                return 0  # not certain yet
            self._is_start = False
            return 0 if self._holds_all else len(held)
        at = held.find(BEGIN_CALL)
        self._holds_all = at >= 0
        if at < 0:
            at = len(held) - partial_length(held, (BEGIN_CALL,))
        return len(held[:at].rstrip())
