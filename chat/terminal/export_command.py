"""The command that writes the conversation to a file. Knows names of files, not formats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.ground.errors import UsageError
from chat.ground.folders import written_path
from chat.ground.whole_file import write_file
from chat.sessions.export import export_text, format_of
from chat.terminal.command import unquoted

if TYPE_CHECKING:
    from chat.terminal.desk import Desk

OVERWRITE = "--overwrite"


def export(desk: Desk, argument: str) -> None:
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
    if desk.book.record is None:
        raise UsageError("nothing was said yet")
    path = written_path(name)
    text = export_text(desk.book.record, desk.book.conversation, format_of(path))
    if path.exists() and not overwrite:
        raise UsageError(f"{path} exists", hint=f"`/export {name} {OVERWRITE}` replaces it")
    write_file(path, text, overwrite=overwrite)
    desk.tell(f"wrote {path}, {len(text.encode()):,} bytes")
