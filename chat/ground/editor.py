"""Open a file in the person's own editor. Knows $VISUAL and $EDITOR."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING

from chat.ground.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


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
