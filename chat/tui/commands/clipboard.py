"""Copy text to the clipboards of the user's terminal and of this machine."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OSC_52_BYTES = 74_994  # of text: terminals accept 100,000 bytes of base64 with the sequence around it
PROGRAM_SECONDS = 3.0
PROGRAMS = (  # (variable that must be set, command); None stands for macOS
    (None, ("pbcopy",)),
    ("WAYLAND_DISPLAY", ("wl-copy",)),
    ("DISPLAY", ("xclip", "-selection", "clipboard")),
    ("DISPLAY", ("xsel", "--clipboard", "--input")),
    ("WSL_DISTRO_NAME", ("clip.exe",)),
)


def copy(text: str, write: Callable[[str], None] | None, environment: Mapping[str, str] | None = None) -> list[str]:
    """Copy `text` to every clipboard that can be reached.

    Args:
        text: any text.
        write: writes to the terminal; None without a terminal that knows the escape sequence OSC 52.
        environment: the environment variables; by default those of the process.

    Returns:
        The names of the clipboards; empty if none was reached.
    """
    environment = os.environ if environment is None else environment
    copied_to = []
    command = _command(environment)
    if command and _run(command, text):
        copied_to.append(Path(command[0]).name)
    data = text.encode()
    if write is not None and len(data) <= OSC_52_BYTES:
        write(f"\x1b]52;c;{base64.b64encode(data).decode()}\x07")
        copied_to.append("the terminal (OSC 52)")
    return copied_to


def _command(environment: Mapping[str, str]) -> tuple[str, ...] | None:
    """The first program that is installed and has the display it needs."""
    for variable, (name, *options) in PROGRAMS:
        is_usable = sys.platform == "darwin" if variable is None else environment.get(variable)
        path = shutil.which(name, path=environment.get("PATH")) if is_usable else None
        if path:
            return path, *options
    return None


def _run(command: tuple[str, ...], text: str) -> bool:
    """Give a program the text on stdin; False if it fails."""
    try:
        process = subprocess.run(
            command, input=text.encode(), timeout=PROGRAM_SECONDS, check=False,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return process.returncode == 0
