"""Write the rules that the user allows for good into the settings file, as `[tools] allow`."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

from chat.config.settings_file import TOOLS, read_settings_file, toml_value
from chat.errors import UsageError
from chat.system.paths import require_private_folder
from chat.system.text_files import write_file

if TYPE_CHECKING:
    from pathlib import Path

_TABLE_HEADER = re.compile(r"\s*\[\s*tools\s*\]\s*(#.*)?")
_ARRAY_START = re.compile(r"\s*allow\s*=")


def store_allowed(path: Path, rules: tuple[str, ...]) -> None:
    """Write the list `allow` of `[tools]`, and nothing else, into the settings file, which may be missing.

    Raises:
        FileError: it cannot be read or written.
        UsageError: it is written in a way that only a person can change.
    """
    file = read_settings_file(path)
    text = text_with_allowed(file.text, rules)
    before = tomllib.loads(file.text)
    try:
        after = tomllib.loads(text or "")
    except tomllib.TOMLDecodeError:  # the table is written in another way
        after = {}
    own = dict(before.get(TOOLS, {})) if isinstance(before.get(TOOLS, {}), dict) else None
    if text is None or own is None or after != before | {TOOLS: own | {"allow": list(rules)}}:
        hint = f"write allow = {toml_value(rules)} there; `mistral-chat config edit` opens the file"
        raise UsageError(f"{file.place(TOOLS)}: `allow` of [tools] cannot be changed here", hint=hint)
    require_private_folder(path.parent)
    write_file(path, text, overwrite=True)


def text_with_allowed(text: str, rules: tuple[str, ...]) -> str | None:
    """The text of a settings file with this list of rules; None where it cannot be put in."""
    lines = text.splitlines(keepends=True)
    written = "".join(f"  {toml_value(rule)},\n" for rule in rules)
    entry = f"allow = [\n{written}]\n" if rules else "allow = []\n"
    header = next((number for number, line in enumerate(lines) if _TABLE_HEADER.fullmatch(line.rstrip("\n"))), None)
    if header is None:
        gap = "" if not text else "\n" if text.endswith("\n") else "\n\n"
        return f"{text}{gap}[tools]\n{entry}"
    end = next((number for number in range(header + 1, len(lines)) if lines[number].lstrip().startswith("[")), None)
    start = next((number for number in range(header + 1, end or len(lines)) if _ARRAY_START.match(lines[number])), None)
    if start is None:
        if not lines[header].endswith("\n"):
            lines[header] += "\n"
        return "".join([*lines[: header + 1], entry, *lines[header + 1 :]])
    for stop in range(start + 1, len(lines) + 1):
        try:
            tomllib.loads("".join(lines[start:stop]))
        except tomllib.TOMLDecodeError:
            continue
        return "".join([*lines[:start], entry, *lines[stop:]])
    return None
