"""Read one line of a batch as a request, or as what is wrong with it. Knows settings, not files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from chat.app import request_builder
from chat.batch.messages import conversation_of
from chat.config.conflicts import check_conflicts, superseded_by
from chat.config.option_types import checked, option_specs
from chat.config.options import Settings
from chat.core.conversation import Conversation, Message
from chat.core.request import Prompt, Request
from chat.errors import ChatError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

OPTIONS = frozenset(
    {name for name, each in option_specs().items() if each.option.live and name != "markdown"}
    | {"schema", "grammar", "regex", "choice", "logprobs"}
)
Fill = Callable[[str], str]  # puts a prompt into the template and beside the attached files


@dataclass(frozen=True)
class BatchRecord:
    """One line: its id, the request it makes or what is wrong with it, and whether a cut answer fails it."""

    id: Any
    request: Request | None = None
    error: ChatError | None = None
    fails_when_cut: bool = False


def record_of(number: int, line: str, settings: Settings, fill: Fill) -> BatchRecord:
    """The record on a line; its id is its line number where it gives none."""
    record_id: Any = number
    try:
        plain = _json(line, number)
        if isinstance(plain, str):
            plain = {"prompt": plain}
        if not isinstance(plain, dict):
            raise DataError(f"line {number}: needs a string or an object")
        record_id = plain.pop("id", number)
        tools = _tools(plain.pop("tools", None), number)
        own = _own_settings(plain, settings, number)
        conversation = _conversation(plain, request_builder.system_prompt(own), fill, number)
        request = request_builder.build_request(
            _raw(plain, fill, number) if own.raw else Prompt(conversation.messages()), own
        )
        if tools is not None:
            request = replace(request, prompt=replace(request.prompt, tools=tools))
        return BatchRecord(record_id, request, fails_when_cut=own.fails_when_cut)
    except ChatError as error:
        return BatchRecord(record_id, error=error)


def _raw(plain: Mapping[str, Any], fill: Fill, number: int) -> Prompt:
    if "messages" in plain:
        raise DataError(f"line {number}: `messages` need a template, but `--raw` has none")
    return Prompt(text=fill(plain["prompt"]))


def _json(line: str, number: int) -> Any:
    try:
        return json.loads(line, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DataError(f"line {number}: is not JSON: {error}") from error


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is none of its numbers")


def _tools(value: Any, number: int) -> tuple[dict[str, Any], ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise DataError(f"line {number}: `tools` needs a list of functions")
    return tuple(value)


def _own_settings(plain: Mapping[str, Any], settings: Settings, number: int) -> Settings:
    names = {key: key.replace("-", "_") for key in plain if key not in ("prompt", "messages")}
    for key, name in names.items():
        if name not in OPTIONS:
            raise DataError(f"line {number}: unknown key `{key}`")
    values = {name: checked(option_specs()[name], _as_text(plain[key])) for key, name in names.items()}
    instead = {name: option_specs()[name].default for name in superseded_by(values)}
    own = replace(settings, **instead, **values)
    check_conflicts(values, own, dict.fromkeys(option_specs(), "the batch's own options"))
    return own


def _as_text(value: Any) -> Any:
    """A schema may stand in a record as an object."""
    return json.dumps(value) if isinstance(value, dict) else value


def _conversation(plain: Mapping[str, Any], system: str | None, fill: Fill, number: int) -> Conversation:
    if ("prompt" in plain) == ("messages" in plain):
        raise DataError(f"line {number}: needs either `prompt` or `messages`")
    if "prompt" in plain:
        if not isinstance(plain["prompt"], str) or not plain["prompt"].strip():
            raise DataError(f"line {number}: `prompt` needs a text")
        return Conversation(system).add(Message("user", fill(plain["prompt"])))
    return conversation_of(plain["messages"], system, number)
