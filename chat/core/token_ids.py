"""The bound of token ids, and sequences of them, in which negative ids are the places of pictures."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_TOKEN_ID = 2**31 - 1


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many ids at the start are equal in both."""
    low, high = 0, min(len(left), len(right))
    if equal_ids(left[:high], right[:high]):
        return high
    while high - low > 1:  # equal up to low, different before high
        middle = (low + high) // 2
        if equal_ids(left[low:middle], right[low:middle]):
            low = middle
        else:
            high = middle
    return low


def equal_ids(left: Iterable[int], right: Iterable[int]) -> bool:
    """Whether two sequences of the same length hold equal ids; they may be of different types."""
    return all(one == other for one, other in zip(left, right, strict=True))


def runs_of(ids: Iterable[int]) -> list[tuple[int, ...]]:
    """The ids in runs of ids of the vocabulary and of places of pictures, which are negative."""
    return [tuple(run) for _, run in groupby(ids, key=lambda token: token < 0)]
