"""`/file`: attach text files to the next message."""

from __future__ import annotations

import glob
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from chat.app.prompt_input import fenced, file_text
from chat.core.conversation import Message
from chat.errors import FileError, UsageError
from chat.rendering.styled_text import plain
from chat.system.paths import expand_path
from chat.system.terminal_text import counted, escape_line
from chat.tui.state import Attachment

if TYPE_CHECKING:
    from chat.app.prompt_input import InputText
    from chat.tui.state import SessionState

LONG_CHARACTERS = 1_000_000  # counting the tokens of so many takes long enough to say so


def attach_files(state: SessionState, argument: str) -> None:
    """`/file [PATH ...]`: attach files, list those that are attached, or drop them.

    Raises:
        UsageError: a pattern matches no file.
        FileError: a file cannot be read.
        DataError: a file is binary.
    """
    if argument.strip() == "clear":
        state.attachments.clear()
    elif argument.strip():
        files = [(path, _read(path)) for path in matching_files(argument.strip())]  # all of them, or none
        for path, content in files:
            attachment = Attachment(
                escape_line(Path(path).name), content.text, fenced(path, content.text), os.path.realpath(path)
            )
            state.attachments[:] = [each for each in state.attachments if each.path != attachment.path]
            state.attachments.append(attachment)
            for warning in content.warnings:
                state.show(*state.wrapped(f"note: {warning}", "magenta"))
    if not state.attachments:
        return state.report("No files are attached. /file PATH attaches one to the next message.")
    if sum(len(attachment.text) for attachment in state.attachments) > LONG_CHARACTERS:
        state.screen.update((), [plain("counting tokens …", "dim")])
    counts = state.backend.count(tuple(Message("user", attachment.text) for attachment in state.attachments))
    state.screen.update()
    for attachment, count in zip(state.attachments, counts, strict=True):
        state.show(*state.wrapped(f"{attachment.name} · {_size_text(attachment.text, count)}", "dim"))
    them, go = ("it", "It goes") if len(state.attachments) == 1 else ("them", "They go")
    return state.report(f"{go} with the next message. /file clear drops {them}.")


def matching_files(text: str) -> list[str]:
    """The files that an argument names: one whose name has spaces if it exists, else words and patterns as in a shell.

    Raises:
        UsageError: a pattern matches no file.
    """
    whole = str(expand_path(text))
    if os.path.lexists(whole):
        return [whole]
    try:
        words = shlex.split(text)
    except ValueError:  # a quote that belongs to the name
        words = [text]
    return [file for word in words for file in _matches(str(expand_path(word)))]


def _matches(word: str) -> list[str]:
    """The files that a pattern matches, sorted; the word itself if it is no pattern or the name of a file."""
    if os.path.lexists(word) or not glob.has_magic(word):
        return [word]
    found = sorted(name for name in glob.glob(word) if not os.path.isdir(name))  # noqa: PTH112, PTH207
    if not found:
        raise UsageError(f"no file matches `{escape_line(word)}`")
    return found


def _read(path: str) -> InputText:
    """The text of a regular file; reading a pipe might never end."""
    file = Path(path)
    if "\0" in path:
        raise FileError(f"{path}: no file has such a name")
    if file.is_dir():
        raise FileError(f"{path}: is a folder", hint=f"`/file {file / '*.txt'}` attaches what is in it")
    if file.exists() and not file.is_file():
        raise FileError(f"{path}: is not a file")
    return file_text("./-" if path == "-" else path)  # a bare `-` would be stdin


def _size_text(text: str, tokens: int | None) -> str:
    size = counted(len(text), "character")
    return size if tokens is None else f"{size}, {counted(tokens, 'token')}"
