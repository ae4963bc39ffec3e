"""Copy text to the clipboard of the person's own terminal and of this machine. Knows programs, not conversations."""

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

OSC_52_BYTES = 74_994  # the most that terminals agree to take: 100,000 of base64 with its frame
PROGRAM_SECONDS = 3.0
PROGRAMS = (  # (variable that must be set, command)
    (None, ("pbcopy",)),
    ("WAYLAND_DISPLAY", ("wl-copy",)),
    ("DISPLAY", ("xclip", "-selection", "clipboard")),
    ("DISPLAY", ("xsel", "--clipboard", "--input")),
    ("WSL_DISTRO_NAME", ("clip.exe",)),
)


def copy(text: str, write: Callable[[str], None] | None, environment: Mapping[str, str] | None = None) -> list[str]:
    """Put `text` on every clipboard within reach.

    Args:
        write: writes to the terminal; None where there is none that obeys OSC 52.

    Returns:
        What took it, in words; empty when nothing did.
    """
    environment = os.environ if environment is None else environment
    took = []
    command = _command(environment)
    if command and _feed(command, text):
        took.append(Path(command[0]).name)
    data = text.encode()
    if write is not None and len(data) <= OSC_52_BYTES:
        write(f"\x1b]52;c;{base64.b64encode(data).decode()}\x07")
        took.append("the terminal (OSC 52)")
    return took


def _command(environment: Mapping[str, str]) -> tuple[str, ...] | None:
    """The first program that is here and has what it needs."""
    for variable, (name, *options) in PROGRAMS:
        is_usable = sys.platform == "darwin" if variable is None else environment.get(variable)
        path = shutil.which(name, path=environment.get("PATH")) if is_usable else None
        if path:
            return path, *options
    return None


def _feed(command: tuple[str, ...], text: str) -> bool:
    try:
        ended = subprocess.run(
            command, input=text.encode(), timeout=PROGRAM_SECONDS, check=False,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return ended.returncode == 0
