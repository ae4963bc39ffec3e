"""Decide how many requests share a context, and read their prompts into it, common prefixes only once.

llama.cpp computes a row differently depending on how many rows a batch has: with quantized weights fewer than eight
rows take one path, eight and more another, and attention of 64 rows and more a third. So that a request gets the bits
it would get alone, short prompts are read together only with short ones, a very short one is padded, and no prompt
shares a batch with growing answers. Rows of answers are equal up to seven.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from chat.core.token_ids import common_prefix
from chat.inference.generator import chunk_bounds
from chat.llama.batch_invariance import MAX_BATCH_INVARIANT_ROWS
from chat.llama.sliding_window import padded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chat.llama.context import LlamaContext
    from chat.llama.kv_snapshots import Snapshots

SEQUENCES = MAX_BATCH_INVARIANT_ROWS  # on a processor sixteen are faster still, but only if asked for: other bits
SEQUENCES_ON_GPU = 8
SHORT_PROMPT = 64  # ids; prompts of fewer are read together
FEWEST_ROWS = 8  # of a prompt
FEWEST_SHARED = 16  # ids that must be common for a prefix to be read on its own
MEMORY_SHARE = 0.5  # of the free memory may go to the sequences
PATIENCE = 6  # steps that one free sequence waits for another, since two prompts are read in the time of one


@dataclass(frozen=True)
class SequencePlan:
    """How many sequences a context has, and how many cells each of them."""

    count: int
    cells: int


def plan_sequences(wanted: int, need: int, most: int, cell_bytes: float, free_bytes: int) -> SequencePlan:
    """How many requests are answered together.

    Args:
        wanted: how many at most.
        need: cells of the longest request known.
        most: cells that one sequence ever needs; with a rolling window, those of the whole window.
        cell_bytes: size of a cell in all layers.
        free_bytes: memory that is free.
    """
    cells = min(padded(need), padded(most))
    fitting = int(free_bytes * MEMORY_SHARE / max(cells * cell_bytes, 1))
    return SequencePlan(max(1, min(wanted, fitting)), cells)


def cells_needed(prompt_length: int, limit: int) -> int:
    """Cells of one request: for its prompt, its answer, and the padding of its prompt."""
    return prompt_length + limit + SHORT_PROMPT


def padded_rows(unread: int) -> int:
    """How many rows a short prompt is read in."""
    return max(unread, FEWEST_ROWS)


def unread_rows(prompt: Sequence[int], read: int) -> int:
    """How many rows of a prompt are left to be read; with a picture among them so many that it is read alone.

    Args:
        prompt: all ids of the prompt.
        read: how many of them are read.
    """
    unread = prompt[read:]
    return max(len(unread), SHORT_PROMPT) if min(unread, default=0) < 0 else len(unread)


def group_size(unread: Sequence[int], free: int, batch: int) -> int:
    """How many of the first waiting requests are read together in one batch; at least one.

    Args:
        unread: for each prompt, how many ids are still to be read.
        free: how many sequences are free.
        batch: rows at most.
    """
    count, width = 0, 0
    for length in unread[:free]:
        wider = max(width, padded_rows(length))
        if length >= SHORT_PROMPT or wider * (count + 1) > batch:
            break
        count, width = count + 1, wider
    return max(count, 1)


def should_read_now(free: int, count: int, waited: int) -> bool:
    """Whether to read prompts now: answers pause meanwhile, so a single free sequence waits a few steps.

    Args:
        free: how many sequences are free.
        count: how many there are.
        waited: steps since a sequence became free.
    """
    return free == count or free >= 2 or waited >= PATIENCE


def is_worth_keeping(reused: int, unread: int) -> bool:
    """Whether to keep a snapshot after this prompt: not if most of it is in another one."""
    return unread >= max(FEWEST_SHARED, reused // 2)


class PrefixReader:
    """Reads the prompts of a batch; common prefixes are kept among the model's snapshots.

    Attributes:
        cancelled: set from any thread to stop at the next chunk.
    """

    def __init__(self, snapshots: Snapshots, window: int | None) -> None:
        """Read nothing yet.

        Args:
            snapshots: of the model, shared with answers outside of the batch.
            window: the model's sliding window in tokens.
        """
        self._snapshots = snapshots
        self._window = window
        self.cancelled = False

    def reusable_prefix(self, prompt: Sequence[int]) -> int:
        """How many ids of a prompt a snapshot holds; 0 where that is not worth restoring it."""
        _, length = self._snapshots.best(prompt, self._window)
        return length if length >= FEWEST_SHARED else 0

    def restore(self, context: LlamaContext, seq_id: int, prompt: Sequence[int]) -> int:
        """Let a sequence hold what a snapshot has of a prompt, without the prompt's last id.

        Returns:
            How many ids that is.
        """
        context.clear(seq_id)
        snapshot, length = self._snapshots.best(prompt, self._window)
        if snapshot is None or length < FEWEST_SHARED or not context.restore(snapshot, seq_id):
            return 0
        return context.rewind(length, seq_id)

    def read_common_prefix(
        self,
        context: LlamaContext,
        seq_id: int,
        prompt: Sequence[int],
        others: Iterable[Sequence[int]],
    ) -> None:
        """Read what a prompt has in common with others, and keep a snapshot of it.

        Args:
            context: of the batch.
            seq_id: an empty one, which is empty again afterwards.
            prompt: the next to be read.
            others: the prompts that wait.

        Raises:
            EngineError: llama.cpp failed.
        """
        common = max((common_prefix(prompt, other) for other in others), default=0)
        common = min(common, len(prompt) - 1)
        if common < self.reusable_prefix(prompt) + FEWEST_SHARED:
            return
        self.restore(context, seq_id, prompt[: common + 1])
        if self._read_chunks(context, seq_id, prompt[:common]) is not None:
            self._keep(context, seq_id)
        context.clear(seq_id)

    def read(self, context: LlamaContext, prompts: Mapping[int, Sequence[int]]) -> dict[int, int] | None:
        """Read the rest of some prompts, after `restore`; several only if all are short.

        Args:
            context: of the batch.
            prompts: by sequence.

        Returns:
            For each sequence the row of its last id's logits; None where it was cancelled.

        Raises:
            EngineError: llama.cpp failed.
        """
        unread = [(seq_id, prompt[len(context.sequence_ids[seq_id]) :]) for seq_id, prompt in prompts.items()]
        seq_id, ids = unread[0]
        if len(unread) > 1 or len(ids) < SHORT_PROMPT:
            return context.feed_sequences(unread, FEWEST_ROWS)
        reused = len(context.sequence_ids[seq_id])
        rows = self._read_chunks(context, seq_id, prompts[seq_id])
        if rows is not None and is_worth_keeping(reused, len(ids)):
            self._keep(context, seq_id)
        return rows

    def _read_chunks(self, context: LlamaContext, seq_id: int, prompt: Sequence[int]) -> dict[int, int] | None:
        """Read a prompt in the same chunks as without a batch."""
        rows: dict[int, int] | None = None
        bounds = chunk_bounds(len(context.sequence_ids[seq_id]), len(prompt), context.settings.batch)
        for start, stop in pairwise(bounds):
            rows = None if self.cancelled else context.feed_sequences([(seq_id, prompt[start:stop])], FEWEST_ROWS)
            if rows is None:
                return None
        return rows

    def _keep(self, context: LlamaContext, seq_id: int) -> None:
        if not self._snapshots.holds(context.sequence_ids[seq_id]):
            self._snapshots.keep(context.snapshot(seq_id))
