"""The table `[tools]` of the settings file: which functions may run, and the sources in `[tools.NAME]`."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from chat.config.remotes import public_address
from chat.config.server_table import checked_server
from chat.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RULES = ("allow", "deny")
START_SECONDS = 60  # by default; the first `uvx` or `npx` of a server downloads it
MOST_START_SECONDS = 3600
START_WORDS = f"a whole number of seconds, from 1 to {MOST_START_SECONDS}"
_KINDS: dict[str, tuple[type, str]] = {
    "command": (str, "the program that is the server"),
    "args": (list, 'a list of texts, as in ["--utc"]'),
    "env": (dict, 'a table of texts, as in { "TZ" = "UTC" }'),
    "cwd": (str, "a folder"),
    "url": (str, "an address"),
    "headers": (dict, 'a table of texts, as in { "Authorization" = "Bearer ..." }'),
    "file": (str, "a Python file"),
    "startup_timeout_sec": (int, START_WORDS),
    "enabled": (bool, "true or false"),
}


@dataclass(frozen=True)
class ToolServer:
    """A source of functions: a server to start, one at an address, or a Python file.

    Attributes:
        name: what the user knows it by.
        place: where it is named, for messages.
        command: the program to start, for a server that runs here.
        args: its arguments.
        env: its environment variables by name, besides what is safe; may hold secrets.
        cwd: the folder that it runs in, by default the working folder.
        url: the address of a server that runs already.
        headers: what that server gets with each request, by name; may hold secrets.
        file: a Python file with functions.
        startup_timeout_sec: how many seconds its start may take, 60 by default.
    """

    name: str
    place: str
    command: str | None = None
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    cwd: str | None = None
    url: str | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    file: str | None = None
    startup_timeout_sec: int = START_SECONDS

    def public_values(self) -> dict[str, Any]:
        """What is no secret, by key: of variables and headers only the names, of the address no password."""
        values = {
            "command": self.command,
            "args": list(self.args),
            "env": [name for name, _ in self.env],
            "cwd": self.cwd,
            "url": public_address(self.url) if self.url else None,
            "headers": [name for name, _ in self.headers],
            "file": self.file,
            "startup_timeout_sec": self.startup_timeout_sec if self.startup_timeout_sec != START_SECONDS else None,
        }
        return {key: value for key, value in values.items() if value}


@dataclass(frozen=True)
class ToolTable:
    """What the settings file says of functions.

    Attributes:
        allow: rules of calls that run without a question.
        deny: rules of calls that never run.
        servers: the sources that are enabled.
        place: of the table, for messages.
    """

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    servers: tuple[ToolServer, ...] = ()
    place: str = ""

    def rules(self) -> dict[str, list[str]]:
        """The rules by their key, where there are any."""
        return {key: list(rules) for key, rules in (("allow", self.allow), ("deny", self.deny)) if rules}


def read_tool_table(table: Mapping[str, Any], place: Callable[..., str]) -> ToolTable:
    """The checked table.

    Args:
        place: gives the file and the line of a key below `tools`.

    Raises:
        UsageError: an unknown key, or a wrong value; the message repeats no values, which may be secrets.
    """
    rules: dict[str, tuple[str, ...]] = {}
    servers: list[ToolServer] = []
    for name, value in table.items():
        if name in RULES:
            if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
                raise UsageError(f'{place(name)}: `{name}` must be a list of rules, as in ["read_file(path=src/*)"]')
            rules[name] = tuple(value)
        elif isinstance(value, dict):
            server = _server(name, value, place)
            servers += [server] if server else []
        else:
            near = get_close_matches(name, RULES, 1)
            hint = f"did you mean `{near[0]}`?" if near else "[tools.NAME] names a server; `allow` and `deny` are rules"
            raise UsageError(f"{place(name)}: unknown key `{name}` of [tools]", hint=hint)
    return ToolTable(**rules, servers=tuple(servers), place=place())


def is_start_limit(value: object) -> bool:
    """Whether a value can be the seconds of a start."""
    return type(value) is int and 1 <= value <= MOST_START_SECONDS


def _server(name: str, table: Mapping[str, Any], place: Callable[..., str]) -> ToolServer | None:
    """The source of a table; None if it is not enabled."""
    values = checked_server("tools", name, table, _KINDS, place)
    if len(values.keys() & {"command", "url", "file"}) != 1:
        raise UsageError(f"{place(name)}: [tools.{name}] needs one of `command`, `url` and `file`")
    if not values.pop("enabled", True):
        return None
    if not is_start_limit(values.get("startup_timeout_sec", START_SECONDS)):
        raise UsageError(f"{place(name, 'startup_timeout_sec')}: `startup_timeout_sec` must be {START_WORDS}")
    values["args"] = tuple(values.get("args", ()))
    values |= {key: tuple(values.get(key, {}).items()) for key in ("env", "headers")}
    return ToolServer(name, place(name), **values)
