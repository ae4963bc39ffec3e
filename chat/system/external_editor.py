"""Open a file or a text in the person's own editor. Knows $VISUAL and $EDITOR."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from chat.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    Started = Callable[[subprocess.Popen[bytes]], object]


def open_editor(path: Path, on_start: Started = lambda _: None) -> None:
    """Wait until the person has closed the file.

    Args:
        on_start: takes the editor's process, for whoever may have to end it.

    Raises:
        UsageError: the editor cannot be started, or says that it failed.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        with subprocess.Popen([*shlex.split(editor), str(path)]) as process:
            on_start(process)
            if process.wait():
                raise subprocess.CalledProcessError(process.returncode, editor)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise UsageError(f"the editor `{editor}` failed", hint="set $EDITOR to yours") from error


def edited(text: str, on_start: Started = lambda _: None) -> str:
    """A Markdown text as the person leaves it, without the newline that editors end a file with.

    Args:
        on_start: as of `open_editor`.

    Raises:
        UsageError: the editor cannot be started, or says that it failed; or there is no room for the file.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="mistral-chat-") as folder:
            path = Path(folder, "message.md")
            path.write_bytes(text.encode("utf-8", errors="surrogateescape"))
            open_editor(path, on_start)
            return path.read_text(encoding="utf-8", errors="replace").removesuffix("\n")
    except OSError as error:
        raise UsageError(f"the text cannot be edited: {error.strerror}") from error
