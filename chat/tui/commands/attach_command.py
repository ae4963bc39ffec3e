"""`/file`: attach files, documents, folders, pages and the output of commands to the next message."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING

from chat import platform
from chat.app.backends import lacks_encoder
from chat.core.conversation import Message
from chat.documents.document import pictures_of, texts_of
from chat.documents.open_document import open_document
from chat.documents.pictures import picture_size
from chat.errors import FileError, UsageError
from chat.models.projector import fetch_projector
from chat.rendering.styled_text import plain
from chat.system.paths import expand_path
from chat.system.terminal_text import counted, escape_line, size_text
from chat.tui.commands.option_changes import load_again

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.core.conversation import Picture
    from chat.documents.document import Document
    from chat.tui.state import SessionState

LONG_CHARACTERS = 1_000_000  # counting the tokens of so many takes long enough to say so


def attach_files(state: SessionState, argument: str) -> None:
    """`/file [PATH ...]`: attach files, list those that are attached, or drop them.

    Raises:
        UsageError: a pattern matches no file, or the model reads no pictures.
        FileError: a file cannot be read.
        DataError: a file is no text, no picture, and no document that can be read.
    """
    if argument.strip() == "clear":
        state.attachments.clear()
    elif argument.strip():
        found = [_open(name) for name in named_sources(argument.strip())]  # all, or none
        check_pictures(state, found)
        for document in found:
            state.attachments[:] = [each for each in state.attachments if each.source != document.source]
            state.attachments.append(document)
            for warning in document.warnings:
                state.show(*state.wrapped(f"note: {warning}", "magenta"))
    if not state.attachments:
        return state.report("No files are attached. /file PATH attaches one to the next message.")
    show_attachments(state, state.attachments)
    them, go = ("it", "It goes") if len(state.attachments) == 1 else ("them", "They go")
    when = f"{go} with the next message"
    if state.settings.find and texts_of(state.attachments):
        when = f"What matches of {them} goes with each message"
    return state.report(f"{when}. /file clear drops {them}.")


def attach_dropped(state: SessionState, paths: Sequence[str]) -> None:
    """Attach pictures whose paths a terminal inserted, and show them.

    Raises:
        ChatError: the model reads only text, or a picture cannot be read.
    """
    found = [_open(path) for path in paths]
    check_pictures(state, found)
    state.attachments += [each for each in found if each.source not in {other.source for other in state.attachments}]
    show_attachments(state, found)
    state.show(())


def check_pictures(state: SessionState, documents: Sequence[Document]) -> None:
    """Wait for the model where there are pictures, and refuse those that it cannot read.

    A model in the hub's cache that came without its picture encoder gets it, and is loaded again.

    Raises:
        ChatError: the model reads only text, a picture is damaged, or the encoder cannot be downloaded.
        Terminated: a signal ends the program.
        KeyboardInterrupt: Ctrl+C stopped the wait.
    """
    if pictures := pictures_of(documents):
        state.wait_for_load()
        options = state.backend.options
        if lacks_encoder(options, state.settings) and fetch_projector(Path(options.model_path)):
            load_again(state, state.settings)
        state.backend.check_pictures(pictures)


def show_attachments(state: SessionState, documents: Sequence[Document]) -> None:
    """Show the names and sizes of what is attached."""
    texts = [document.all_text() for document in documents]
    if sum(map(len, texts)) > LONG_CHARACTERS:
        state.screen.update((), [plain("counting tokens …", "dim")])
    messages = tuple(
        Message("user", text, pictures=pictures_of([document])) for document, text in zip(documents, texts, strict=True)
    )
    counts = state.backend.count(messages)
    state.screen.update()
    for document, text, count in zip(documents, texts, counts, strict=True):
        size = counted(len(document.pages), "page") if document.pages else counted(len(text), "character")
        size = _picture_size(document.picture) if document.picture else size
        size += "" if count is None else f", {counted(count, 'token')}"
        state.show(*state.wrapped(f"{escape_line(document.name)} · {size}", "dim"))


def _picture_size(picture: Picture) -> str:
    size = picture_size(picture.data)
    return f"{size[0]}x{size[1]}" if size else size_text(len(picture.data))


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
        words = platform.split_words(text)
    except ValueError:  # a quote that belongs to the name
        words = [text]
    return [name for word in words for name in _matches(word)]


def _matches(word: str) -> list[str]:
    """The files that a pattern matches, sorted; the word itself if it is no pattern or the name of a file."""
    path = str(expand_path(word))
    if os.path.lexists(path):
        return [path]
    if "://" in word or word.startswith("!"):
        return [word]
    if not glob.has_magic(path):
        return [path]
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
