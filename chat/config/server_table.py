"""Check the table of a server in the settings file, `[remote.NAME]` or `[tools.NAME]`: its name, keys and values."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from chat.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)


def checked_server(
    section: str,
    name: str,
    table: Any,
    kinds: Mapping[str, tuple[type, str]],
    place: Callable[..., str],
    hints: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The values of a server by their keys, with underscores.

    Args:
        section: `remote` or `tools`.
        name: of the server.
        table: as the file has it.
        kinds: the type of each key, and what the value must be, in words. Lists and tables hold texts.
        place: gives the file and the line of a key below the section.
        hints: for keys that are none.

    Raises:
        UsageError: a wrong name, an unknown key, or a wrong value; the message repeats no values, which may be secrets.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{place(name)}: a server's name has only letters, digits, `-`, `_` and `.`")
    if not isinstance(table, dict):
        raise UsageError(f"{place(name)}: [{section}.{name}] is not a table")
    values: dict[str, Any] = {}
    for written, value in table.items():
        key, at = written.replace("-", "_"), place(name, written)
        if key not in kinds:
            hint = (hints or {}).get(key) or _near(key, kinds)
            raise UsageError(f"{at}: unknown key `{written}` of a server", hint=hint)
        if key in values:
            raise UsageError(f"{at}: `{written}` is set twice")
        kind, words = kinds[key]
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if not isinstance(value, kind) or value == "" or not all(isinstance(part, str) for part in parts):
            raise UsageError(f"{at}: `{written}` must be {words}")
        values[key] = value
    return values


def _near(key: str, kinds: Mapping[str, object]) -> str:
    near = get_close_matches(key, kinds, 1)
    return f"did you mean `{near[0]}`?" if near else f"keys: {', '.join(kinds)}"
