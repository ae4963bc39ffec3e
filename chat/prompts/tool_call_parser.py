"""Parse tool calls in a generated answer, as each Mistral format writes them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chat.core.conversation import ToolCall
from chat.errors import DataError
from chat.prompts.mistral_versions import MISTRAL_VERSIONS
from chat.prompts.segments import Control, Text
from chat.prompts.tools_json import arguments_text
from chat.prompts.validate import NAME, is_call_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.prompts.mistral_versions import MistralVersion


CALLS = Control("[TOOL_CALLS]")  # everything after it in an answer belongs to calls


@dataclass(frozen=True)
class ParsedAnswer:
    """The text and the tool calls of an answer.

    Attributes:
        text: for the user; empty beside calls in formats whose answers hold one or the other.
        calls: in the order of the answer. A call gets a new id where the model wrote none, or one that the format does
            not allow; the message then differs from the generated ids, and is rendered from its text.
    """

    text: str
    calls: tuple[ToolCall, ...] = ()


def parse_answer(format_name: str, parts: Sequence[Control | Text], salt: str = "") -> ParsedAnswer:
    """Separate the text of an answer from its tool calls; calls that are not well-formed stay text.

    Args:
        format_name: the prompt format of the answer.
        parts: the generated pieces, as `Tokenizer.segments_of` gives them.
        salt: differs between answers, and so makes new call ids differ.
    """
    version = MISTRAL_VERSIONS.get(format_name)
    whole = "".join(part.text for part in parts if isinstance(part, Text))
    if version is None or not writes_calls(format_name) or CALLS not in parts:
        return ParsedAnswer(whole)
    start = list(parts).index(CALLS)
    raw = _json_calls(parts[start + 1 :]) if version.calls == "json" else _block_calls(parts[start:])
    calls = as_calls(raw, salt, version)
    if not calls:
        return ParsedAnswer(whole)
    text = "".join(part.text for part in parts[:start] if isinstance(part, Text)) if version.answer_and_calls else ""
    return ParsedAnswer(text, calls)


def as_calls(
    raw: Sequence[tuple[str, str, str]], salt: str, version: MistralVersion | None = None
) -> tuple[ToolCall, ...]:
    """Calls of (name, arguments, id); none where a later prompt could not render one of them.

    Args:
        raw: as a model wrote them.
        salt: makes new ids differ.
        version: decides which ids of the model are kept; None for none.
    """
    if not all(_is_renderable(name, arguments) for name, arguments, _ in raw):
        return ()
    calls: list[ToolCall] = []
    for number, (name, arguments, call_id) in enumerate(raw):
        is_valid = version is not None and call_id and is_call_id(call_id, version)
        is_new = call_id not in (call.id for call in calls)
        calls.append(ToolCall(name, arguments, call_id if is_valid and is_new else new_call_id(salt, number)))
    return tuple(calls)


def writes_calls(format_name: str) -> bool:
    """Whether answers in a format may hold tool calls."""
    version = MISTRAL_VERSIONS.get(format_name)
    return version is not None and version.calls != "none"


def new_call_id(salt: str, number: int) -> str:
    """An id of nine letters or digits, which all formats allow."""
    return hashlib.sha256(f"{salt} {number}".encode()).hexdigest()[:9]


def _is_renderable(name: str, arguments: str) -> bool:
    """Whether a later prompt can render the call."""
    try:
        arguments_text(ToolCall(name, arguments))
    except DataError:
        return False
    return NAME.match(name) is not None


def _json_calls(parts: Sequence[Control | Text]) -> list[tuple[str, str, str]]:
    """(name, arguments, id) of each call in a JSON list; empty where the text is not such a list."""
    try:
        values = json.loads("".join(part.text for part in parts if isinstance(part, Text)))
    except (ValueError, RecursionError):
        return []
    values = [values] if isinstance(values, dict) else values
    if not isinstance(values, list) or not all(isinstance(call, dict) and call.get("name") for call in values):
        return []
    return [(str(call["name"]), _json(call.get("arguments", {})), str(call.get("id") or "")) for call in values]


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _block_calls(parts: Sequence[Control | Text]) -> list[tuple[str, str, str]]:
    """(name, arguments, id) of calls that each begin with `[TOOL_CALLS]`; empty where one is incomplete."""
    calls: list[dict[str, str]] = []
    field = "name"
    for part in parts:
        if part == CALLS:
            calls.append({})
            field = "name"
        elif isinstance(part, Control):
            field = {"[CALL_ID]": "id", "[ARGS]": "arguments"}.get(part.piece, "")
        else:
            calls[-1][field] = calls[-1].get(field, "") + part.text
    if not all(call.get("name", "").strip() and "arguments" in call for call in calls):
        return []
    return [(call["name"].strip(), call["arguments"], call.get("id", "").strip()) for call in calls]
