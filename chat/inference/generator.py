"""Read a prompt and generate ids, reusing what the cache already holds. Knows ids, not text."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from chat.core.events import PrefillProgress
from chat.core.token_ids import common_prefix
from chat.errors import EngineError
from chat.inference.speculative import DraftBudget
from chat.llama.kv_snapshots import Snapshot, Snapshots, reusable_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from chat.core.conversation import FinishReason
    from chat.inference.kv_state_files import KvStateStore
    from chat.inference.speculative import Drafter
    from chat.llama.context import LlamaContext
    from chat.llama.sampler import Sampler

STATE_TOKENS = 128  # fewer are read again sooner than a state is looked for
LONG_PROMPT_CHUNKS = 4


class GenerationInterrupted(Exception):  # noqa: N818 - a signal to the caller, not a fault
    """The reply was cancelled while its prompt was read."""


@dataclass
class GenerationRun:
    """One answer while it grows: what decides it, and what became of it."""

    sampler: Sampler
    limit: int  # ids at most
    is_end: Callable[[int], bool]
    before: list[Callable[[NDArray[np.float32]], None]] = field(default_factory=list)  # may change the logits
    after: list[Callable[[int], None]] = field(default_factory=list)
    is_complete: Callable[[], bool] = lambda: False  # nothing more can come
    finish: FinishReason = "stop"
    drafted: int = 0
    accepted: int = 0


class Generator:
    """Answers one prompt at a time on one decoder; its cached ids are the decoder's."""

    def __init__(
        self,
        decoder: LlamaContext,
        snapshots: Snapshots,
        states: KvStateStore | None = None,
        drafter: Drafter | None = None,
    ) -> None:
        self.decoder = decoder
        self.drafter = drafter
        self._purse = DraftBudget()
        self.snapshots = snapshots
        self.states = states
        self.restored_from: str | None = None  # the state on disk that the cache goes on from
        self._end = 0  # the position that this turn may reach
        self._cancelled = False

    def cancel(self, flag: bool = True) -> None:
        """End the reply that is being made, from any thread; False makes the engine ready again."""
        self._cancelled = flag
        self.decoder.abort(flag)
        if self.drafter is not None:
            self.drafter.abort(flag)

    def close(self) -> None:
        """Free the context, and the drafter with what it holds."""
        self.decoder.close()
        if self.drafter is not None:
            self.drafter.close()

    def reuse(self, prompt: Sequence[int], limit: int = 0) -> int:
        """Hold as much of the prompt as the cache or a saved state has; at least its last id is left to be read.

        Args:
            limit: how long the answer may become.

        Returns:
            How many ids of the prompt need not be read.
        """
        decoder = self.decoder
        wanted = min(common_prefix(decoder.ids, prompt), len(prompt) - 1)
        if decoder.ids and wanted == 0:
            self.restored_from = None
        reach = wanted if decoder.can_rewind(wanted) else 0
        snapshot, from_memory = self.snapshots.best(prompt, decoder.window)
        if snapshot is not None and from_memory > reach and decoder.restore(snapshot):
            reach = from_memory
        if self.states is not None and len(prompt) - reach > STATE_TOKENS:
            head, from_disk = self.states.best(prompt, decoder.window)
            if head is not None and from_disk > reach + STATE_TOKENS:
                saved = self.states.load(head)
                if saved is not None and decoder.restore(saved):
                    self.restored_from = head.key
                    reach = from_disk
        kept = decoder.rewind(reach)
        self._end = len(prompt) + limit
        self._remember()
        return kept

    def save(self, key: str, beginning: Sequence[int] = ()) -> bool:
        """Save the cache on disk under a name, where there is a folder and enough of it to be worth it.

        Args:
            beginning: of a prompt; a state that was kept and spares more of it is saved rather than the newest.
        """
        decoder = self.decoder
        if self.states is None or decoder.position < STATE_TOKENS:
            return False
        kept: Snapshot | None = None
        if beginning and decoder.window is not None:
            kept, reach = self.snapshots.best(beginning, decoder.window)
            if reach <= reusable_prefix(decoder.ids, decoder.snapshot_start(), beginning, decoder.window):
                kept = None
        return self.states.save(key, kept or decoder.snapshot()) is not None

    def logits_after(self, prompt: Sequence[int], ids: Sequence[int]) -> NDArray[np.float32]:
        """The logits after a prompt that was read and ids after it, of which any were fed before.

        Raises:
            Interrupted: it was cancelled.
        """
        if ids or self.decoder.position > len(prompt):
            whole = [*prompt, *ids]
            self.decoder.rewind(min(common_prefix(self.decoder.ids, whole), len(whole) - 1))
            for _ in self.read(whole):
                pass
        return self.decoder.logits()

    def _remember(self, held: int | None = None) -> None:
        """Keep a copy of the cells where the window may forget them before the turn ends.

        Undo, edit and another try come back here: to the beginning of a turn, or to that of its answer.

        Args:
            held: how long a text is of which nothing is forgotten, if that is not what the cache holds.
        """
        decoder = self.decoder
        if decoder.position == 0 or self._end <= (decoder.held if held is None else held):
            return
        if self.snapshots.has_room(decoder.state_bytes) and not self.snapshots.holds(decoder.ids):
            self.snapshots.keep(decoder.snapshot())

    def read(self, prompt: Sequence[int], lasting: int | None = None) -> Iterator[PrefillProgress]:
        """Read the rest of the prompt in batches, after `reuse`; then the logits after its last id are there.

        The first event comes before anything is read: one batch may take half a minute.

        Args:
            lasting: how many of its ids the next turn's prompt begins with, where that is not all.

        Raises:
            Interrupted: it was cancelled; what was read stays cached.
        """
        decoder = self.decoder
        begun = time.perf_counter()
        first = decoder.position
        bounds = chunk_bounds(first, len(prompt), decoder.settings.batch)
        if decoder.window is not None and lasting is not None and first <= lasting < len(prompt):
            bounds = sorted({*bounds, lasting})
        yield PrefillProgress(0, len(prompt) - first, 0.0)
        for start, stop in pairwise(bounds):
            is_last = stop == len(prompt)
            if start == lasting:
                self._remember(decoder.window)  # a state on disk holds no more, so that the next turn comes back here
            if is_last and len(bounds) > LONG_PROMPT_CHUNKS:
                self._remember()  # another question after the same document comes back here
            if self._cancelled or not decoder.feed(prompt[start:stop], 1 if is_last else 0):
                raise GenerationInterrupted
            yield PrefillProgress(stop - first, len(prompt) - first, time.perf_counter() - begun)
        self._remember()

    def generate(self, run: GenerationRun) -> Iterator[int]:
        """Yield ids after what was read, without the end token; `run.finish` then tells why it ended.

        Raises:
            EngineError: the model computes no numbers.
        """
        decoder = self.decoder
        draft: list[int] = []  # ids that were read on trust after the last certain one
        seconds, made = 0.0, 0
        run.finish = "length"
        while made < run.limit:
            for row in range(len(draft) + 1):
                if self._cancelled:
                    run.finish = "interrupted"
                    return
                token = self._choose(run, row if draft else -1, is_first=made == 0)
                if run.is_end(token):
                    run.finish = "stop"
                    return
                yield token
                made += 1
                if run.is_complete():
                    run.finish = "stop"
                    return
                if made == run.limit:
                    return
                if row == len(draft) or token != draft[row]:
                    break
            self._forget(len(draft) - row)
            run.accepted += row
            self._account(draft, row, seconds)
            begun, draft = self._guess(token, run.limit - made, is_first=made == 1)
            if self._cancelled or not decoder.feed((token, *draft), len(draft) + 1):
                run.finish = "interrupted"
                return
            seconds = time.perf_counter() - begun
            run.drafted += len(draft)

    def _forget(self, count: int) -> None:
        """Take back ids of a draft that did not come."""
        position = self.decoder.position - count
        if count > 0 and self.decoder.rewind(position) != position:
            raise EngineError(f"the cache cannot go back {count} ids")

    def _account(self, draft: list[int], accepted: int, seconds: float) -> None:
        if draft:
            self._purse.settle(len(draft), accepted, seconds)
        elif seconds:
            self._purse.earn(seconds)

    def _guess(self, token: int, left: int, *, is_first: bool) -> tuple[float, list[int]]:
        """A draft of what follows `token`, where one can be afforded and there is room for it; and when it was begun.

        What the drafter reads before the first draft of an answer is no part of what drafts cost.
        """
        decoder, drafter, begun = self.decoder, self.drafter, time.perf_counter()
        if drafter is None:
            return begun, []
        most = min(self._purse.longest, left - 1)
        if decoder.free is not None:
            most = min(most, decoder.free - 1)
        if most <= 0:
            return begun, []
        drafter.catch_up(decoder.ids)
        ready = time.perf_counter()
        if not is_first:
            self._purse.pay(ready - begun)
        ids = decoder.ids[:]
        ids.append(token)
        return ready, drafter.propose(ids, most)

    def _choose(self, run: GenerationRun, row: int, *, is_first: bool) -> int:
        """Draw an id from a row.

        Numbers in the last layer make every logit one, and a bad row of the output shows with the first id already: all
        logits are looked at only then, and one afterwards.
        """
        decoder = self.decoder
        if is_first or run.before:
            logits = decoder.logits(row)
            judged = float(logits.sum())
            for change in run.before:
                change(logits)
        else:
            judged = decoder.first_logit(row)
        if math.isnan(judged):
            decoder.clear()
            raise EngineError("the model computed NaN instead of numbers", hint="its file is damaged: get it again")
        token = run.sampler.sample(self.decoder, row)
        for note in run.after:
            note(token)
        return token


def chunk_bounds(first: int, end: int, batch: int) -> list[int]:
    """Where the chunks of a prompt begin and end; the last of several is at least half a batch long.

    So there is room for a question in it: what comes before it can be kept for another one.
    """
    bounds = [*range(first, end, batch), end]
    if len(bounds) > 2 and bounds[-1] - bounds[-2] < batch // 2:
        bounds[-2] = end - batch // 2
    return bounds
