"""Read the lines of a batch as requests, each with its own options, messages and tools."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from chat.app import request_builder
from chat.batch.files import LongLine
from chat.config.conflicts import check_conflicts, superseded_by
from chat.config.option_types import checked, option_specs
from chat.config.options import Group
from chat.core.conversation import Conversation, Message, ToolCall
from chat.core.request import Prompt, Request
from chat.errors import ChatError, ContextError, DataError, as_chat_error, reason_text
from chat.prompts.tools_json import check_keys, with_parameters
from chat.system.text_files import MOST_TEXT_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chat.config.options import Settings

OPTIONS = frozenset(
    {
        name
        for name, spec in option_specs().items()
        if spec.option.live and name != "markdown" and spec.option.group is not Group.TOOLS
    }
    | {"schema", "grammar", "regex", "choice", "logprobs"}
)
ROLES = ("system", "user", "assistant", "tool")
MESSAGE_KEYS = frozenset({"role", "content", "reasoning", "reasoning_content", "tool_calls", "tool_call_id", "name"})
CompletePrompt = Callable[[str], str]  # puts a prompt into the template and adds the attached files


@dataclass(frozen=True)
class BatchRecord:
    """One line of a batch: its request, or what is wrong with it.

    Attributes:
        id: the id that the line gives, or its number; any JSON value.
        fails_when_cut: whether an answer that was cut for its length fails the record.
    """

    id: Any
    request: Request | None = None
    error: ChatError | None = None
    fails_when_cut: bool = False


class RecordReader:
    """Reads lines as records under the settings of the run."""

    def __init__(self, settings: Settings, complete: CompletePrompt) -> None:
        """Read the functions of `--tools`.

        Raises:
            FileError: the file cannot be read.
            DataError: it is not a JSON list of functions.
        """
        self._settings = settings
        self._complete = complete
        self._tools = request_builder.read_tools(settings)

    def read(self, number: int, line: str) -> BatchRecord:
        """The record on a line; its id is its line number if it gives none."""
        record_id: Any = number
        try:
            if isinstance(line, LongLine):
                raise ContextError(f"line {number}: is larger than the limit of {MOST_TEXT_BYTES >> 20} MiB")
            plain = _json(line, number)
            if isinstance(plain, str):
                plain = {"prompt": plain}
            if not isinstance(plain, dict):
                raise DataError(f"line {number}: must be a string or an object")
            record_id = plain.pop("id", number)
            tools = _tools(plain.pop("tools", None), number)
            settings = _record_settings(plain, self._settings, number)
            # The messages are checked even if `--raw` refuses them afterwards
            conversation = self._conversation(plain, request_builder.system_prompt(settings), number)
            prompt = self._raw_prompt(plain, number) if settings.raw else Prompt.of_conversation(conversation)
            request = request_builder.build_request(prompt, settings, tools=self._tools if tools is None else tools)
            return BatchRecord(record_id, request, fails_when_cut=settings.fails_when_cut)
        except Exception as error:  # whatever a line holds, the others are answered
            return BatchRecord(record_id, error=as_chat_error(error))

    def _conversation(self, plain: Mapping[str, Any], system: str | None, number: int) -> Conversation:
        if ("prompt" in plain) == ("messages" in plain):
            raise DataError(f"line {number}: needs either `prompt` or `messages`")
        if "prompt" in plain:
            if not isinstance(plain["prompt"], str) or not plain["prompt"].strip():
                raise DataError(f"line {number}: `prompt` must be a string")
            return Conversation(system).add(Message("user", self._complete(plain["prompt"])))
        return conversation_of(plain["messages"], system, number)

    def _raw_prompt(self, plain: Mapping[str, Any], number: int) -> Prompt:
        if "messages" in plain:
            raise DataError(f"line {number}: `messages` need a template, but `--raw` has none")
        return Prompt(text=self._complete(plain["prompt"]))


def conversation_of(messages: Any, system: str | None, number: int) -> Conversation:
    """The conversation of a list of messages, as OpenAI's clients write them.

    Args:
        system: the system prompt if the list does not begin with one.
        number: the number of the line, for errors.

    Raises:
        DataError: a message lacks what its role needs.
    """
    if not isinstance(messages, list) or not messages:
        raise DataError(f"line {number}: `messages` must be a list of messages")
    conversation = Conversation(system)
    for message_number, plain in enumerate(messages, 1):
        message = _message(plain, f"line {number}, message {message_number}")
        if message.role == "system" and not conversation.nodes:
            conversation = conversation.with_system(message.content)
        else:
            conversation = conversation.add(message)
    return conversation


def _message(plain: Any, place: str) -> Message:
    if not isinstance(plain, dict) or plain.get("role") not in ROLES:
        raise DataError(f"{place}: needs a `role` ({', '.join(ROLES)}) and a `content` text")
    if unknown := sorted(key for key in plain.keys() - MESSAGE_KEYS if plain[key] not in (None, [], {})):
        raise DataError(f"{place}: unknown key `{unknown[0]}`")
    role = plain["role"]
    calls = tuple(_tool_call(call, place) for call in _list(plain.get("tool_calls"), f"{place}: `tool_calls`"))
    if calls and role != "assistant":
        raise DataError(f"{place}: only a message of the assistant has tool calls")
    reasoning = _text(plain, "reasoning", place) or _text(plain, "reasoning_content", place)
    if reasoning and role != "assistant":
        raise DataError(f"{place}: only a message of the assistant has reasoning")
    content = plain.get("content")
    if content is None and (calls or reasoning):
        content = ""
    if role == "tool" and not isinstance(content, str) and content is not None:
        content = json.dumps(content, ensure_ascii=False)
    if not isinstance(content, str):
        raise DataError(f"{place}: `content` must be a string")
    call_id, name = (_text(plain, key, place) for key in ("tool_call_id", "name"))
    return Message(role, content, tool_calls=calls, tool_call_id=call_id, name=name, reasoning=reasoning)


def _tool_call(plain: Any, place: str) -> ToolCall:
    """A call, flat as `--json` prints it, or with a nested `function` as OpenAI has it."""
    if not isinstance(plain, dict):
        raise DataError(f"{place}: a tool call must be an object")
    function = plain.get("function", plain)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise DataError(f"{place}: a tool call needs the `name` of a function")
    arguments = function.get("arguments", "{}")
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(function["name"], arguments, _text(plain, "id", place))


def _text(plain: dict[str, Any], key: str, place: str) -> str:
    value = plain.get(key)
    if value is not None and not isinstance(value, str):
        raise DataError(f"{place}: `{key}` must be a string")
    return value or ""


def _list(value: Any, place: str) -> list[Any]:
    if value is not None and not isinstance(value, list):
        raise DataError(f"{place} must be a list")
    return value or []


def _json(line: str, number: int) -> Any:
    try:
        return json.loads(line, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise DataError(f"line {number}: is not JSON: {reason_text(error)}") from error


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number in JSON")


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError("a number in it is too large")
    return number


def _tools(value: Any, number: int) -> tuple[dict[str, Any], ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise DataError(f"line {number}: `tools` must be a list of functions")
    for position, tool in enumerate(value, 1):
        check_keys(tool, f"line {number}, tool {position}")
    return tuple(with_parameters(tool) for tool in value)


def _record_settings(plain: Mapping[str, Any], settings: Settings, number: int) -> Settings:
    """The settings of the run with the options of one record."""
    names = {key: key.replace("-", "_") for key in plain if key not in ("prompt", "messages")}
    for key, name in names.items():
        if name not in OPTIONS:
            raise DataError(f"line {number}: unknown key `{key}`")
    values = {name: checked(option_specs()[name], _as_text(plain[key])) for key, name in names.items()}
    superseded = {name: option_specs()[name].default for name in superseded_by(values)}
    own = replace(settings, **superseded, **values, given=settings.given | values.keys())
    check_conflicts(values, own, dict.fromkeys(option_specs(), "the batch's own options"))
    return own


def _as_text(value: Any) -> Any:
    """A schema in a record may be an object; options take its text."""
    return json.dumps(value) if isinstance(value, dict) else value
