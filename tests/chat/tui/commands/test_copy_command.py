"""`/copy` in a session."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest


@pytest.mark.slow
def test_copy_writes_to_the_terminals_clipboard(start: Any) -> None:
    terminal = start([["text", "Text\n\n```py\nx = 1\n```\n"]], environment={"DISPLAY": "", "WAYLAND_DISPLAY": ""})
    terminal.run("/copy", "there is no answer to copy yet")
    terminal.run("go", "x = 1")
    terminal.run("/copy code", "copied 6 characters to the terminal (OSC 52)")
    terminal.run("/copy", "copied 22 characters to the terminal (OSC 52)")
    copied = [base64.b64decode(found) for found in re.findall(rb"\x1b\]52;c;([^\x07]*)\x07", terminal.output)]
    assert copied == [b"x = 1\n", b"Text\n\n```py\nx = 1\n```\n"]
