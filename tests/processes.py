"""Look at other processes through /proc, as tests of what a program starts and leaves behind must."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path


def children_of(process: int) -> list[int]:
    """The children of a process, oldest first; none when it has ended."""
    with contextlib.suppress(OSError):
        return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


def state_of(process: int) -> str:
    """The kernel's letter for what a process does, such as `S` or `T`; empty when it has ended, reaped or not."""
    with contextlib.suppress(OSError):
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return "" if state in "ZX" else state
    return ""


def ends(process: int, within_seconds: float = 5.0) -> bool:
    """Whether a process, of which we are not the parent, ends in time."""
    deadline = time.monotonic() + within_seconds
    while state_of(process) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not state_of(process)
