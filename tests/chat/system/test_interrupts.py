"""No signal is lost, wherever its handler runs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.folders import ROOT

IN_A_CALLBACK = """
import signal, sys, time, weakref
from contextlib import nullcontext
from chat.cli.main import _exit_by_signal
from chat.system import interrupts
from chat.tui.event_queue import EventQueue
from chat.tui.signals import Signals, Terminated

class Thing: pass

def send(_):
    signal.raise_signal(getattr(signal, sys.argv[1]))
    [None for _ in range(1000)]

signal.signal(signal.SIGTERM, _exit_by_signal)
interrupts.raise_on_interrupt()
session = Signals(None, EventQueue())
in_a_session = session.installed() if sys.argv[1] == "SIGHUP" else nullcontext()
interrupts.repeat_lost_signals()
thing = Thing()
reference = weakref.ref(thing, send)
try:
    with in_a_session, session.raising_on_ctrl_c() if sys.argv[1] == "SIGHUP" else nullcontext():
        del thing
        time.sleep(60)
except KeyboardInterrupt:
    sys.exit(130)
except Terminated:
    sys.exit(3)
"""


@pytest.mark.parametrize(
    ("name", "code"), [("SIGINT", 130), *([("SIGTERM", 143), ("SIGHUP", 3)] if os.name == "posix" else [])]
)
def test_a_signal_in_a_callback_of_a_weak_reference_ends_the_program(name: str, code: int) -> None:
    """Each import has such a callback; Python prints and forgets an exception in it, and the program went on."""
    done = subprocess.run(
        [sys.executable, "-c", IN_A_CALLBACK, name], capture_output=True, text=True, cwd=ROOT, timeout=50, check=False
    )
    assert (done.returncode, done.stderr) == (code, "")


def test_other_exceptions_that_python_ignores_are_still_shown() -> None:
    code = (
        "from chat.system import interrupts; interrupts.repeat_lost_signals()\n"
        "class Thing:\n    def __del__(self): raise ValueError('seen')\nThing()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0 and "ValueError: seen" in done.stderr
