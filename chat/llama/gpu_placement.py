"""Say which layers lie on which GPU, as llama.cpp places them. Knows bytes, neither models nor devices' names.

llama.cpp counts the output as one layer more. It is the first to go to a GPU, and the last layers follow. Of several
GPUs each gets neighbours, as many of the layers as it is told; left alone it goes by free memory, and a GPU that is
nearly full gets more than it can hold.
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
    """What may lie on GPUs, in bytes: each layer with its cache, the output, and what each GPU computes in."""

    layers: tuple[int, ...]
    output: int
    work: int

    @property
    def most(self) -> int:
        """How many layers there are for llama.cpp, the output included."""
        return len(self.layers) + 1


def split(parts: Parts, free_bytes: Sequence[int]) -> tuple[int, ...]:
    """How the layers are to be divided among GPUs: by what is free there beside the reserve and the work."""
    room = tuple(max(free - RESERVE_BYTES - parts.work, 0) for free in free_bytes)
    return next(filter(any, (room, tuple(free_bytes))), (1,) * len(free_bytes))


def on_gpus(parts: Parts, free_bytes: Sequence[int], count: int) -> tuple[int, ...]:
    """The bytes that each GPU takes, with `count` layers on all of them.

    Args:
        free_bytes: of each GPU; there is one where `count` is not 0.
        count: as llama.cpp counts, at most `parts.most`.
    """
    taken = [0] * len(free_bytes)
    if count:
        shares = split(parts, free_bytes)
        bounds = [share / sum(shares) for share in accumulate(shares)]
        for at, size in enumerate((*parts.layers, parts.output)[parts.most - count :]):
            taken[bisect_right(bounds, at / count)] += size
    return tuple(size + parts.work if size else 0 for size in taken)


def most_layers(parts: Parts, free_bytes: Sequence[int]) -> int:
    """How many layers the GPUs take, as llama.cpp counts; the reserve is left free on each."""
    counts = range(parts.most, 0, -1) if free_bytes else ()
    return next((count for count in counts if _fits(on_gpus(parts, free_bytes, count), free_bytes)), 0)


def _fits(taken: Sequence[int], free_bytes: Sequence[int]) -> bool:
    return all(not size or size + RESERVE_BYTES <= free for size, free in zip(taken, free_bytes, strict=True))
