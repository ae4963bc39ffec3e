"""Whether generated cases are run whole, and samples of them that hold every value of every axis.

`pytest --full` sets `FULL` before any test module is imported.
"""

from __future__ import annotations

import random
from itertools import combinations, product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

FULL = False


def thinned(cases: Sequence[Any], count: int, seed: int = 1) -> list[Any]:
    """A seeded sample of so many cases in their order, the first and the last one always; all with `--full`."""
    if FULL or len(cases) <= count:
        return list(cases)
    inner = sorted(random.Random(seed).sample(range(1, len(cases) - 1), count - 2))
    return [cases[number] for number in (0, *inner, len(cases) - 1)]


def pairwise(*axes: Sequence[Any], seed: int = 1) -> list[tuple[Any, ...]]:
    """Rows of a product of axes in which each two values of two axes meet; all rows with `--full`."""
    rows = list(product(*axes))
    if FULL:
        return rows
    indices = list(product(*(range(len(axis)) for axis in axes)))
    random.Random(seed).shuffle(indices)
    pairs = {row: {(a, b, row[a], row[b]) for a, b in combinations(range(len(axes)), 2)} for row in indices}
    missing = set().union(*pairs.values())
    kept: list[tuple[int, ...]] = []
    while missing:
        best = max(indices, key=lambda row: len(pairs[row] & missing))
        kept.append(best)
        missing -= pairs[best]
    return [tuple(axis[at] for axis, at in zip(axes, row, strict=True)) for row in sorted(kept)]
