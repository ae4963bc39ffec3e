"""Open a file or a text in the person's own editor. Knows $VISUAL and $EDITOR."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

from chat.ground.errors import UsageError


def open_editor(path: Path) -> None:
    """Wait until the person has closed the file.

    Raises:
        UsageError: the editor cannot be started, or says that it failed.
    """
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        subprocess.run([*shlex.split(editor), str(path)], check=True)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise UsageError(f"the editor `{editor}` failed", hint="set $EDITOR to yours") from error


def edited(text: str) -> str:
    """A Markdown text as the person leaves it, without the newline that editors end a file with.

    Raises:
        UsageError: the editor cannot be started, or says that it failed; or there is no room for the file.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="mistral-chat-") as folder:
            path = Path(folder, "message.md")
            path.write_bytes(text.encode("utf-8", errors="surrogateescape"))
            open_editor(path)
            return path.read_text(encoding="utf-8", errors="replace").removesuffix("\n")
    except OSError as error:
        raise UsageError(f"the text cannot be edited: {error.strerror}") from error
