"""Read the `mcp.json` of Claude (`mcpServers`) and of VS Code (`servers`) as it is.

Source: https://code.visualstudio.com/docs/copilot/reference/mcp-configuration, https://code.claude.com/docs/en/mcp
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.config.tool_table import START_SECONDS, START_WORDS, ToolServer, is_start_limit
from chat.errors import DataError, reason_text
from chat.system.secrets import HOST_KEYS, HUB_TOKENS, child_environment
from chat.system.text_files import read_text

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_BYTES = 1 << 20
_ROOTS = ("mcpServers", "servers")
_HTTP = ("http", "streamable-http", "streamableHttp")
_READ = {"type", "command", "args", "env", "cwd", "url", "headers", "disabled", "startup_timeout_sec"}
# what other programs read, and what changes nothing here: approvals are never taken from such a file
_IGNORED = {"description", "gallery", "version", "dev", "autoApprove", "alwaysAllow", "timeout", "trust", "name"}
OWN_KEYS = (*HOST_KEYS.values(), *HUB_TOKENS)  # that a server gets where its file names them
_VARIABLE = re.compile(r"\$\{(?P<name>[^${}]+)\}")
_STRING = r'("(?:[^"\\\n]|\\.)*")'
_COMMENT = re.compile(_STRING + r"|//[^\n]*|/\*.*?\*/", re.DOTALL)
_LAST_COMMA = re.compile(_STRING + r"|,(?=\s*[}\]])")


def read_mcp_config(path: Path, variables: Mapping[str, str] = os.environ) -> tuple[tuple[ToolServer, ...], list[str]]:
    """The servers of a file that are not disabled, and sentences about what in it is not used.

    Args:
        variables: what `${env:NAME}` stands for; keys that belong to `--remote` are never among them.

    Raises:
        FileError: it cannot be read.
        DataError: it is no such file, or a server in it cannot be used.
    """
    text = read_text(path, MOST_BYTES)
    try:
        plain = json.loads(text)
    except ValueError:
        try:  # VS Code allows comments, and commas at the end
            for pattern in (_COMMENT, _LAST_COMMA):
                text = pattern.sub(lambda match: match[1] or "", text)
            plain = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: is not JSON: {reason_text(error)}") from error
    except RecursionError as error:
        raise DataError(f"{path}: is not JSON: {reason_text(error)}") from error
    root = next((key for key in _ROOTS if isinstance(plain, dict) and isinstance(plain.get(key), dict)), None)
    if root is None:
        raise DataError(
            f"{path}: has no `mcpServers` and no `servers`", hint='{"mcpServers": {"NAME": {"command": ...}}}'
        )
    servers: list[ToolServer] = []
    notices: list[str] = []
    for name, table in plain[root].items():
        place = f"{path}: `{name}`"
        if not isinstance(table, dict):
            raise DataError(f"{place} is not an object")
        if table.get("disabled"):
            continue
        unknown = sorted(table.keys() - _READ - _IGNORED)
        if unknown:
            notices.append(f"{place}: `{unknown[0]}` is not used")
        servers.append(with_variables(_server(name, table, place), variables))
    return tuple(servers), notices


def with_variables(server: ToolServer, variables: Mapping[str, str] = os.environ) -> ToolServer:
    """The server with what `${...}` stands for in its texts.

    Raises:
        DataError: a variable is not set.
    """
    values = child_environment(variables, keeps=OWN_KEYS)

    def expanded(text: str | None) -> str | None:
        return text and _VARIABLE.sub(lambda match: _value(match["name"], values, server.place), text)

    def pairs(texts: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        return tuple((name, expanded(text) or "") for name, text in texts)

    return replace(
        server,
        command=expanded(server.command),
        args=tuple(expanded(each) or "" for each in server.args),
        env=pairs(server.env),
        cwd=expanded(server.cwd),
        url=expanded(server.url),
        headers=pairs(server.headers),
    )


def _server(name: str, table: Mapping[str, Any], place: str) -> ToolServer:
    kind = table.get("type", "stdio" if "command" in table else "http")
    if kind == "sse":
        raise DataError(
            f"{place}: the transport SSE was replaced by streamable HTTP, which is supported",
            hint='use the server\'s address for it with `"type": "http"`, or set `"disabled": true`',
        )
    if kind not in ("stdio", *_HTTP):
        raise DataError(f"{place}: unknown type {kind!r}", hint="stdio or http")

    def text(value: Any, key: str) -> str:
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise DataError(f"{place}: `{key}` must be a text")
        return str(value)

    def pairs(key: str) -> tuple[tuple[str, str], ...]:
        value = table.get(key) or {}
        if not isinstance(value, dict):
            raise DataError(f"{place}: `{key}` must be an object")
        return tuple((each, text(part, f"{key}.{each}")) for each, part in value.items() if part is not None)

    needed = "command" if kind == "stdio" else "url"
    if needed not in table:
        raise DataError(f"{place}: needs a `{needed}`")
    arguments = table.get("args") or []
    if not isinstance(arguments, list):
        raise DataError(f"{place}: `args` must be a list")
    seconds = table.get("startup_timeout_sec", START_SECONDS)
    if not is_start_limit(seconds):
        raise DataError(f"{place}: `startup_timeout_sec` must be {START_WORDS}")
    own = text(table[needed], needed)
    return ToolServer(
        name,
        place,
        command=own if kind == "stdio" else None,
        args=tuple(text(each, "args") for each in arguments),
        env=pairs("env"),
        cwd=text(table["cwd"], "cwd") if table.get("cwd") else None,
        url=None if kind == "stdio" else own,
        headers=pairs("headers"),
        startup_timeout_sec=seconds,
    )


def _value(name: str, variables: Mapping[str, str], place: str) -> str:
    """What a `${...}` stands for: a variable of the environment, with `:-` and a default in Claude's form, or a folder.

    Raises:
        DataError: nothing here.
    """
    if name.startswith("input:"):
        raise DataError(
            f"{place}: `${{{name}}}` asks for a value, which only VS Code does",
            hint="write `${env:NAME}` in its place, and set that variable",
        )
    folders = {"workspaceFolder": str(Path.cwd()), "userHome": os.path.expanduser("~"), "pathSeparator": os.sep}  # noqa: PTH111
    if name in folders:
        return folders[name]
    variable, dash, default = name.removeprefix("env:").partition(":-")
    if variable in variables:
        return variables[variable]
    if dash:
        return default
    raise DataError(f"{place}: ${variable} is not set", hint=f"`export {variable}=...`")
