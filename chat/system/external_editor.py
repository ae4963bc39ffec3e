"""Open a file or a text in the editor that $VISUAL or $EDITOR names."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from chat import platform
from chat.errors import UsageError
from chat.system.secrets import child_environment
from chat.system.text_files import read_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    OnStart = Callable[[subprocess.Popen[bytes]], object]


def open_editor(path: Path, on_start: OnStart = lambda _: None) -> None:
    """Open a file in the editor and wait until the editor ends.

    Args:
        on_start: called with the editor's process, for code that may have to end it.

    Raises:
        UsageError: the editor cannot be started, or failed.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or platform.EDITOR
    try:
        with subprocess.Popen([*platform.split_words(editor), str(path)], env=child_environment()) as process:
            on_start(process)
            if process.wait():
                raise subprocess.CalledProcessError(process.returncode, editor)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise UsageError(f"the editor `{editor}` failed", hint="set $EDITOR to yours") from error


def edit_text(text: str, on_start: OnStart = lambda _: None) -> str:
    """A Markdown text after the user edited it, without the newline that editors add at the end.

    Args:
        on_start: as for `open_editor`.

    Raises:
        UsageError: the editor cannot be started, failed, or left no file or a huge one.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="mistral-chat-", ignore_cleanup_errors=True) as folder:
            path = Path(folder, "message.md")
            path.write_bytes(text.encode("utf-8", errors="surrogateescape"))
            open_editor(path, on_start)
            if not path.is_file():  # reading a pipe or a device might never end
                raise UsageError("the editor left no file with the text")
            with path.open("rb") as file:
                text = read_stream(file, "the editor's text", too_large=UsageError).decode("utf-8", "replace")
            return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")
    except OSError as error:
        raise UsageError(f"the text cannot be edited: {error.strerror}") from error
