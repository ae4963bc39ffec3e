"""Write tools, calls and results as the JSON that Mistral's models were trained on."""

from __future__ import annotations

import json
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from chat.errors import DataError
from chat.prompts import json_schema
from chat.prompts.validate import NAME, check_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chat.core.conversation import ToolCall
    from chat.prompts.normalize import NormalizedTurn


_OTHER_NAMES = ("inputSchema", "input_schema")  # of parameters: MCP's and Anthropic's


# what a function has besides its parameters: OpenAI's names, MCP's and Anthropic's
_KEYS = frozenset(
    (
        *("type", "name", "description", "parameters", "strict", *_OTHER_NAMES),
        *("title", "annotations", "icons", "execution", "_meta", "outputSchema", "output_schema"),
        *("cache_control", "input_examples", "defer_loading", "allowed_callers", "eager_input_streaming"),
    )
)


def check_keys(tool: Mapping[str, Any], where: str) -> None:
    """Refuse a key that no client writes: it was meant as another one.

    Args:
        tool: a function, bare or as {"type": "function", "function": ...}.
        where: names it in the error.

    Raises:
        DataError: there is one.
    """
    inner = tool.get("function")
    wrapped = isinstance(inner, dict)
    unknown = [key for key in tool if key not in (("type", "function", "cache_control") if wrapped else _KEYS)]
    unknown += [key for key in inner if key not in _KEYS] if isinstance(inner, dict) else []
    if unknown and (wrapped or "name" in tool):
        near = get_close_matches(unknown[0], _KEYS, 1)
        hint = f"did you mean `{near[0]}`?" if near else "name, description, parameters"
        raise DataError(f"{where}: unknown key `{unknown[0][:80]}`", hint=hint)


def with_parameters(tool: Mapping[str, Any]) -> dict[str, Any]:
    """A tool with its parameters under `parameters`, and of the type `function`, whoever wrote it."""
    inner = tool.get("function")
    if isinstance(inner, dict):
        return {**tool, "function": with_parameters(inner)}
    other = next((name for name in _OTHER_NAMES if tool.get(name) is not None), None)
    if other is None or "name" not in tool:
        return dict(tool)
    plain = {key: value for key, value in tool.items() if key not in _OTHER_NAMES}
    if plain.get("type") == "custom":  # as Anthropic calls the user's own functions
        plain["type"] = "function"
    if plain.get("parameters") is None:
        plain["parameters"] = tool[other]
    return plain


def tools_text(tools: Sequence[Mapping[str, Any]]) -> str:
    """The tools on offer as one JSON list.

    Args:
        tools: functions, bare or as {"type": "function", "function": ...}; other keys are left out.

    Raises:
        DataError: a tool without a valid name, or with parameters that are not a JSON Schema of draft 7.
    """
    return dumps([_tool(tool, f"tool {number}") for number, tool in enumerate(tools, 1)], "the tools")


def _tool(tool: Mapping[str, Any], where: str) -> dict[str, Any]:
    function = tool.get("function", tool if "name" in tool else None)
    if not isinstance(function, dict) or tool.get("type", "function") not in ("function", "object"):
        raise DataError(f"{where}: not a function", hint='{"name": ..., "description": ..., "parameters": {...}}')
    name, description = function.get("name"), function.get("description")
    parameters = {} if function.get("parameters") is None else function["parameters"]
    description = "" if description is None else description
    if not isinstance(name, str) or not NAME.match(name):
        raise DataError(f"{where}: function name {name!r} is not 1 to 64 letters, digits, `_` or `-`")
    check_text(description, f"{where}, description")
    if not isinstance(parameters, dict):
        raise DataError(f"{where}: the parameters of {name} are not an object")
    try:
        found = json_schema.fault(parameters)
    except RecursionError as error:
        raise DataError(f"{where}: the parameters of {name} are nested too deeply") from error
    if found:
        raise DataError(f"{where}: the parameters of {name} are not a JSON Schema of draft 7: {found}")
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def calls_text(calls: Sequence[ToolCall], with_ids: bool) -> str:
    """Calls as one JSON list; arguments that are not JSON are written as a string.

    Raises:
        DataError: arguments that Python cannot read or write as JSON.
    """
    return dumps([_call(call, with_ids) for call in calls], "the tool calls")


def _call(call: ToolCall, with_ids: bool) -> dict[str, Any]:
    plain = {"name": call.name, "arguments": loads(call.arguments, f"arguments of {call.name}")}
    return {**plain, "id": call.id} if with_ids else plain


def arguments_text(call: ToolCall) -> str:
    """The arguments of one call as JSON.

    Raises:
        DataError: arguments that Python cannot read or write as JSON.
    """
    where = f"arguments of {call.name}"
    return dumps(loads(call.arguments, where), where)


def result_text(turn: NormalizedTurn, as_list: bool) -> str:
    """A tool's result as JSON.

    Args:
        turn: of the role tool.
        as_list: write a list of one object with the tool's name, as v2 does; else an object with the call's id.

    Raises:
        DataError: content that Python cannot read or write as JSON.
    """
    content = loads(turn.content, "tool result")
    if as_list:
        return dumps([{"name": turn.name or None, "content": content}], "tool result")
    return dumps({"content": content, "call_id": turn.call_id}, "tool result")


def loads(text: str, where: str) -> Any:
    """The values of JSON text; other text unchanged, and an empty object for an empty text.

    Raises:
        DataError: JSON that is nested too deeply or has a number that is too long.
    """
    try:
        return json.loads(text) if text else {}
    except json.JSONDecodeError:
        return text
    except (RecursionError, ValueError) as error:
        raise DataError(f"{where}: JSON that is nested too deeply or has an endless number") from error


def dumps(value: Any, where: str) -> str:
    """Values as one line of JSON, without escapes for letters beyond ASCII.

    Raises:
        DataError: values that are not JSON, nested too deeply, or with lone surrogates from an escape.
    """
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{where}: cannot be written as JSON") from error
    check_text(text, where)
    return text
