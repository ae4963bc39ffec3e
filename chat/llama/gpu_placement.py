"""Compute which layers are placed on which GPU, as llama.cpp does it.

llama.cpp counts the output as one more layer. It is the first to be placed on a GPU, and the last layers follow. Of
several GPUs each gets neighbouring layers, in the proportions that llama.cpp is given; by default by free memory, which
gives a GPU that is nearly full more than it can hold.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

RESERVE_BYTES = 384 << 20  # the driver's context, and what other programs take meanwhile


@dataclass(frozen=True)
class Parts:
    """What may be placed on GPUs, in bytes.

    Attributes:
        layers: each layer with its cache.
        output: the output weights.
        work: the buffers that each GPU computes in.
    """

    layers: tuple[int, ...]
    output: int
    work: int

    @property
    def most(self) -> int:
        """How many layers there are, the output included."""
        return len(self.layers) + 1


def split(parts: Parts, free_bytes: Sequence[int]) -> tuple[int, ...]:
    """The proportions in which GPUs share the layers: what is free on each beside the reserve and the work."""
    available = tuple(max(free - RESERVE_BYTES - parts.work, 0) for free in free_bytes)
    return next(filter(any, (available, tuple(free_bytes))), (1,) * len(free_bytes))


def on_gpus(parts: Parts, free_bytes: Sequence[int], count: int) -> tuple[int, ...]:
    """The bytes on each GPU with `count` layers on all of them.

    Args:
        parts: of the model.
        free_bytes: of each GPU; at least one GPU where `count` is not 0.
        count: layers, the output included; at most `parts.most`.
    """
    taken = [0] * len(free_bytes)
    if count:
        shares = split(parts, free_bytes)
        bounds = [share / sum(shares) for share in accumulate(shares)]
        for index, size in enumerate((*parts.layers, parts.output)[parts.most - count :]):
            taken[bisect_right(bounds, index / count)] += size
    return tuple(size + parts.work if size else 0 for size in taken)


def most_layers(parts: Parts, free_bytes: Sequence[int]) -> int:
    """How many layers fit on the GPUs, the output included; the reserve stays free on each."""
    counts = range(parts.most, 0, -1) if free_bytes else ()
    return next((count for count in counts if _fits(on_gpus(parts, free_bytes, count), free_bytes)), 0)


def _fits(taken: Sequence[int], free_bytes: Sequence[int]) -> bool:
    return all(not size or size + RESERVE_BYTES <= free for size, free in zip(taken, free_bytes, strict=True))
