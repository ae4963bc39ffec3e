"""Read how much memory this process uses."""

from __future__ import annotations

import sys
from pathlib import Path

ROLLUP = Path("/proc/self/smaps_rollup")


def memory_now(rollup: Path = ROLLUP) -> tuple[int | None, int | None]:
    """Resident and private bytes; the mapped file counts as resident only.

    Where the system has no such table, the most that was ever resident, and None.
    """
    try:
        lines = [line.split() for line in rollup.read_text().splitlines()[1:]]
    except OSError:
        return _peak(), None
    held = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) == 3}
    return held.get("Rss"), held.get("Private_Dirty")


def _peak() -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
