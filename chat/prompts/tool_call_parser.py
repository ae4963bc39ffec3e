"""Read tool calls out of an answer, as each Mistral format writes them. Knows pieces and text, not ids."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chat.core.conversation import ToolCall
from chat.errors import DataError
from chat.prompts.mistral_versions import DIALECTS
from chat.prompts.segments import Control, Text
from chat.prompts.tools_json import arguments_text
from chat.prompts.validate import NAME, is_call_id

if TYPE_CHECKING:
    from collections.abc import Sequence


CALLS = Control("[TOOL_CALLS]")  # all that an answer holds after it are calls


@dataclass(frozen=True)
class ParsedAnswer:
    """What was generated.

    Attributes:
        text: for the person; empty beside calls in formats whose answers hold one or the other.
        calls: in the order in which they were written; an id is made up where the model wrote none, or one that the
            format does not allow: its ids then no longer say what the message says, and it goes back as text.
    """

    text: str
    calls: tuple[ToolCall, ...] = ()


def parse_answer(format_name: str, parts: Sequence[Control | Text], salt: str = "") -> ParsedAnswer:
    """Tell the text of an answer from its tool calls; what is no well-formed call stays text.

    Args:
        parts: the generated pieces, as `Vocabulary.segments_of` gives them.
        salt: made-up ids of other answers differ by it.
    """
    dialect = DIALECTS.get(format_name)
    whole = "".join(part.text for part in parts if isinstance(part, Text))
    if dialect is None or not writes_calls(format_name) or CALLS not in parts:
        return ParsedAnswer(whole)
    at = list(parts).index(CALLS)
    raw = _listed(parts[at + 1 :]) if dialect.calls == "json" else _blocks(parts[at:])
    if not raw or not all(_can_be_told(name, arguments) for name, arguments, _ in raw):
        return ParsedAnswer(whole)
    said = "".join(part.text for part in parts[:at] if isinstance(part, Text)) if dialect.answer_and_calls else ""
    calls: list[ToolCall] = []
    for number, (name, arguments, call_id) in enumerate(raw):
        is_own = is_call_id(call_id, dialect) and call_id not in (call.id for call in calls)
        calls.append(ToolCall(name, arguments, call_id if is_own and call_id else made_up_id(salt, number)))
    return ParsedAnswer(said, tuple(calls))


def writes_calls(format_name: str) -> bool:
    """Whether answers in a format may hold tool calls."""
    dialect = DIALECTS.get(format_name)
    return dialect is not None and dialect.calls != "none"


def made_up_id(salt: str, number: int) -> str:
    """Nine letters or digits, which all formats allow."""
    return hashlib.sha256(f"{salt} {number}".encode()).hexdigest()[:9]


def _can_be_told(name: str, arguments: str) -> bool:
    """Whether a later prompt can hold the call."""
    try:
        arguments_text(ToolCall(name, arguments))
    except DataError:
        return False
    return NAME.match(name) is not None


def _listed(parts: Sequence[Control | Text]) -> list[tuple[str, str, str]]:
    """(name, arguments, id) of a JSON list of calls; nothing where it is not one."""
    try:
        listed = json.loads("".join(part.text for part in parts if isinstance(part, Text)))
    except (ValueError, RecursionError):
        return []
    listed = [listed] if isinstance(listed, dict) else listed
    if not isinstance(listed, list) or not all(isinstance(call, dict) and call.get("name") for call in listed):
        return []
    return [(str(call["name"]), _json(call.get("arguments", {})), str(call.get("id") or "")) for call in listed]


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _blocks(parts: Sequence[Control | Text]) -> list[tuple[str, str, str]]:
    """(name, arguments, id) of calls that each begin with `[TOOL_CALLS]`; nothing where one is not whole."""
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
