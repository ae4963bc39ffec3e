"""Decide how many requests share a context, and which prompts are read together. Knows lengths, not tokens.

llama.cpp computes a row differently by how many rows a batch has: of quantized weights fewer than eight rows go one
way, eight and more another, and attention of 64 rows and more a third. So that a request gets the bits it would get
alone, short prompts are read together only with short ones, a very short one is padded, and no prompt shares a batch
with answers that grow. Rows of answers are equal by up to seven.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat.llama.batch_invariance import MAX_BATCH_INVARIANT_ROWS
from chat.llama.sliding_window import padded

if TYPE_CHECKING:
    from collections.abc import Sequence

LANES = MAX_BATCH_INVARIANT_ROWS  # on a processor sixteen are faster still, but for who asks: their bits are others
LANES_ON_GPU = 8
SHORT = 64  # ids: prompts of fewer are read together
FEWEST_ROWS = 8  # of a prompt
SHARED = 16  # ids that must be common for a beginning to be read for itself
MEMORY_SHARE = 0.5  # of what is free may go to lanes
PATIENCE = 6  # steps that a free lane waits for another one, since two prompts are read in the time of one


@dataclass(frozen=True)
class SequencePlan:
    """Sequences of one context, and the cells of each."""

    count: int
    cells: int


def plan_sequences(wanted: int, need: int, most: int, cell_bytes: float, free_bytes: int) -> SequencePlan:
    """How many requests go on together.

    Args:
        wanted: how many at most.
        need: cells of the longest request that is known.
        most: cells that one sequence ever needs; those of the whole window where cells are given back.
        cell_bytes: what a cell of all layers takes.
        free_bytes: memory that is free.
    """
    cells = min(padded(need), padded(most))
    fitting = int(free_bytes * MEMORY_SHARE / max(cells * cell_bytes, 1))
    return SequencePlan(max(1, min(wanted, fitting)), cells)


def cells_needed(prompt: int, limit: int) -> int:
    """Cells of one request: its prompt, its answer, and the padding of its prompt."""
    return prompt + limit + SHORT


def rows(fresh: int) -> int:
    """Rows that a short prompt is read in."""
    return max(fresh, FEWEST_ROWS)


def group(fresh: Sequence[int], free: int, batch: int) -> int:
    """How many of the first waiting requests are read together, in one batch; at least one.

    Args:
        fresh: ids of each prompt that are still to be read.
        free: lanes for them.
        batch: rows at most.
    """
    count, width = 0, 0
    for length in fresh[:free]:
        wider = max(width, rows(length))
        if length >= SHORT or wider * (count + 1) > batch:
            break
        count, width = count + 1, wider
    return max(count, 1)


def is_time(free: int, lanes: int, waited: int) -> bool:
    """Whether prompts are read now: answers wait meanwhile, so one free lane alone is not worth it at once."""
    return free == lanes or free >= 2 or waited >= PATIENCE


def is_worth_keeping(reused: int, fresh: int) -> bool:
    """Whether a state after this prompt is copied: not where most of it is kept already."""
    return fresh >= max(SHARED, reused // 2)
