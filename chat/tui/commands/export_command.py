"""The command that writes the conversation to a file. Knows names of files, not formats."""

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


def export(desk: SessionState, argument: str) -> None:
    """`/export FILE [--overwrite]`

    Raises:
        UsageError: nothing was said, the file is there already, or its name says no format.
        FileError: it cannot be written.
    """
    words = argument.strip()
    overwrite = words.endswith(OVERWRITE)
    name = unquoted(words.removesuffix(OVERWRITE))
    if not name:
        raise UsageError("needs the name of a file", hint="`/export talk.md`, or .json, .html, .jsonl")
    if desk.session.record is None:
        raise UsageError("nothing was said yet")
    path = expand_path(name)
    text = export_text(desk.session.record, desk.session.conversation, format_of_suffix(path))
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists", hint=f"`/export {name} {OVERWRITE}` replaces it")
    write_file(path, text, overwrite=overwrite)
    desk.tell(f"wrote {path}, {len(text.encode()):,} bytes")
