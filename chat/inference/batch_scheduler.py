"""Answer many requests together: a new one begins where another has ended. Knows lanes and strands, not processes.

The same bits as alone, and so at temperature 0 the same text, as long as llama.cpp computes single rows like several:
`equal_rows` says where. Elsewhere (float weights, more than seven rows, repacked rows, GPUs, longer texts on several
threads, a beginning that was read before) logits differ by 1e-3 to 1e-1, and an answer may take another turn where two
ids are nearly as likely.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from chat.core.events import Completion, outcome_of
from chat.errors import ChatError, EngineError, MemoryLimitError
from chat.inference import batch_admission as plan
from chat.inference.prefix_reader import PromptReader
from chat.inference.response import reply
from chat.inference.response_stream import SequenceResponse
from chat.llama.batch_invariance import MAX_BATCH_INVARIANT_ROWS
from chat.llama.context import LlamaContext
from chat.llama.hardware import host_free_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    from chat.core.request import Request
    from chat.inference.loaded_model import LoadedModel

    class Source(Protocol):
        """Where requests come from."""

        def take(self, wait_seconds: float | None) -> tuple[int, Request] | None:
            """The next one; None where none came in time, or none will. None as the time waits for ever."""

        @property
        def ended(self) -> bool:
            """Whether no more will come."""


Outcome = tuple[int, "Completion | ChatError | None"]  # of a request by its position; None: it begins

GATHERING_SECONDS = 0.05  # at the start, so that requests of a file begin together


class BatchScheduler:
    """Answers requests of one batch on one loaded model."""

    def __init__(self, room: LoadedModel, parallel: int | None, tell: Callable[[str], None] = lambda _: None) -> None:
        """Answer nothing yet.

        Args:
            parallel: how many at a time; None decides by what pays.
            tell: hears sentences for the person.
        """
        assert room.engine is not None
        self._room = room
        self._engine = room.engine
        self._asked = parallel
        self._tell = tell
        self._wanted = self._most(parallel)
        self._lanes: LlamaContext | None = None
        self._waiting: deque[SequenceResponse] = deque()
        self._running: dict[int, SequenceResponse] = {}  # by lane
        self._waited = 0
        self._is_wide_told = False
        self._cancelled = False
        self._reader = PromptReader(self._engine.snapshots, self._engine.decoder.window)

    def cancel(self, flag: bool = True) -> None:
        """End all that runs, from any thread."""
        self._cancelled = self._reader.cancelled = flag
        if self._lanes is not None:
            self._lanes.abort(flag)

    def outcomes(self, source: Source) -> Iterator[Outcome]:
        """What becomes of each request, as it happens; requests that a cancel leaves unbegun get nothing."""
        try:
            yield from self._gather(source)
            while not self._cancelled and (self._waiting or self._running or not source.ended):
                yield from self._take(source)
                yield from self._begin()
                yield from self._step()
            for strand in self._running.values():
                strand.interrupt()
                yield strand.index, strand.done()
        finally:
            if self._lanes is not None:
                lanes, self._lanes = self._lanes, None
                lanes.close()

    def _most(self, parallel: int | None) -> int:
        """How many at a time, memory aside."""
        if not self._engine.decoder.model.can_rewind:
            self._note_fewer(1, "a recurrent model answers one by one")
            return 1
        whole = self._room.info.details.get("gpu_layers", 0) > 0
        return parallel or (plan.LANES_ON_GPU if whole else plan.LANES)

    def _note_fewer(self, count: int, reason: str) -> None:
        """Tell once that fewer go on together than was asked for."""
        if self._asked is not None and count < self._asked:
            asked, self._asked = self._asked, None
            self._tell(f"{count} at a time instead of the {asked} of `--parallel`: {reason}")

    def _note_wide(self, count: int) -> None:
        """Tell once, where it was asked for, that so many answers together may not be those of each alone."""
        if self._asked is not None and count > MAX_BATCH_INVARIANT_ROWS and not self._is_wide_told:
            self._is_wide_told = True
            self._tell(
                f"{count} answers at a time: more than {MAX_BATCH_INVARIANT_ROWS} are computed in another order of "
                "sums, so a text may differ from that of its line alone where two tokens are nearly as likely"
            )

    # --- requests come

    def _gather(self, source: Source) -> Iterator[Outcome]:
        until = time.monotonic() + GATHERING_SECONDS
        while len(self._waiting) < 2 * self._wanted and not source.ended and not self._cancelled:
            left = until - time.monotonic() if self._waiting else None
            if left is not None and left <= 0:
                return
            yield from self._accept(source.take(left))

    def _take(self, source: Source) -> Iterator[Outcome]:
        while len(self._waiting) < 2 * self._wanted and not source.ended and not self._cancelled:
            idle = not (self._waiting or self._running)
            taken = source.take(None if idle else 0)
            if taken is None:
                return
            yield from self._accept(taken)

    def _accept(self, taken: tuple[int, Request] | None) -> Iterator[Outcome]:
        if taken is None:
            return
        index, request = taken
        try:
            strand = SequenceResponse(index, self._room, request)
            self._waiting.append(strand)
            for words in strand.answer.notices():
                self._tell(words)
        except ChatError as error:
            yield index, error

    # --- requests begin

    def _begin(self) -> Iterator[Outcome]:
        """Read the prompts of waiting requests into free lanes."""
        while self._waiting and not self._cancelled:
            if self._waiting[0].alone or self._wanted == 1:
                yield from self._answer_alone(self._waiting.popleft())
                continue
            lanes = self._fitting_lanes()
            if lanes is None:
                return
            free = lanes.settings.sequences - len(self._running)
            if free == 0 or not plan.is_time(free, lanes.settings.sequences, self._waited):
                self._waited += 1
                return
            self._waited = 0
            self._pack()
            yield from self._read_some(lanes, free)

    def _answer_alone(self, strand: SequenceResponse) -> Iterator[Outcome]:
        """Answer as without a batch, on the engine's own context."""
        strand.run.sampler.close()
        yield strand.index, None
        yield strand.index, outcome_of(reply(self._room, strand.request), lambda _: None)  # its notices were told

    def _fitting_lanes(self) -> LlamaContext | None:
        """The lanes, made anew where the waiting requests need longer ones and nothing runs."""
        needs = [plan.cells_needed(len(each.prompt), each.run.limit) for each in self._waiting]
        decoder = self._engine.decoder
        most = decoder.cells + (0 if decoder.settings.rolling else plan.SHORT)
        lanes = self._lanes
        if lanes is not None and lanes.cells >= min(needs[0], most):
            return lanes
        if self._running:
            return None
        if lanes is not None:
            self._lanes = None
            lanes.close()
        self._lanes = self._make_lanes(max(needs), most)
        if self._cancelled and self._lanes is not None:
            self._lanes.abort()
        return self._lanes

    def _make_lanes(self, need: int, most: int) -> LlamaContext | None:
        """New lanes, fewer where a GPU has no memory for all; None where requests are answered alone from now on."""
        details, decoder = self._room.info.details, self._engine.decoder
        cell_bytes = details["cache_bytes"] / max(details["cells"], 1)
        while self._wanted:
            chosen = plan.plan_sequences(self._wanted, need, most, cell_bytes, host_free_bytes())
            settings = replace(
                decoder.settings,
                cells=chosen.cells,
                outputs=chosen.count,
                sequences=chosen.count,
                rolling=decoder.settings.rolling and chosen.cells >= decoder.cells,
            )
            try:
                lanes = LlamaContext(decoder.model, settings)
            except MemoryLimitError:
                self._wanted = chosen.count // 2
            else:
                self._note_fewer(chosen.count, "memory allows no more")
                return lanes
        self._wanted = 1
        self._note_fewer(1, "memory allows no more")
        return None

    def _read_some(self, lanes: LlamaContext, free: int) -> Iterator[Outcome]:
        """Read the first waiting prompt, and others beside it where they are short."""
        target = len(self._running)
        first, *others = (each.prompt for each in self._waiting)
        try:
            self._reader.read_beginning(lanes, target, first, others)
        except EngineError as error:
            yield from self._fail({target: self._waiting.popleft()}, error)
            return
        group = self._group(lanes, target, free)
        yield from ((strand.index, None) for strand in group.values())
        try:
            rows = self._reader.read(lanes, {lane: strand.prompt for lane, strand in group.items()})
        except EngineError as error:
            yield from self._fail(group, error)
            return
        for lane, strand in group.items():
            strand.prompt_is_read()
            self._running[lane] = strand
        if rows is not None:
            yield from self._draw(rows)

    def _group(self, lanes: LlamaContext, target: int, free: int) -> dict[int, SequenceResponse]:
        """Take the first waiting requests that are read together, their lanes filled from saved states."""
        fitting = list(itertools.takewhile(lambda strand: not strand.alone, self._waiting))[:free]
        lengths = [len(each.prompt) - self._reader.reusable_prefix(each.prompt) for each in fitting]
        taken = {target + at: self._waiting.popleft() for at in range(plan.group(lengths, free, lanes.settings.batch))}
        for lane, strand in taken.items():
            strand.begin(self._reader.restore(lanes, lane, strand.prompt))
        count = plan.group([len(e.prompt) - e.answer.cached for e in taken.values()], free, lanes.settings.batch)
        for lane in reversed([*taken][count:]):  # a state did not fit, and so they are longer than they seemed
            lanes.clear(lane)
            self._waiting.appendleft(taken.pop(lane))
        return taken

    def _fail(self, group: dict[int, SequenceResponse], error: EngineError) -> Iterator[Outcome]:
        """Let go of strands whose batch failed."""
        assert self._lanes is not None
        for lane, strand in group.items():
            self._lanes.clear(lane)
            strand.run.sampler.close()
            yield strand.index, error

    # --- requests go on

    def _step(self) -> Iterator[Outcome]:
        """One more id for each that runs."""
        lanes = self._lanes
        if not self._running or lanes is None or self._cancelled:
            return
        self._pack()
        self._note_wide(len(self._running))
        parts = [(lane, (strand.next,)) for lane, strand in sorted(self._running.items()) if strand.next is not None]
        try:
            rows = lanes.feed_sequences(parts)
        except EngineError as error:
            failed, self._running = self._running, {}
            yield from self._fail(failed, error)
            return
        if rows is not None:
            yield from self._draw(rows)

    def _draw(self, rows: dict[int, int]) -> Iterator[Outcome]:
        assert self._lanes is not None
        for lane, row in rows.items():
            strand = self._running[lane]
            try:
                ends = strand.take(self._lanes, row)
            except ChatError as error:
                outcome: Completion | ChatError = error
                strand.run.sampler.close()
            else:
                if not ends:
                    continue
                outcome = strand.done()
            del self._running[lane]
            self._lanes.clear(lane)
            yield strand.index, outcome

    def _pack(self) -> None:
        """Move the last lanes in use to free ones before them: only neighbours are computed in one go."""
        assert self._lanes is not None
        for target in range(len(self._running)):
            if target not in self._running:
                source = max(self._running)
                self._lanes.move(source, target)
                self._running[target] = self._running.pop(source)
