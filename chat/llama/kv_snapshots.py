"""Keep copies of the cells of sequences in memory, and find the one that covers most of a prompt."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat.core.token_ids import common_prefix, equal_ids

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Snapshot:
    """A copy of the cells of one sequence.

    Attributes:
        ids: all ids of the sequence, int32.
        oldest: the first position whose cells are in `data`.
        data: the cells as llama.cpp writes them.
    """

    ids: array[int]
    oldest: int
    data: bytes | bytearray | memoryview

    def reusable_prefix(self, prompt: Sequence[int], window: int | None) -> int:
        """How many ids of a prompt need not be read after this snapshot is restored."""
        return reusable_prefix(self.ids, self.oldest, prompt, window)


class Snapshots:
    """The snapshots kept in memory, within a budget; those used least recently are removed first."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget_bytes = budget_bytes
        self._kept: list[Snapshot] = []  # the most recently used last

    def has_room(self, size_bytes: int) -> bool:
        """Whether a snapshot of this size can be kept at all."""
        return size_bytes <= self._budget_bytes

    def keep(self, snapshot: Snapshot) -> None:
        """Keep a snapshot; one of the same ids is replaced."""
        self._kept = [kept for kept in self._kept if kept.ids != snapshot.ids]
        self._kept.append(snapshot)
        while sum(len(kept.data) for kept in self._kept) > self._budget_bytes:
            self._kept.pop(0)

    def best(self, prompt: Sequence[int], window: int | None) -> tuple[Snapshot | None, int]:
        """The snapshot with the longest reusable prefix, and the length of that; (None, 0) where none has any."""
        best, length = None, 0
        for snapshot in self._kept:
            reusable = snapshot.reusable_prefix(prompt, window)
            if reusable > length:
                best, length = snapshot, reusable
        if best is not None:
            self._kept.remove(best)
            self._kept.append(best)
        return best, length

    def holds(self, ids: Sequence[int]) -> bool:
        """Whether a snapshot of exactly these ids is kept."""
        return any(len(kept.ids) == len(ids) and equal_ids(kept.ids, ids) for kept in self._kept)

    def __len__(self) -> int:
        return len(self._kept)


def reusable_prefix(ids: Sequence[int], oldest: int, prompt: Sequence[int], window: int | None) -> int:
    """How many ids of a prompt a sequence holds that the next id can be read after.

    Args:
        ids: all ids of the sequence.
        oldest: the first position whose cells it still has.
        prompt: at least its last id is left to be read.
        window: the model's sliding window in tokens.

    Returns:
        The length of the common prefix; 0 where cells are missing that the id after it attends to.
    """
    length = min(common_prefix(ids, prompt), len(prompt) - 1)
    return length if is_resumable(length, oldest, window) else 0


def is_resumable(position: int, oldest: int, window: int | None) -> bool:
    """Whether the cells that an id at `position` attends to begin no earlier than those kept, from `oldest` on."""
    needed = max(0, position - window + 1) if window else 0
    return oldest <= needed
