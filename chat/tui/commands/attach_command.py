"""`/file`: attach files, documents, folders, pages and the output of commands to the next message."""

from __future__ import annotations

import glob
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from chat.core.conversation import Message
from chat.documents.open_document import open_document
from chat.errors import FileError, UsageError
from chat.rendering.styled_text import plain
from chat.system.paths import expand_path
from chat.system.terminal_text import counted, escape_line

if TYPE_CHECKING:
    from chat.documents.document import Document
    from chat.tui.state import SessionState

LONG_CHARACTERS = 1_000_000  # counting the tokens of so many takes long enough to say so


def attach_files(state: SessionState, argument: str) -> None:
    """`/file [PATH ...]`: attach files, list those that are attached, or drop them.

    Raises:
        UsageError: a pattern matches no file.
        FileError: a file cannot be read.
        DataError: a file is no text, and no document that can be read.
    """
    if argument.strip() == "clear":
        state.attachments.clear()
    elif argument.strip():
        found = [_open(name) for name in named_sources(argument.strip())]  # all, or none
        for document in found:
            state.attachments[:] = [each for each in state.attachments if each.source != document.source]
            state.attachments.append(document)
            for warning in document.warnings:
                state.show(*state.wrapped(f"note: {warning}", "magenta"))
    if not state.attachments:
        return state.report("No files are attached. /file PATH attaches one to the next message.")
    texts = [attachment.all_text() for attachment in state.attachments]
    if sum(map(len, texts)) > LONG_CHARACTERS:
        state.screen.update((), [plain("counting tokens …", "dim")])
    counts = state.backend.count(tuple(Message("user", text) for text in texts))
    state.screen.update()
    for attachment, text, count in zip(state.attachments, texts, counts, strict=True):
        size = counted(len(text), "character")
        size += "" if count is None else f", {counted(count, 'token')}"
        state.show(*state.wrapped(f"{escape_line(attachment.name)} · {size}", "dim"))
    them, go = ("it", "It goes") if len(state.attachments) == 1 else ("them", "They go")
    when = f"{go} with the next message"
    if state.settings.find:
        when = f"What matches of {them} goes with each message"
    return state.report(f"{when}. /file clear drops {them}.")


def named_sources(text: str) -> list[str]:
    """What an argument names: a command after `!`, a file with spaces in its name, or words and patterns as in a shell.

    Raises:
        UsageError: a pattern matches no file.
    """
    whole = str(expand_path(text))
    if os.path.lexists(whole):
        return [whole]
    if text.startswith("!"):
        return [text]
    try:
        words = shlex.split(text)
    except ValueError:  # a quote that belongs to the name
        words = [text]
    return [name for word in words for name in _matches(word)]


def _matches(word: str) -> list[str]:
    """The files that a pattern matches, sorted; the word itself if it is no pattern or the name of a file."""
    path = str(expand_path(word))
    if "://" in word or os.path.lexists(path) or not glob.has_magic(path):
        return [word if "://" in word else path]
    found = sorted(name for name in glob.glob(path) if not os.path.isdir(name))  # noqa: PTH112, PTH207
    if not found:
        raise UsageError(f"no file matches `{escape_line(word)}`")
    return found


def _open(name: str) -> Document:
    """What a name stands for; reading a pipe might never end."""
    if "\0" in name:
        raise FileError(f"{name}: no file has such a name")
    if Path(name).exists() and not (Path(name).is_file() or Path(name).is_dir()):
        raise FileError(f"{name}: is not a file")
    return open_document("./-" if name == "-" else name)  # a bare `-` would be stdin
