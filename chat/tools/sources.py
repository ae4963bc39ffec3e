"""The sources of functions that the settings name, and the rules for their calls."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from chat.config.tool_table import ToolServer
from chat.errors import DataError, FileError, UsageError, reason_text
from chat.prompts.tools_json import check_keys, with_parameters
from chat.remote.server_address import checked_header, is_loopback
from chat.system.installer import install_extra
from chat.system.network import is_offline
from chat.system.paths import expand_path
from chat.system.text_files import is_file, read_text
from chat.tools.built_in import BuiltInTools
from chat.tools.host_client import HostedTools
from chat.tools.mcp_config import read_mcp_config, with_variables
from chat.tools.rules import ToolRules, read_rules
from chat.tools.tool import BUILT_IN, CallLimits, rule_name
from chat.tools.toolbox import Toolbox

if TYPE_CHECKING:
    from chat.config.options import Settings
    from chat.tools.tool import ToolSource

MCP_HOST = "chat.tools.mcp_host"
PYTHON_HOST = "chat.tools.python_host"


def toolbox_of(settings: Settings, *, runs: bool) -> Toolbox:
    """The functions on offer, not started yet.

    Args:
        runs: whether calls are run here; else the functions of `--tools` alone are on offer.

    Raises:
        UsageError: a source cannot be used as it is written, two have one name, or a library for it is missing.
        FileError: a file cannot be read.
        DataError: a file breaks its format.
    """
    described: list[dict[str, Any]] = []
    servers: list[ToolServer] = []
    for name in settings.tools:
        if name.endswith(".py"):
            servers.append(ToolServer(Path(name).stem, f"--tools {name}", file=name))
        else:
            described += described_tools(Path(name))
    if not runs:
        return Toolbox([source_of(server, settings.log_file) for server in servers], described)
    named, notices = servers_of(settings)
    servers += named
    names = [BUILT_IN]
    for server in servers:
        if rule_name(server.name) in names:
            raise UsageError(f"{server.place}: there is another source of functions named `{server.name}`")
        names.append(rule_name(server.name))
    if is_offline():
        notices += [
            f"`{each.name}` is a server at an address, which is not asked offline" for each in servers if each.url
        ]
        servers = [each for each in servers if not each.url]
    sources: list[ToolSource] = [BuiltInTools(), *(source_of(server, settings.log_file) for server in servers)]
    return Toolbox(sources, described, notices)


def servers_of(settings: Settings) -> tuple[list[ToolServer], list[str]]:
    """The sources of the settings file and of the files of `--mcp-config`, and sentences about what is not used.

    Raises:
        FileError: a file cannot be read.
        DataError: a file breaks its format, or a variable that it names is not set.
    """
    servers = [with_variables(server) for server in (settings.tool_table.servers if settings.tool_table else ())]
    notices: list[str] = []
    for name in settings.mcp_config:
        found, remarks = read_mcp_config(expand_path(name))
        servers += found
        notices += remarks
    return servers, notices


def rules_of(settings: Settings) -> ToolRules:
    """The rules of the command line and the settings file.

    Raises:
        UsageError: one of them is no rule.
    """
    table = settings.tool_table
    stored = (table.allow, table.deny, table.place) if table else ((), (), "")
    return ToolRules(
        (*read_rules(settings.allow_tool, "--allow-tool"), *read_rules(stored[0], stored[2])),
        (*read_rules(settings.deny_tool, "--deny-tool"), *read_rules(stored[1], stored[2])),
    )


def limits_of(settings: Settings) -> CallLimits:
    """What one call may take."""
    return CallLimits(settings.tool_timeout, settings.tool_output)


def described_tools(path: Path) -> list[dict[str, Any]]:
    """The functions of a JSON file, as requests have them.

    Raises:
        FileError: it cannot be read.
        DataError: it is not a JSON list of functions.
    """
    text = read_text(path)
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        hint = "a Python file's name ends in .py" if "def " in text else None
        raise DataError(f"{path}: is not JSON: {reason_text(error)}", hint=hint) from error
    if not isinstance(plain, list) or not all(isinstance(tool, dict) for tool in plain):
        raise DataError(f"{path}: needs a JSON list of functions")
    for number, tool in enumerate(plain, 1):
        check_keys(tool, f"{path}, tool {number}")
    return [with_parameters(tool) for tool in plain]


def source_of(server: ToolServer, log_file: Path | None) -> HostedTools:
    """The source that a table or a file names.

    Raises:
        UsageError: it cannot be used as it is written, or a library for it is missing.
        FileError: its file is missing.
    """
    if server.file is not None:
        path = expand_path(server.file)
        if not is_file(str(path)):
            raise FileError(f"{server.place}: there is no such file", hint=f"it would be {path.absolute()}")
        own = {"file": str(path.absolute())}
        return HostedTools(server.name, PYTHON_HOST, own, server.startup_timeout_sec, log_file)
    if find_spec("mcp") is None:
        raise UsageError(
            f"{server.place}: MCP servers need a library that is not installed",
            hint=f"`{install_extra('tools')}` installs the official MCP SDK",
        )
    settings: dict[str, Any]
    if server.url is not None:
        _check_address(server)
        try:
            headers = dict(checked_header(name, value) for name, value in server.headers)
        except UsageError as error:
            raise UsageError(f"{server.place}: {error.message}") from error
        settings = {"url": server.url, "headers": headers}
    else:
        cwd = str(expand_path(server.cwd)) if server.cwd else None
        command = str(expand_path(server.command or ""))
        settings = {"command": command, "args": list(server.args), "env": dict(server.env), "cwd": cwd}
    return HostedTools(server.name, MCP_HOST, settings, server.startup_timeout_sec, log_file)


def _check_address(server: ToolServer) -> None:
    """Refuse an address that is none, and headers, which may hold a key, that would go over plain http.

    Raises:
        UsageError: either.
    """
    try:
        parts = urlsplit(server.url or "")
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError(f"{server.place}: the address must be like https://example.org/mcp")
    if parts.scheme == "http" and not is_loopback(host) and server.headers:
        raise UsageError(
            f"{server.place}: its headers would be sent over plain http, where others can read them",
            hint="use an https address, or leave the headers out",
        )
