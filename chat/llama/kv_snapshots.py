"""Saved states of a cache: what they hold, and which one brings a prompt furthest. Knows ids, not files."""

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

    `ids` are all ids up to its end; only the cells from position `oldest` on are in `data`.
    """

    ids: array[int]
    oldest: int
    data: bytes | bytearray | memoryview

    def reusable_prefix(self, prompt: Sequence[int], window: int | None) -> int:
        """How many ids of a prompt it spares, 0 where it lacks cells that the next id would look back to."""
        return resumable_prefix(min(common_prefix(self.ids, prompt), len(prompt) - 1), self.oldest, window)


class Snapshots:
    """The states kept in memory, within a budget; those used least recently go first."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._kept: list[Snapshot] = []

    def has_room(self, size: int) -> bool:
        """Whether a state of this size can be kept at all."""
        return size <= self._budget

    def keep(self, snapshot: Snapshot) -> None:
        """Keep one more; a state of the same ids is replaced."""
        self._kept = [each for each in self._kept if each.ids != snapshot.ids]
        self._kept.append(snapshot)
        while sum(len(each.data) for each in self._kept) > self._budget:
            self._kept.pop(0)

    def best(self, prompt: Sequence[int], window: int | None) -> tuple[Snapshot | None, int]:
        """The state that spares most of a prompt, and how many ids that is."""
        found = max(self._kept, key=lambda each: each.reusable_prefix(prompt, window), default=None)
        reach = found.reusable_prefix(prompt, window) if found else 0
        if found is None or reach <= 0:
            return None, 0
        self._kept.remove(found)
        self._kept.append(found)
        return found, reach

    def holds(self, ids: Sequence[int]) -> bool:
        """Whether a state of exactly these ids is kept."""
        return any(len(each.ids) == len(ids) and equal_ids(each.ids, ids) for each in self._kept)

    def __len__(self) -> int:
        return len(self._kept)


def resumable_prefix(position: int, oldest: int, window: int | None) -> int:
    """`position` where the cells that an id there looks back to begin no later than `oldest`, else 0."""
    needed = max(0, position - window + 1) if window else 0
    return position if oldest <= needed else 0
