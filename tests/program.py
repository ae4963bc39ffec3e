"""Run the program as its command does, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

PROGRAM = (sys.executable, "-m", "chat")


def run(*arguments: object, stdin: bytes = b"", **more: Any) -> subprocess.CompletedProcess[bytes]:
    """Run it to its end."""
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False, **more)


def start(*arguments: object) -> subprocess.Popen[bytes]:
    """Start it with nothing on stdin."""
    command = [*PROGRAM, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
