"""`/export`: write the conversation to a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.errors import UsageError
from chat.history.export import export_text, format_of_suffix
from chat.system.atomic_file import write_file
from chat.system.paths import expand_path
from chat.tui.commands.lookup import unquoted

if TYPE_CHECKING:
    from chat.tui.state import SessionState

OVERWRITE = "--overwrite"


def export(state: SessionState, argument: str) -> None:
    """`/export FILE [--overwrite]`

    Raises:
        UsageError: nothing was said, the file exists, or its name ends with no known format.
        FileError: the file cannot be written.
    """
    argument = argument.strip()
    overwrites = argument.endswith(OVERWRITE)
    name = unquoted(argument.removesuffix(OVERWRITE))
    if not name:
        raise UsageError("needs the name of a file", hint="`/export talk.md`, or .json, .html, .jsonl")
    if state.session.record is None:
        raise UsageError("nothing was said yet")
    path = expand_path(name)
    text = export_text(state.session.record, state.session.conversation, format_of_suffix(path))
    if path.exists() and not overwrites:
        raise UsageError(f"{path} exists", hint=f"`/export {name} {OVERWRITE}` replaces it")
    write_file(path, text, overwrite=overwrites)
    state.report(f"wrote {path}, {len(text.encode()):,} bytes")
