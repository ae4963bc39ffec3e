"""Share out bytes among tensors so that the sum of their losses is small: the best gain for a byte comes first."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Choice:
    """One way to store a tensor: its bytes in the file, and what it loses."""

    nbytes: int
    loss: float


def allocate(tensors: Sequence[Sequence[Choice]], budget: int) -> list[int] | None:
    """Choose for each tensor one of its ways to be stored.

    Each tensor starts with its smallest. Then the step that gains most for each byte is taken as long as it fits; on
    the lower convex hull of each tensor's choices this is the best for the bytes that are used (Lagrange). What is left
    is less than one more step, and is given to smaller steps.

    Args:
        tensors: the choices of each tensor, in any order.
        budget: bytes for all tensors.

    Returns:
        The index of each tensor's choice; None where even the smallest do not fit.
    """
    hulls = [_lower_hull(choices) for choices in tensors]
    chosen = [hull[0] for hull in hulls]
    left = budget - sum(choices[place].nbytes for choices, place in zip(tensors, chosen, strict=True))
    if left < 0:
        return None
    steps = [
        (_gain(tensors[number][smaller], tensors[number][larger]), -number, smaller, larger)
        for number, hull in enumerate(hulls)
        for smaller, larger in pairwise(hull)
    ]
    for _, negative, smaller, larger in sorted(steps, reverse=True):
        number = -negative
        more = tensors[number][larger].nbytes - tensors[number][smaller].nbytes
        if chosen[number] == smaller and more <= left:
            chosen[number] = larger
            left -= more
    return chosen


def _lower_hull(choices: Sequence[Choice]) -> list[int]:
    """The choices that are best for some price of a byte, from the smallest to the largest."""
    hull: list[int] = []
    for place in sorted(range(len(choices)), key=lambda place: (choices[place].nbytes, choices[place].loss)):
        new = choices[place]
        if hull and new.loss >= choices[hull[-1]].loss:
            continue
        while len(hull) > 1 and _gain(choices[hull[-2]], choices[hull[-1]]) <= _gain(choices[hull[-1]], new):
            hull.pop()
        hull.append(place)
    return hull


def _gain(smaller: Choice, larger: Choice) -> float:
    """The loss that a byte more saves; the larger choice has more bytes."""
    return (smaller.loss - larger.loss) / (larger.nbytes - smaller.nbytes)
