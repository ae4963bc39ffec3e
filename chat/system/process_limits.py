"""What the system allows a process: address space (`ulimit -v`), memory of its control groups, and threads."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chat import platform
from chat.errors import MemoryLimitError
from chat.system.terminal_text import size_text

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path("/")
NO_LIMIT = 1 << 62  # the older control groups write a number beyond it where there is no limit
LEAST_BYTES = 384 << 20  # with less, numpy's library waits forever for its buffers, or ends the process


@dataclass(frozen=True)
class GroupFiles:
    """Where a version of control groups keeps what it knows of memory.

    Attributes:
        controller: its word in /proc/self/cgroup.
        folder: of all groups.
        limit: file with the limit in bytes.
        used: file with the bytes in use.
        cached: the entry of `memory.stat` with the file pages in it that can be given back.
        kills: file that counts as `oom_kill` the processes that were killed for lack of memory.
    """

    controller: str
    folder: str
    limit: str
    used: str
    cached: str
    kills: str


VERSIONS = (
    GroupFiles("", "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file", "memory.events"),
    GroupFiles(
        "memory", "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file",
        "memory.oom_control",
    ),
)  # fmt: skip
HINT = "`ulimit -v unlimited` lifts the limit"


def address_space_limit() -> int:
    """The bytes that this process and each of its children may map; `NO_LIMIT` where there is none."""
    limit = platform.address_space_limit()
    return NO_LIMIT if limit is None else limit


def require_address_space(what: str) -> None:
    """Check that the numeric libraries can be loaded.

    Args:
        what: needs them, as the message names it.

    Raises:
        MemoryLimitError: the limit is too small.
    """
    limit = address_space_limit()
    if limit < LEAST_BYTES:
        raise MemoryLimitError(
            f"{what} needs {size_text(LEAST_BYTES)} of address space, but `ulimit -v` allows {size_text(limit)}",
            hint=HINT,
        )


def require_threads() -> None:
    """Check that numpy's library can start its threads: where it cannot, it sends SIGINT, as if Ctrl+C were pressed.

    Raises:
        RuntimeError: the system allows fewer threads than there are processors (`ulimit -u`).
    """
    end = threading.Event()
    threads = [threading.Thread(target=end.wait) for _ in range((os.cpu_count() or 1) - 1)]
    try:
        for thread in threads:
            thread.start()
    finally:
        end.set()
        for thread in threads:
            if thread.ident is not None:
                thread.join()


def memory_error() -> MemoryLimitError:
    """The error where the system gives no more memory."""
    limit = address_space_limit()
    if limit == NO_LIMIT:
        return MemoryLimitError("there is not enough memory", hint="close other programs and try again")
    return MemoryLimitError(f"there is not enough memory: `ulimit -v` allows {size_text(limit)}", hint=HINT)


def group_free_bytes(root: Path = ROOT) -> int:
    """What the memory limits of the control groups leave; `NO_LIMIT` where there is none.

    Args:
        root: of the file system.
    """
    free = [NO_LIMIT]
    for files, folder in _groups(root):
        limit, used = system_text(folder / files.limit), system_text(folder / files.used)
        if limit.isdigit() and used.isdigit():
            cached = _entries(folder / "memory.stat").get(files.cached, 0)
            free.append(max(0, int(limit) - int(used) + cached))
    return min(free)


def group_limit(root: Path = ROOT) -> int:
    """The least memory limit of the control groups, in bytes; `NO_LIMIT` where there is none."""
    limits = [system_text(folder / files.limit) for files, folder in _groups(root)]
    return min([NO_LIMIT, *(int(limit) for limit in limits if limit.isdigit())])


def memory_kills(root: Path = ROOT) -> int:
    """How many processes of the control groups the system has killed for lack of memory."""
    return sum(_entries(folder / files.kills).get("oom_kill", 0) for files, folder in _groups(root))


def _groups(root: Path) -> Iterator[tuple[GroupFiles, Path]]:
    """The folders of this process's groups, and of those around them; a container may see its own group only."""
    for line in system_text(root / "proc/self/cgroup").splitlines() or ["0::/", "0:memory:/"]:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        for files in VERSIONS:
            if files.controller in controllers.split(",") and ".." not in Path(path).parts:
                group = root / files.folder / path.lstrip("/")
                yield files, group
                yield from ((files, parent) for parent in group.parents if parent.is_relative_to(root / files.folder))


def _entries(file: Path) -> dict[str, int]:
    """The numbers of a file with one word and one number on each line."""
    words = [line.split() for line in system_text(file).splitlines()]
    return {pair[0]: int(pair[1]) for pair in words if len(pair) == 2 and pair[1].isdigit()}


def system_text(path: Path) -> str:
    """The text of a system file without the line end; empty where there is none."""
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return ""
