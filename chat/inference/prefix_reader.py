"""Read prompts into lanes, what they have in common only once. Knows ids and saved states, not answers."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from chat.core.token_ids import common_prefix
from chat.inference import batch_admission as plan
from chat.inference.generator import chunk_bounds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from chat.llama.context import LlamaContext
    from chat.llama.kv_snapshots import Snapshots


class PromptReader:
    """Reads prompts for one batch; beginnings are kept among the engine's saved states."""

    def __init__(self, snapshots: Snapshots, window: int | None) -> None:
        self._snapshots = snapshots
        self._window = window
        self.cancelled = False

    def reusable_prefix(self, prompt: Sequence[int]) -> int:
        """Ids of a prompt that a kept state spares."""
        _, reach = self._snapshots.best(prompt, self._window)
        return reach if reach >= plan.SHARED else 0

    def restore(self, lanes: LlamaContext, lane: int, prompt: Sequence[int]) -> int:
        """Let a lane hold what a kept state has of a prompt, all but its last id at most; how many ids that is."""
        lanes.clear(lane)
        snapshot, reach = self._snapshots.best(prompt, self._window)
        if snapshot is None or reach < plan.SHARED or not lanes.restore(snapshot, lane):
            return 0
        return lanes.rewind(reach, lane)

    def read_beginning(
        self, lanes: LlamaContext, lane: int, prompt: Sequence[int], others: Iterable[Sequence[int]]
    ) -> None:
        """Read what a prompt has in common with others and keep it; the lane is empty before and after."""
        common = max((common_prefix(prompt, each) for each in others), default=0)
        common = min(common, len(prompt) - 1)
        if common < self.reusable_prefix(prompt) + plan.SHARED:
            return
        self.restore(lanes, lane, prompt[: common + 1])
        if self._read_chunks(lanes, lane, prompt[:common]) is not None:
            self._keep(lanes, lane)
        lanes.clear(lane)

    def read(self, lanes: LlamaContext, prompts: Mapping[int, Sequence[int]]) -> dict[int, int] | None:
        """Read what is left of some prompts, several only if all are short; after `restore`.

        Returns:
            For each lane the row of its last id's logits; None where it was cancelled.
        """
        fresh = [(lane, prompt[len(lanes.sequence_ids[lane]) :]) for lane, prompt in prompts.items()]
        lane, ids = fresh[0]
        if len(fresh) > 1 or len(ids) < plan.SHORT:
            return lanes.feed_sequences(fresh, plan.FEWEST_ROWS)
        reused = len(lanes.sequence_ids[lane])
        rows = self._read_chunks(lanes, lane, prompts[lane])
        if rows is not None and plan.is_worth_keeping(reused, len(ids)):
            self._keep(lanes, lane)
        return rows

    def _read_chunks(self, lanes: LlamaContext, lane: int, prompt: Sequence[int]) -> dict[int, int] | None:
        """Read a prompt in the chunks that it would be read in alone."""
        rows: dict[int, int] | None = None
        for start, stop in pairwise(chunk_bounds(len(lanes.sequence_ids[lane]), len(prompt), lanes.settings.batch)):
            rows = None if self.cancelled else lanes.feed_sequences([(lane, prompt[start:stop])], plan.FEWEST_ROWS)
            if rows is None:
                return None
        return rows

    def _keep(self, lanes: LlamaContext, lane: int) -> None:
        if not self._snapshots.holds(lanes.sequence_ids[lane]):
            self._snapshots.keep(lanes.snapshot(lane))
