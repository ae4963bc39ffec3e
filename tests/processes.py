"""Look at other processes, as tests of what a program starts and leaves behind must: in /proc, or by `ps` elsewhere."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import time
from pathlib import Path

READ_CALLS = {"x86_64": "0", "aarch64": "63"}  # the number of read(2)
HAS_PROC = Path("/proc/self/stat").exists()


def children_of(process: int) -> list[int]:
    """The children of a process, oldest first; none when it has ended."""
    if not HAS_PROC:
        pairs = [list(map(int, line.split())) for line in _ps("-A", "-o", "ppid=,pid=")]
        return sorted(child for parent, child in pairs if parent == process)
    with contextlib.suppress(OSError):
        return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return []


def group_of(leader: int) -> list[int]:
    """The processes of a group that have not ended."""
    pairs = [list(map(int, line.split())) for line in _ps("-A", "-o", "pgid=,pid=")]
    return [process for group, process in pairs if group == leader and state_of(process)]


def processes_at_home(folder: Path) -> list[int]:
    """The processes whose home is in a folder and that have not ended; where the kernel tells."""
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"\0HOME={folder}{os.sep}".encode() in b"\0" + file.read_bytes():
                found.append(int(file.parent.name))
    return [process for process in found if state_of(process)]


def state_of(process: int) -> str:
    """The kernel's letter for what a process does, such as `S` or `T`; empty when it has ended, reaped or not."""
    state = ""
    if HAS_PROC:
        with contextlib.suppress(OSError):
            state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    else:
        state = "".join(_ps("-p", str(process), "-o", "state="))[:1]
    return "" if state in ("Z", "X") else state


def reads_stdin(process: int) -> bool:
    """Whether a process sleeps in a read of its stdin; or sleeps at all, if the kernel does not say in which call."""
    with contextlib.suppress(OSError, ValueError, LookupError):
        number, *arguments = Path(f"/proc/{process}/syscall").read_text().split()
        return number == READ_CALLS[platform.machine()] and int(arguments[0], 16) == 0
    return state_of(process) == "S"


def ends(process: int, within_seconds: float = 60.0) -> bool:
    """Whether a process, of which we are not the parent, ends in time."""
    deadline = time.monotonic() + within_seconds
    while state_of(process) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not state_of(process)


def _ps(*arguments: str) -> list[str]:
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False).stdout.splitlines()
