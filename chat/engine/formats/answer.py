"""Read tool calls out of an answer, as each Mistral format writes them. Knows pieces and text, not ids."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chat.conversation import ToolCall
from chat.engine.formats.dialect import DIALECTS
from chat.engine.formats.segments import Control, Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.engine.formats.dialect import Dialect

_CALLS = Control("[TOOL_CALLS]")


@dataclass(frozen=True)
class Answer:
    """What was generated.

    Attributes:
        text: for the person; empty beside calls in formats whose answers hold one or the other.
        calls: in the order in which they were written; ids that the model did not write are made up.
        keeps_ids: the message can go back into the prompt as the generated ids: no id was made up that results name.
    """

    text: str
    calls: tuple[ToolCall, ...] = ()
    keeps_ids: bool = True


def read_answer(format_name: str, parts: Sequence[Control | Text]) -> Answer:
    """Tell the text of an answer from its tool calls; what is no well-formed call stays text.

    Args:
        parts: the generated pieces, as `Vocabulary.segments_of` gives them.
    """
    dialect = DIALECTS.get(format_name)
    whole = "".join(part.text for part in parts if isinstance(part, Text))
    if dialect is None or dialect.calls == "none" or _CALLS not in parts:
        return Answer(whole)
    at = list(parts).index(_CALLS)
    raw = _listed(parts[at + 1 :]) if dialect.calls == "json" else _blocks(parts[at:])
    if not raw:
        return Answer(whole)
    said = "".join(part.text for part in parts[:at] if isinstance(part, Text)) if dialect.answer_and_calls else ""
    calls = tuple(
        ToolCall(name, arguments, call_id or f"call{n:05}") for n, (name, arguments, call_id) in enumerate(raw)
    )
    return Answer(said, calls, keeps_ids=all(call_id for _, _, call_id in raw) or not _writes_ids(dialect))


def _writes_ids(dialect: Dialect) -> bool:
    return dialect.calls == "blocks with id" or (dialect.calls == "json" and dialect.call_ids != "unchecked")


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
        if part == _CALLS:
            calls.append({})
            field = "name"
        elif isinstance(part, Control):
            field = {"[CALL_ID]": "id", "[ARGS]": "arguments"}.get(part.piece, "")
        else:
            calls[-1][field] = calls[-1].get(field, "") + part.text
    if not all(call.get("name", "").strip() and "arguments" in call for call in calls):
        return []
    return [(call["name"].strip(), call["arguments"], call.get("id", "").strip()) for call in calls]
