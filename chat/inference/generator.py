"""Read a prompt into one context and generate ids after it, with drafts where they pay."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING

from chat.core.events import PrefillProgress
from chat.core.token_ids import common_prefix
from chat.errors import EngineError
from chat.inference.prompt_cache import PromptCache
from chat.inference.speculative import DraftBudget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from chat.core.conversation import FinishReason
    from chat.core.events import Event
    from chat.inference.kv_state_files import KvStateStore
    from chat.inference.speculative import Drafter
    from chat.llama.context import LlamaContext
    from chat.llama.kv_snapshots import Snapshots
    from chat.llama.sampler import Sampler

LONG_PROMPT_CHUNKS = 4


class GenerationInterrupted(Exception):  # noqa: N818 - a signal to the caller, not a fault
    """The answer was cancelled while its prompt was read."""


LOWEST_LOGIT = -1e30  # of an id that a model never gives, whose logit may be -inf


class InvalidLogitsError(EngineError):
    """The model computed NaN, or infinity."""

    def __init__(self) -> None:
        super().__init__(
            "the model computed NaN or infinity instead of numbers", hint="its file is damaged: get it again"
        )


@dataclass
class GenerationRun:
    """How the ids of one answer are chosen, and how many there are."""

    sampler: Sampler
    limit: int  # ids at most
    is_end: Callable[[int], bool]
    before: list[Callable[[NDArray[np.float32]], None]] = field(default_factory=list)  # (vocabulary,), may change it
    after: list[Callable[[int], None]] = field(default_factory=list)
    is_complete: Callable[[], bool] | None = None  # whether no further id is possible
    finish_reason: FinishReason | None = None  # None until the answer has ended
    generated: int = 0
    drafted: int = 0
    accepted: int = 0

    def draw(self, context: LlamaContext, row: int = -1) -> int | None:
        """Draw the next id from a row of the last batch's logits, and end the run where that is due.

        All logits of a row are checked for NaN and infinity only at the first id; after that one logit is. NaN in the
        last layer spreads to every logit, and a damaged row of the output matrix shows at the first id already.

        Args:
            context: has computed the row.
            row: index in the batch; -1 is the last output.

        Returns:
            The id, or None where the answer has ended without another one.

        Raises:
            InvalidLogitsError: the row holds NaN or infinity.
            EngineError: the constraint allows no id.
        """
        if self.generated >= self.limit:
            self.finish_reason = "length"
            return None
        if self.generated == 0 or self.before:
            logits = context.logits(row)  # (vocabulary,) float32
            checked = float(logits.max())  # NaN if any logit is, -inf only if all are
            for change in self.before:
                change(logits)
        else:
            checked = max(context.first_logit(row), LOWEST_LOGIT)  # NaN stays NaN
        if not math.isfinite(checked):
            raise InvalidLogitsError
        token = self.sampler.sample(context, row)
        for observe in self.after:
            observe(token)
        if self.is_end(token):
            self.finish_reason = "stop"
            return None
        self.generated += 1
        if self.is_complete is not None and self.is_complete():
            self.finish_reason = "stop"
        elif self.generated == self.limit:
            self.finish_reason = "length"
        return token


class Generator:
    """Answers one prompt at a time in one context."""

    def __init__(
        self,
        context: LlamaContext,
        snapshots: Snapshots,
        store: KvStateStore | None = None,
        drafter: Drafter | None = None,
    ) -> None:
        self.context = context
        self.cache = PromptCache(context, snapshots, store)
        self.drafter = drafter
        self._budget = DraftBudget()
        self._cancelled = False

    def cancel(self, flag: bool = True) -> None:
        """End the current answer, from any thread; False makes the generator ready again."""
        self._cancelled = flag
        self.context.abort(flag)
        if self.drafter is not None:
            self.drafter.abort(flag)

    def close(self) -> None:
        """Free the context and the drafter."""
        self.context.close()
        if self.drafter is not None:
            self.drafter.close()

    def read(self, prompt: Sequence[int], stable_length: int | None = None) -> Iterator[Event]:
        """Read the rest of a prompt in batches, after `PromptCache.reuse`; then the logits after its last id exist.

        The first event comes before anything is read: one batch may take half a minute. The time of pictures that are
        encoded does not count as reading.

        Args:
            prompt: all ids of the prompt.
            stable_length: how many of them the next turn's prompt begins with, where that is not all.

        Raises:
            GenerationInterrupted: it was cancelled; what was read stays cached.
            EngineError: llama.cpp failed.
        """
        context, pictures = self.context, self.context.model.pictures
        started = time.perf_counter()
        first = context.position
        bounds = chunk_bounds(first, len(prompt), context.settings.batch)
        if context.window is not None and stable_length is not None and first <= stable_length < len(prompt):
            bounds = sorted({*bounds, stable_length})
        yield PrefillProgress(0, len(prompt) - first, 0.0)
        for start, stop in pairwise(bounds):
            is_last = stop == len(prompt)
            if start == stable_length:  # the next turn comes back here; a state file holds no more than the window
                self.cache.keep_snapshot(context.window)
            if is_last and len(bounds) > LONG_PROMPT_CHUNKS:
                self.cache.keep_snapshot()  # another question about the same document comes back here
            if pictures is not None:
                encoding = time.perf_counter()
                yield from pictures.encode(prompt[start:stop])
                started += time.perf_counter() - encoding
            if self._cancelled or not context.feed(prompt[start:stop], 1 if is_last else 0):
                raise GenerationInterrupted
            yield PrefillProgress(stop - first, len(prompt) - first, time.perf_counter() - started)
        self.cache.keep_snapshot()

    def logits_after(self, prompt: Sequence[int], ids: Sequence[int]) -> NDArray[np.float32]:
        """The logits after a prompt and more ids, of which any number may have been read before.

        Returns:
            (vocabulary,) float32, a view that is valid until the next batch.

        Raises:
            GenerationInterrupted: it was cancelled.
            EngineError: llama.cpp failed.
        """
        context = self.context
        if ids or context.position != len(prompt):
            text = [*prompt, *ids]
            context.rewind(min(common_prefix(context.ids, text), len(text) - 1))
            for _ in self.read(text):
                pass
        return context.logits()

    def generate(self, run: GenerationRun) -> Iterator[int]:
        """Yield ids after the prompt that was read, without the end token; then `run.finish_reason` is set.

        The caller ends the answer early by setting `run.finish_reason`.

        Raises:
            EngineError: the model computed NaN, llama.cpp failed, or the constraint allows no id.
        """
        context = self.context
        draft: list[int] = []  # ids that were read after the last one drawn, and not drawn yet
        seconds = 0.0
        while True:
            for row in range(len(draft) + 1):
                if self._cancelled:
                    run.finish_reason = "interrupted"
                    return
                drawn = self._draw(run, row if draft else -1)
                if drawn is None:
                    return
                token = drawn
                yield token
                if run.finish_reason is not None:
                    return
                if row == len(draft) or token != draft[row]:
                    break
            self._take_back(len(draft) - row)
            run.accepted += row
            self._record(draft, row, seconds)
            started, draft = self._propose(token, run.limit - run.generated, is_first=run.generated == 1)
            if self._cancelled or not context.feed((token, *draft), len(draft) + 1):
                run.finish_reason = "interrupted"
                return
            seconds = time.perf_counter() - started
            run.drafted += len(draft)

    def _draw(self, run: GenerationRun, row: int) -> int | None:
        try:
            return run.draw(self.context, row)
        except InvalidLogitsError:
            self.context.clear()
            raise

    def _take_back(self, count: int) -> None:
        """Remove the ids of a draft that were not drawn."""
        position = self.context.position - count
        if count > 0 and self.context.rewind(position) != position:
            raise EngineError(f"the cache cannot go back {count} ids")

    def _record(self, draft: list[int], accepted: int, seconds: float) -> None:
        if draft:
            self._budget.record_draft(len(draft), accepted, seconds)
        elif seconds:
            self._budget.record_single(seconds)

    def _propose(self, token: int, left: int, *, is_first: bool) -> tuple[float, list[int]]:
        """A draft of what follows `token`, as long as the budget and the context allow.

        What the drafter reads before the first draft of an answer does not count as a cost of drafts.

        Args:
            token: the last id drawn, not read yet.
            left: how many ids the answer may still have.
            is_first: `token` is the first of the answer.

        Returns:
            When the drafter began to propose (`time.perf_counter`), and the draft.
        """
        context, drafter, started = self.context, self.drafter, time.perf_counter()
        if drafter is None:
            return started, []
        most = min(self._budget.longest, left - 1)
        if context.free is not None:
            most = min(most, context.free - 1)
        if most <= 0:
            return started, []
        drafter.catch_up(context.ids)
        ready = time.perf_counter()
        if not is_first:
            self._budget.record_preparation(ready - started)
        ids = context.ids[:]
        ids.append(token)
        return ready, list(takewhile(lambda drafted: drafted >= 0, drafter.propose(ids, most)))  # no picture's places


def chunk_bounds(first: int, end: int, batch: int) -> list[int]:
    """Where the chunks of a prompt start and end; the last of several is at least half a batch long.

    A question at the end of a prompt fits in the last chunk, so a snapshot before it serves another question.

    Args:
        first: ids that are cached.
        end: ids of the prompt.
        batch: ids of a chunk at most.
    """
    bounds = [*range(first, end, batch), end]
    if len(bounds) > 2 and bounds[-1] - bounds[-2] < batch // 2:
        bounds[-2] = end - batch // 2
    return bounds
