"""Read the settings file: its values, its presets, and the line of each; make the text of a new one."""

from __future__ import annotations

import errno
import json
import re
import tomllib
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.config.option_types import checked, option_specs
from chat.config.options import Group
from chat.errors import FileError, UsageError, reason_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chat.config.option_types import OptionSpec
    from chat.config.remotes import Remote
    from chat.config.tool_table import ToolTable

# How a path is missing: a user without a home folder may have HOME=/dev/null
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
LARGEST_BYTES = 1 << 20
REMOTES = "remote"  # the table of the servers
TOOLS = "tools"  # the table of rules and sources of functions
PRESETS = "preset"  # the table of the presets; $MISTRAL_CHAT_PRESET, no key of the file, sets a default preset
EDIT_HINT = "`mistral-chat config edit` opens it"

_HEADER = re.compile(r"\s*\[{1,2}\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"\s*((?:\"[^\"]*\"|'[^']*'|[\w.\s-])+?)\s*=")
_PART = re.compile(r"\"([^\"]*)\"|'([^']*)'|([\w-]+)")
HEAD = """\
# Settings of mistral-chat. A line without `#` before it counts; flags and MISTRAL_CHAT_* variables override it.
"""
TAIL = """\
# Presets: `mistral-chat --preset code`, or `/preset code` in a session.
# [preset.code]
# system = "You are a careful programmer."
# temperature = 0.2

# Servers: `mistral-chat --remote lab`, or `/model lab` in a session.
# [remote.lab]
# url = "https://lab.example.org/v1"
# model = "mistral-small"
# key_variable = "LAB_KEY"  # or `keyring = true`, and `mistral-chat config key lab`

# Functions that the model may call with `--run-tools`: rules, MCP servers and Python files.
# [tools]
# allow = ["calculate", "read_file(path=src/*)"]
# [tools.time]
# command = "uvx"
# args = ["mcp-server-time"]
"""


@dataclass(frozen=True)
class SettingsFile:
    """A settings file.

    Attributes:
        table: its values outside of presets, unchecked.
        presets: the tables of its presets, unchecked.
        servers: the tables of its servers, unchecked.
        tools: the table of functions, unchecked.
    """

    path: Path | None = None
    text: str = ""
    table: Mapping[str, Any] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    servers: Mapping[str, Any] = field(default_factory=dict, repr=False)
    tools: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def values(self) -> tuple[dict[str, Any], dict[str, str]]:
        """The checked values outside of presets, and the place of each.

        Raises:
            UsageError: an unknown name or a wrong value; the message says on which line.
        """
        return self._checked(self.table, ())

    def preset(self, name: str) -> tuple[dict[str, Any], dict[str, str]]:
        """The checked values of a preset, and their origin.

        Raises:
            UsageError: there is no such preset, or it holds an unknown name or a wrong value.
        """
        if name not in self.presets:
            known = ", ".join(self.presets)
            hint = f"presets: {known}" if known else "there are none; `mistral-chat config edit` adds one"
            raise UsageError(f"no preset `{name}` in {self.path}", hint=hint)
        values, _ = self._checked(self.presets[name], (PRESETS, name))
        return values, dict.fromkeys(values, f"preset {name}")

    def remotes(self) -> tuple[Remote, ...]:
        """The checked servers.

        Raises:
            UsageError: an unknown key or a wrong value; the message says on which line.
        """
        if not self.servers:
            return ()
        from chat.config.remotes import read_remotes

        return read_remotes(self.servers, lambda *keys: self.place(REMOTES, *keys))

    def tool_table(self) -> ToolTable | None:
        """The checked table of functions; None if there is none.

        Raises:
            UsageError: an unknown key or a wrong value; the message says on which line.
        """
        if not self.tools:
            return None
        from chat.config.tool_table import read_tool_table

        return read_tool_table(self.tools, lambda *keys: self.place(TOOLS, *keys))

    def place(self, *keys: str) -> str:
        """The file and, if it can be found, the line of a key."""
        line = _line_of(self.text, keys)
        return f"{self.path}, line {line}" if line else str(self.path)

    def _checked(self, table: Mapping[str, Any], section: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, str]]:
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        for key, value in table.items():
            place = self.place(*section, key)
            name = key.replace("-", "_")
            if name in values:
                raise UsageError(f"{place}: `{key}` is set twice")
            values[name] = checked_at(spec_of(key, place), value, place)
            origins[name] = place
        return values, origins


def read_settings_file(path: Path | None) -> SettingsFile:
    """The settings file at `path`, which may be missing.

    Raises:
        FileError: it cannot be read.
        UsageError: it is no TOML, or its presets are no tables.
    """
    return _parsed(path, "" if path is None else _read(path))


def _parsed(path: Path | None, text: str) -> SettingsFile:
    """The settings file with this text.

    Raises:
        UsageError: it is no TOML, or its presets are no tables.
    """
    try:
        table = tomllib.loads(text)
    except RecursionError as error:
        raise UsageError(f"{path}: is nested too deeply", hint=EDIT_HINT) from error
    except ValueError as error:
        raise UsageError(f"{path}: {reason_text(error)}", hint=EDIT_HINT) from error
    presets = table.pop(PRESETS, {})
    servers = table.pop(REMOTES) if isinstance(table.get(REMOTES), dict) else {}  # else it is an address
    tools = table.pop(TOOLS) if isinstance(table.get(TOOLS), dict) else {}
    file = SettingsFile(path, text, table, presets if isinstance(presets, dict) else {}, servers, tools)
    if presets is not file.presets:
        raise UsageError(f"{file.place(PRESETS)}: `{PRESETS}` must have tables such as [{PRESETS}.code], not a value",
                         hint="`--preset NAME`, or the variable MISTRAL_CHAT_PRESET, uses one")  # fmt: skip
    for name, preset in file.presets.items():
        if not isinstance(preset, dict):
            raise UsageError(f"{file.place(PRESETS, name)}: [{PRESETS}.{name}] is not a table")
    return file


def checked_at(spec: OptionSpec, value: Any, place: str) -> Any:
    """The checked value.

    Args:
        place: where the value is from, for the error.

    Raises:
        UsageError: the value is wrong.
    """
    try:
        return checked(spec, value)
    except UsageError as error:
        raise UsageError(f"{place}: {error.message}", hint=error.hint) from error


def persistent_names() -> list[str]:
    """The names of the settings that the file and the environment may set."""
    return [name for name, spec in option_specs().items() if spec.option.persistent]


def spec_of(key: str, place: str) -> OptionSpec:
    """The setting of this name, which the file may hold.

    Args:
        place: where the name is from, for the error.

    Raises:
        UsageError: there is none, or it belongs to the command line.
    """
    name = key.replace("-", "_")
    spec = option_specs().get(name)
    if spec is None or name == PRESETS:
        near = get_close_matches(name, persistent_names(), 1)
        raise UsageError(f"{place}: unknown setting `{key[:80]}`", hint=f"did you mean `{near[0]}`?" if near else None)
    if not spec.option.persistent:
        raise UsageError(f"{place}: `{key}` can only be given on the command line", hint=f"use `{spec.option.flag}`")
    return spec


def _read(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise FileError(f"{path}: is not a file")
        size = path.stat().st_size
        if size > LARGEST_BYTES:
            raise UsageError(f"{path}: has {size:,} bytes, but the limit is {LARGEST_BYTES:,}")
        data = path.read_bytes()
    except OSError as error:
        if error.errno in NOT_THERE:
            return ""
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}, line {line}: is not UTF-8 text", hint=EDIT_HINT) from error


def _line_of(text: str, keys: tuple[str, ...]) -> int | None:
    """The number of the line that sets a table or a key; None if it is not found."""
    current: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            current = _parts(header[1])
            if current[: len(keys)] == keys:
                return number
        elif found := _KEY.match(line):
            full = (*current, *_parts(found[1]))
            shared = min(len(full), len(keys))  # an inline table holds the rest
            if full[:shared] == keys[:shared]:
                return number
    return None


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple("".join(part) for part in _PART.findall(dotted))


def changed_text(file: SettingsFile, name: str, value: Any) -> str:
    """The text of a settings file with another value outside of presets; everything else in it stays as it is.

    Args:
        name: of a setting that the file may hold.
        value: None removes the setting.

    Raises:
        UsageError: the value is written in a way that only a person can change, such as over several lines, or it is
            the default server of a file that names servers.
    """
    if name == REMOTES and value is not None and file.servers:
        first = next(iter(file.servers))  # TOML does not take both a value and tables of one name
        raise UsageError(
            f"{file.place(REMOTES)}: `{REMOTES}` cannot be set in a file with [{REMOTES}.{first}]",
            hint=f"`export MISTRAL_CHAT_{REMOTES.upper()}=NAME` names it for good",
        )
    lines = file.text.splitlines(keepends=True)
    written = next((key for key in file.table if key.replace("-", "_") == name), None)
    entry = [] if value is None else [f"{name} = {toml_value(value)}\n"]
    if written is not None:
        number = (_line_of(file.text, (written,)) or 1) - 1
        lines[number : number + 1] = entry
    else:
        commented = re.compile(rf"#\s*{name}\s*=")
        tables = (number for number, line in enumerate(lines) if _HEADER.match(line))
        first_table = next(tables, len(lines))
        place = next((number for number in range(first_table) if commented.match(lines[number])), None)
        if place is None:
            if entry and first_table == len(lines) and lines and not lines[-1].endswith("\n"):
                lines[-1] += "\n"
            lines[first_table:first_table] = entry
        else:
            lines[place : place + 1] = entry or [lines[place]]
    text = "".join(lines)
    expected = {key: old for key, old in file.table.items() if key != written} | (
        {} if value is None else {name: value}
    )
    spans = UsageError(f"{file.path}: `{name}` spans several lines", hint=EDIT_HINT)
    try:
        changed = _parsed(file.path, text)
    except UsageError as error:
        raise spans from error
    kept = (file.presets, file.servers, file.tools)
    if (changed.table, changed.presets, changed.servers, changed.tools) != (expected, *kept):
        raise spans
    return text


def initial_text() -> str:
    """Every setting that the file may hold, with its help and its default, commented out."""
    parts = [HEAD]
    names = set(persistent_names()) - {PRESETS}
    for group in Group:
        specs = [spec for spec in option_specs().values() if spec.option.group is group and spec.name in names]
        if specs:
            parts.append(f"# --- {group.value}\n" + "".join(_entry(spec) for spec in specs))
    return "\n".join([*parts, TAIL])


def _entry(spec: OptionSpec) -> str:
    from textwrap import fill

    words = fill(spec.option.help, 100, initial_indent="# ", subsequent_indent="# ")
    return f"{words}\n# {spec.name} = {toml_value(_example(spec))}\n"


def _example(spec: OptionSpec) -> Any:
    """The default, or a value of the right type if there is none."""
    if spec.many:
        return list(spec.default)
    if spec.default is not None:
        return spec.default
    if spec.choices:
        return spec.choices[0]
    return {int: 0, float: 0.0, bool: True}.get(spec.kind, "")


def toml_value(value: Any) -> str:
    """The value in TOML.

    Source: TOML 1.0; a JSON string without raw control characters is a TOML basic string.
    """
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False).replace("\x7f", "\\u007f")
