"""A function that can be run: its schema, the check of arguments, and the text of its result."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from chat.errors import DataError
from chat.prompts.tools_json import dumps, loads
from chat.system.characters import strict_json, whole_characters
from chat.system.terminal_text import escape_invisible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chat.tools.path_argument import PathArgument

MOST_NESTED = 100  # levels of arguments; whatever writes them again must not run out of stack
BUILT_IN = "built-in"  # the source of the program's own functions
VERSION_DIGITS = 16
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


class ToolError(Exception):
    """A call that gave no result, in one sentence for the model and the user."""


@dataclass(frozen=True)
class CallLimits:
    """What one call may take.

    Attributes:
        seconds: its longest time.
        characters: of its result; what is longer is cut.
    """

    seconds: float = 60.0
    characters: int = 20_000


@dataclass(frozen=True)
class CallControl:
    """What a call that runs may do.

    Attributes:
        limits: of the call.
        stopped: set to end it.
        forbids: whether a rule denies the call with other arguments, such as with a file of its folder as the path.
    """

    limits: CallLimits = CallLimits()
    stopped: threading.Event = field(default_factory=threading.Event)
    forbids: Callable[[Mapping[str, Any]], bool] = lambda _: False


@dataclass(frozen=True)
class SourceTool:
    """A function as its source describes it.

    Attributes:
        name: in its source.
        parameters: a JSON schema of an object.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]


class ToolSource(Protocol):
    """Where functions come from: the program itself, a Python file, or an MCP server.

    Attributes:
        name: what the user knows it by.
        origin: the program, address or file that it is; a yes for good counts for no other one.
    """

    name: str
    origin: str

    def start(self) -> None:
        """Begin to start it, without waiting."""

    def tools(self) -> tuple[SourceTool, ...]:
        """Its functions; waits until it has started.

        Raises:
            ChatError: it cannot be used.
        """

    def call(self, name: str, arguments: Mapping[str, Any], control: CallControl) -> str:
        """The result of a function.

        Raises:
            ToolError: there is none.
        """

    def path_argument(self, name: str, arguments: Mapping[str, Any]) -> PathArgument | None:
        """The argument of a call that is a path; None if none is known to be one."""

    def close(self) -> None:
        """End it; without effect when that was done before."""


@dataclass(frozen=True)
class RunnableTool:
    """A function on offer.

    Attributes:
        name: what the model calls it.
        own: the function as its source has it.
        source: what runs it.
    """

    name: str
    own: SourceTool
    source: ToolSource

    @property
    def qualified_name(self) -> str:
        """The name in rules, with that of its source, which no other one can take; a built-in function's alone."""
        own = rule_name(self.own.name)
        return own if self.source.name == BUILT_IN else f"{rule_name(self.source.name)}/{own}"

    @property
    def version(self) -> str:
        """16 hexadecimal digits that change with what the user said yes to: source, description and arguments.

        Empty for a built-in function, which changes with the program only.
        """
        if self.source.name == BUILT_IN:
            return ""
        plain = [self.source.origin, self.own.name, self.own.description, self.own.parameters]
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:VERSION_DIGITS]

    def schema(self) -> dict[str, Any]:
        """The function as requests have it."""
        function = {"name": self.name, "description": self.own.description, "parameters": dict(self.own.parameters)}
        return {"type": "function", "function": function}


def rule_name(name: str) -> str:
    """A name as rules have it, without characters that mean something else there, such as `*` and spaces."""
    return re.sub(r"[^\w.-]", "_", name)


def read_arguments(text: str) -> dict[str, Any]:
    """The arguments that a model wrote.

    Raises:
        ToolError: they are not a JSON object.
    """
    try:
        plain = strict_json(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise ToolError("the arguments are not JSON") from error
    if not isinstance(plain, dict):
        raise ToolError("the arguments are not a JSON object")
    if _is_deeper(plain, MOST_NESTED):
        raise ToolError(f"the arguments are nested more than {MOST_NESTED} levels deep")
    return plain


def _is_deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(levels == 0 or _is_deeper(each, levels - 1) for each in inner)


def check_arguments(arguments: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    """Check the names and the types of arguments; what is in lists and objects is left to the function.

    Raises:
        ToolError: one is missing, unknown or of another type.
    """
    properties = parameters.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    required = parameters.get("required")
    missing = [name for name in (required if isinstance(required, list) else []) if name not in arguments]
    if missing:
        raise ToolError(f"the argument `{missing[0]}` is missing")
    for name, value in arguments.items():
        if name not in properties:
            if parameters.get("additionalProperties") is False:
                known = ", ".join(properties) or "none"
                raise ToolError(f"there is no argument `{name}`; arguments: {known}")
            continue
        wanted = properties[name].get("type") if isinstance(properties[name], dict) else None
        names = [wanted] if isinstance(wanted, str) else wanted if isinstance(wanted, list) else []
        if names and not any(_is_of(value, each) for each in names):
            raise ToolError(f"the argument `{name}` must be of the type {' or '.join(map(str, names))}")


def _is_of(value: Any, name: object) -> bool:
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, _TYPES.get(str(name), (object,)))


def result_text(text: str, most_characters: int) -> str:
    """A result as a message can hold it: whole characters, cut at the limit with a note to the model."""
    text = whole_characters(text)
    if len(text) > most_characters:
        text = f"{text[:most_characters]}\n[cut after {most_characters:,} of {len(text):,} characters; ask for less]"
    try:
        dumps(loads(text, "result"), "result")
    except DataError:  # JSON that no prompt can hold as such
        return f"The result is text:\n{text}"
    return text


def shown_call(name: str, arguments: Mapping[str, Any] | str) -> str:
    """A call as the user reads it: `read_file(path="README.md")`; every character of the arguments is visible."""
    if isinstance(arguments, str):
        return f"{name}({arguments})"
    parts = (
        f"{key if key.isidentifier() else json.dumps(key)}={json.dumps(value, ensure_ascii=False)}"
        for key, value in arguments.items()
    )
    return f"{name}({escape_invisible(', '.join(parts))})"
