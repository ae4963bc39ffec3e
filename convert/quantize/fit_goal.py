"""Read the size of `--fit`: of a file, or of a machine's memory."""

from __future__ import annotations

import re
from dataclasses import dataclass

from chat.errors import UsageError

UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
MEMORY = "-ram"
SYSTEM_SHARE, MOST_FOR_SYSTEM = 4, 2 * 10**9  # a quarter of the memory, at most 2 GB, is for the system
_GOAL = re.compile(r"(\d{1,6}(?:\.\d{1,6})?) ?([MGT]i?B)(-ram)?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Goal:
    """What a file is to fit.

    Attributes:
        text: as the user wrote it, for names and messages.
        nbytes: of the file, or of the machine's memory.
        is_memory: the size is that of a machine's memory.
    """

    text: str
    nbytes: int
    is_memory: bool

    @property
    def for_system(self) -> int:
        """Bytes of a machine's memory that other programs use."""
        return min(self.nbytes // SYSTEM_SHARE, MOST_FOR_SYSTEM) if self.is_memory else 0


def memory_with(nbytes: int) -> int:
    """The smallest memory of a machine that leaves so many bytes beside the system."""
    most = MOST_FOR_SYSTEM * (SYSTEM_SHARE - 1)
    return -(-nbytes * SYSTEM_SHARE // (SYSTEM_SHARE - 1)) if nbytes <= most else nbytes + MOST_FOR_SYSTEM


def read_goal(text: str) -> Goal:
    """Read `5GB`, `4.5GiB` or `8GB-ram`.

    Raises:
        UsageError: it does not have that form, or is 0.
    """
    match = _GOAL.fullmatch(text)
    nbytes = int(float(match[1]) * UNITS[match[2].upper()]) if match else 0
    if match is None or not nbytes:
        raise UsageError(
            f"`--fit {text[:60]}` is not a size",
            hint="such as `--fit 5GB` for a file, or `--fit 8GB-ram` for a machine",
        )
    return Goal(text.replace(" ", ""), nbytes, match[3] is not None)
