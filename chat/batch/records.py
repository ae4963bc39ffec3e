"""Read the lines of a batch as requests, each with its own options, messages and tools."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from chat.app import request_builder
from chat.app.prompt_input import open_all
from chat.batch.files import LongLine
from chat.config.conflicts import check_conflicts, superseded_by
from chat.config.option_types import checked, option_specs
from chat.config.options import Group
from chat.core.conversation import Conversation, Message, Picture, ToolCall
from chat.core.request import Prompt, Request
from chat.documents.document import pictures_of, texts_of
from chat.documents.kinds import HEAD_BYTES, picture_type
from chat.errors import ChatError, ContextError, DataError, as_chat_error, reason_text
from chat.prompts.tools_json import check_keys, with_parameters
from chat.system.characters import strict_json
from chat.system.terminal_text import escape_line
from chat.system.text_files import MOST_TEXT_BYTES, can_be_read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chat.app.request_builder import Tool
    from chat.config.options import Settings
    from chat.documents.document import Document

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
_DATA_URL = re.compile(r"data:[\w/+.;=-]*;base64,(?P<data>.*)", re.DOTALL)
CompletePrompt = Callable[[str], str]  # puts a prompt into the template and adds the attached files


@dataclass(frozen=True)
class BatchRecord:
    """One line of a batch: its request, or what is wrong with it.

    Attributes:
        id: the id that the line gives, or its number; any JSON value.
        fails_when_cut: whether an answer that was cut for its length fails the record.
        runs_calls: whether the functions that an answer calls may be run: not where the line brings its own.
    """

    id: Any
    request: Request | None = None
    error: ChatError | None = None
    fails_when_cut: bool = False
    runs_calls: bool = True


class RecordReader:
    """Reads lines as records under the settings of the run."""

    def __init__(
        self,
        settings: Settings,
        complete: CompletePrompt,
        pictures: tuple[Picture, ...] = (),
        tools: Callable[[], Sequence[Tool]] = tuple,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Read nothing yet.

        Args:
            settings: of the run.
            complete: adds the files of the run to a prompt.
            pictures: that are attached to each prompt.
            tools: gives the functions on offer, which may change.
            note: gets a sentence about what was not read of a line's files, and what else the user should know of them.
        """
        self._settings = settings
        self._complete = complete
        self._pictures = pictures
        self._tools = tools
        self._note = note

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
            files = _files(plain, number)
            for warning in (warning for file in files for warning in file.warnings):
                self._note(f"line {number}: {warning}")
            settings = _record_settings(plain, self._settings, number)
            # The messages are checked even if `--raw` refuses them afterwards
            conversation = self._conversation(plain, files, request_builder.system_prompt(settings), number)
            prompt = self._raw_prompt(plain, files, number) if settings.raw else Prompt.of_conversation(conversation)
            request = request_builder.build_request(prompt, settings, tools=self._tools() if tools is None else tools)
            return BatchRecord(record_id, request, fails_when_cut=settings.fails_when_cut, runs_calls=tools is None)
        except Exception as error:  # whatever a line holds, the others are answered
            return BatchRecord(record_id, error=as_chat_error(error))

    def _conversation(
        self, plain: Mapping[str, Any], files: Sequence[Document], system: str | None, number: int
    ) -> Conversation:
        if ("prompt" in plain) == ("messages" in plain):
            raise DataError(f"line {number}: needs either `prompt` or `messages`")
        if "prompt" in plain:
            if not isinstance(plain["prompt"], str) or not plain["prompt"].strip():
                raise DataError(f"line {number}: `prompt` must be a string")
            pictures = (*self._pictures, *pictures_of(files))
            return Conversation(system).add(Message("user", self._prompt(plain, files), pictures=pictures))
        if files:
            raise DataError(f"line {number}: `files` go with `prompt`, not with `messages`")
        return conversation_of(plain["messages"], system, number)

    def _prompt(self, plain: Mapping[str, Any], files: Sequence[Document]) -> str:
        """The text of a prompt with its files before it."""
        parts = [*(document.fenced() for document in texts_of(files)), plain["prompt"]]
        return self._complete("\n\n".join(parts))

    def _raw_prompt(self, plain: Mapping[str, Any], files: Sequence[Document], number: int) -> Prompt:
        if "messages" in plain:
            raise DataError(f"line {number}: `messages` need a template, but `--raw` has none")
        if pictures_of(files):
            raise DataError(f"line {number}: pictures need a prompt format, but `--raw` has none")
        return Prompt(text=self._prompt(plain, files))


def _files(plain: dict[str, Any], number: int) -> list[Document]:
    """The files that a record attaches: files alone, for a line must not run a command or ask another machine.

    Raises:
        DataError: it is no list of names, or a file cannot be attached.
        FileError: a file cannot be read.
    """
    names = _list(plain.pop("files", None), f"line {number}: `files`")
    if not all(isinstance(name, str) for name in names):
        raise DataError(f"line {number}: `files` must be a list of names")
    for name in names:
        if not can_be_read(name):
            raise DataError(f"line {number}: there is no file {escape_line(name)!r}")
    return open_all(names, b"")


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
    pictures: tuple[Picture, ...] = ()
    if role == "user" and isinstance(content, list):
        content, pictures = _parts(content, place)
    if content is None and (calls or reasoning):
        content = ""
    if role == "tool" and not isinstance(content, str) and content is not None:
        content = json.dumps(content, ensure_ascii=False)
    if not isinstance(content, str):
        raise DataError(f"{place}: `content` must be a string, or parts of a user's message")
    call_id, name = (_text(plain, key, place) for key in ("tool_call_id", "name"))
    return Message(
        role, content, tool_calls=calls, tool_call_id=call_id, name=name, reasoning=reasoning, pictures=pictures
    )


def _parts(content: list[Any], place: str) -> tuple[str, tuple[Picture, ...]]:
    """The text and the pictures of a content in parts, as OpenAI's clients write it; pictures as data URLs."""
    text = ""
    pictures: list[Picture] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            text += part["text"]
        elif kind == "image_url":
            address = part.get("image_url")
            address = address.get("url") if isinstance(address, dict) else address
            found = _DATA_URL.match(address) if isinstance(address, str) else None
            if found is None:
                raise DataError(f"{place}: a picture must be a data URL", hint="`files` attaches a file by its name")
            try:
                data = base64.b64decode(found["data"], validate=True)
            except ValueError as error:
                raise DataError(f"{place}: a picture's data URL is not base64") from error
            media_type = picture_type(data[:HEAD_BYTES])
            if not media_type:
                raise DataError(f"{place}: a picture is not PNG, JPEG, WebP, GIF or BMP")
            pictures.append(Picture.of_file(data, media_type, f"picture {len(pictures) + 1}", len(text)))
        else:
            raise DataError(f"{place}: a part of `content` must be of type text or image_url")
    return text, tuple(pictures)


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
        return strict_json(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"line {number}: is not JSON: {reason_text(error)}") from error


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
