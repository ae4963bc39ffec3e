"""Read the memory of this process, and how busy other programs keep the processors."""

from __future__ import annotations

import os
import time
from pathlib import Path

from chat import platform

STAT = Path("/proc/stat")
LOOK_SECONDS = 0.3
IDLE_COLUMNS = (3, 4)  # idle and waiting for a disk
BUSY_SHARE = 0.2  # of all processors, from which on times are unreliable
ROLLUP = Path("/proc/self/smaps_rollup")


def busy_fraction(stat: Path = STAT, look_seconds: float = LOOK_SECONDS) -> float | None:
    """The part of all processors' time that is spent on something; None if the system does not report it."""
    before = _ticks(stat)
    if before is None:
        return _load_share()
    time.sleep(look_seconds)
    after = _ticks(stat)
    if after is None or sum(after) <= sum(before):
        return None
    passed = [now - then for now, then in zip(after, before, strict=True)]
    return 1 - sum(passed[column] for column in IDLE_COLUMNS) / sum(passed)


def system_load_warning(share: float | None) -> str | None:
    """The warning about it; None if none is needed."""
    if share is None or share < BUSY_SHARE:
        return None
    return f"Timings are unreliable on a busy machine. Other programs use {share:.0%} of the processors."


def _ticks(stat: Path) -> list[int] | None:
    try:
        words = stat.read_text().split("\n", 1)[0].split()
    except OSError:
        return None
    return [int(word) for word in words[1:9]]  # guests are counted in the columns before


def _load_share() -> float | None:
    """The load of the last minute, for systems without such a table."""
    load = platform.load_average()
    return None if load is None else min(load / (os.cpu_count() or 1), 1.0)


def memory_now(rollup: Path = ROLLUP) -> tuple[int | None, int | None]:
    """Resident and private bytes; the mapped file counts as resident only.

    Where the system has no such table, the most that was ever resident, and None.
    """
    try:
        lines = [line.split() for line in rollup.read_text().splitlines()[1:]]
    except OSError:
        return platform.most_memory_used(), None
    held = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) == 3}
    return held.get("Rss"), held.get("Private_Dirty")
