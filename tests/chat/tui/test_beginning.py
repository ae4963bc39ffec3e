"""Ctrl+C at every moment of a session's start: no traceback, and the terminal's modes restored."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

import pytest

from tests.chat.tui.pseudo_terminal import CTRL_C, CTRL_D, Terminal
from tests.grids import FULL

STEP = 4 if FULL else 90
SHELL = 'stty -g; "$@"; echo code=$?; stty -g'
PROGRAM = [sys.executable, "-X", "importtime", "-m", "chat"]  # prints each module as it is imported


@pytest.mark.parametrize("imports", range(0, 360, STEP))
def test_ctrl_c_ends_a_starting_session_without_a_traceback(tmp_path: Path, tiny_model: Path, imports: int) -> None:
    """At a prompt it drops the line, as always; then Ctrl+D leaves."""
    terminal = Terminal(["bash", "-c", SHELL, "bash", *PROGRAM, "-m", str(tiny_model)], folder=tmp_path)

    def imported() -> int:
        _, _, after = terminal.output.partition(b"| chat.system.interrupts")
        return after.count(b"import time:") if after else -1

    deadline = time.monotonic() + 120
    while imported() < imports and "/help for help" not in terminal.text():
        assert time.monotonic() < deadline and terminal.pump(0.005), terminal.everything()
    terminal.child.send(CTRL_C)
    while terminal.pump(0.3):
        assert time.monotonic() < deadline, terminal.everything()
        if re.search(r"^>", terminal.text(), re.MULTILINE):
            terminal.child.send(CTRL_D)
    terminal.kill()
    shown = terminal.everything()
    modes = re.findall(r"(?:[0-9a-f]+:){10,}[0-9a-f]+", terminal.output.decode())
    assert "Traceback" not in shown and "Exception ignored" not in shown, shown
    assert "code=130" in shown or ("code=0" in shown and "/help for help" in shown), shown
    assert len(modes) == 2 and modes[0] == modes[1], shown
