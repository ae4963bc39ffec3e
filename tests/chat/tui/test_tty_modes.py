"""The terminal's modes are restored whenever a signal comes."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path

import pytest

from tests.chat.tui.pseudo_terminal import Terminal

INTERRUPTED = """
import os, signal
from chat.tui.tty_modes import TtyModes

class Interrupted(TtyModes):
    def mark_pastes(self, is_on):
        if is_on is {on}:
            os.kill(os.getpid(), signal.{name})  # while the modes change
        super().mark_pastes(is_on)

def leave(*_):
    raise SystemExit(1)

signal.signal(signal.SIGTERM, leave)
signal.signal(signal.SIGHUP, leave)
with Interrupted().raw_between_prompts():
    pass
"""
STOPPED = """
import os, signal
from chat.tui.tty_modes import TtyModes

with TtyModes().raw_between_prompts() as modes:
    os.kill(os.getpid(), signal.SIGTSTP)  # nothing else is imported yet
    print("continued")
    with modes.restored():
        os.kill(os.getpid(), signal.SIGTSTP)
        print("restored: ", end="", flush=True)
        os.system("stty -g")
"""


def modes_shown(terminal: Terminal) -> list[str]:
    """What each `stty -g` printed."""
    while terminal.pump(0.5):
        pass
    return re.findall(r"(?:[0-9a-f]+:){10,}[0-9a-f]+", terminal.output.decode())


@pytest.mark.slow
@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_the_modes_change_does_not_keep_them(name: str, on: bool, tmp_path: Path) -> None:
    """Once Ctrl+C at the very end left a shell without echo."""
    shell = 'stty -g; "$@"; stty -g'
    command = ["bash", "-c", shell, "bash", sys.executable, "-c", INTERRUPTED.format(name=name, on=on)]
    shown = modes_shown(terminal := Terminal(command, folder=tmp_path))
    assert len(shown) == 2 and shown[0] == shown[1], terminal.everything()


def test_ctrl_z_restores_the_modes_before_a_session_starts_and_inside_of_restored(tmp_path: Path) -> None:
    shell = 'set -m; stty -g; "$@"; stty -g; fg > /dev/null; stty -g; fg > /dev/null; stty -g'
    command = ["bash", "-c", shell, "bash", sys.executable, "-c", STOPPED]
    shown = modes_shown(terminal := Terminal(command, folder=tmp_path))
    assert "continued" in terminal.everything() and "restored: " in terminal.everything()
    assert len(shown) == 5 and len(set(shown)) == 1, terminal.everything()


def test_ctrl_backslash_restores_the_modes_and_ends_at_once(tmp_path: Path) -> None:
    """Once it left a shell without echo."""
    shell = 'ulimit -c 0; stty -g; "$@"; echo code=$?; stty -g'
    code = INTERRUPTED.replace("    pass", "    os.kill(os.getpid(), signal.SIGQUIT)").format(name="SIGCONT", on=False)
    shown = modes_shown(
        terminal := Terminal(["bash", "-c", shell, "bash", sys.executable, "-c", code], folder=tmp_path)
    )
    assert f"code={128 + signal.SIGQUIT}" in terminal.everything()
    assert len(shown) == 2 and shown[0] == shown[1], terminal.everything()
