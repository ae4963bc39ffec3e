"""Answer many requests together: a new one begins where another has ended. Knows lanes and strands, not processes.

The same bits as alone, and so at temperature 0 the same text, with flash attention and without repacking, as long as
llama.cpp computes single rows like several: of weights in Q8_0, Q4_0, Q4_K, Q5_K and Q6_K, by up to four rows, in up to
512 cells or on one thread. Elsewhere (float weights, more rows, repacked rows, GPUs, long contexts on several threads)
logits differ by about 1e-3 and an answer may take another turn where two ids are as likely.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from chat.engine import batch_plan as plan
from chat.engine.devices import host_free_bytes
from chat.engine.engine import chunk_bounds
from chat.engine.lanes import LaneDecoder
from chat.engine.reply import reply
from chat.engine.snapshot import common_prefix
from chat.engine.strand import Strand
from chat.events import Done
from chat.ground.errors import ChatError, EngineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Protocol

    from chat.engine.room import Room
    from chat.request import Request

    class Source(Protocol):
        """Where requests come from."""

        def take(self, wait_seconds: float | None) -> tuple[int, Request] | None:
            """The next one; None where none came in time, or none will. None as the time waits for ever."""

        @property
        def ended(self) -> bool:
            """Whether no more will come."""


Outcome = tuple[int, "Done | ChatError | None"]  # of a request by its position; None: it begins

GATHERING_SECONDS = 0.05  # at the start, so that requests of a file begin together


class Together:
    """Answers requests of one batch on one loaded model."""

    def __init__(self, room: Room, parallel: int | None) -> None:
        assert room.engine is not None
        self._room = room
        self._engine = room.engine
        self._wanted = self._most(parallel)
        self._lanes: LaneDecoder | None = None
        self._waiting: deque[Strand] = deque()
        self._running: dict[int, Strand] = {}  # by lane
        self._waited = 0
        self._cancelled = False

    def cancel(self, flag: bool = True) -> None:
        """End all that runs, from any thread."""
        self._cancelled = flag
        if self._lanes is not None:
            self._lanes.context.abort(flag)

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
            return 1
        whole = self._room.info.details.get("gpu_layers", 0) > 0
        return parallel or (plan.LANES_ON_GPU if whole else plan.LANES)

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
            self._waiting.append(Strand(index, self._room, request))
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
            free = lanes.count - len(self._running)
            if free == 0 or not plan.is_time(free, lanes.count, self._waited):
                self._waited += 1
                return
            self._waited = 0
            self._pack()
            yield from self._read_some(lanes, free)

    def _answer_alone(self, strand: Strand) -> Iterator[Outcome]:
        """Answer as without a batch, on the engine's own context."""
        strand.run.sampler.close()
        yield strand.index, None
        try:
            outcome: Done | ChatError = next(e for e in reply(self._room, strand.request) if isinstance(e, Done))
        except ChatError as error:
            outcome = error
        yield strand.index, outcome

    def _fitting_lanes(self) -> LaneDecoder | None:
        """The lanes, made anew where the waiting requests need longer ones and nothing runs."""
        needs = [plan.cells_needed(len(each.prompt), each.run.limit) for each in self._waiting]
        decoder = self._engine.decoder
        most = decoder.cells + (0 if decoder.settings.rolling else plan.SHORT)
        lanes = self._lanes
        if lanes is not None and lanes.context.cells >= min(needs[0], most):
            return lanes
        if self._running:
            return None
        if lanes is not None:
            self._lanes = None
            lanes.close()
        details = self._room.info.details
        cell_bytes = details["cache_bytes"] / max(details["cells"], 1)
        chosen = plan.plan_lanes(self._wanted, max(needs), most, cell_bytes, host_free_bytes())
        settings = replace(
            decoder.settings,
            cells=chosen.cells,
            outputs=chosen.count,
            rolling=decoder.settings.rolling and chosen.cells >= decoder.cells,
        )
        self._lanes = LaneDecoder(decoder.model, settings, chosen.count)
        if self._cancelled:
            self._lanes.context.abort()
        return self._lanes

    def _read_some(self, lanes: LaneDecoder, free: int) -> Iterator[Outcome]:
        """Read the first waiting prompt, and others beside it where they are short."""
        fitting = [each for each in self._waiting if not each.alone][:free]
        target = len(self._running)
        self._read_beginning(lanes, target)
        reaches = [self._reach(each) for each in fitting]
        count = plan.group([len(e.prompt) - r for e, r in zip(fitting, reaches, strict=True)], free, lanes.batch)
        count = min(count, next((at for at, each in enumerate(self._waiting) if each.alone), count))
        group = {target + at: self._waiting.popleft() for at in range(count)}
        for strand in group.values():
            strand.begun = time.perf_counter()
            yield strand.index, None
        try:
            rows = self._read(lanes, group)
        except EngineError as error:
            yield from self._fail(group, error)
            return
        self._running |= group
        if rows is not None:
            yield from self._draw(rows)

    def _fail(self, group: dict[int, Strand], error: EngineError) -> Iterator[Outcome]:
        """Let go of strands whose batch failed."""
        assert self._lanes is not None
        for lane, strand in group.items():
            self._lanes.clear(lane)
            strand.run.sampler.close()
            yield strand.index, error

    def _read_beginning(self, lanes: LaneDecoder, lane: int) -> None:
        """Read what the first waiting prompt has in common with others, and keep it."""
        first = self._waiting[0]
        reach = self._reach(first)
        common = max(
            (common_prefix(first.prompt, each.prompt) for each in self._waiting if each is not first), default=0
        )
        common = min(common, len(first.prompt) - 1)
        if common < reach + plan.SHARED:
            return
        if self._restore(lanes, lane, first.prompt, common) + plan.SHARED > common:
            return
        if self._read_long(lanes, lane, first.prompt[:common]) is not None:
            self._keep(lanes, lane)
        lanes.clear(lane)

    def _read(self, lanes: LaneDecoder, group: dict[int, Strand]) -> dict[int, int] | None:
        """Read the rest of the prompts; the rows of their last ids, or None where it was cancelled."""
        for lane, strand in group.items():
            strand.prompt_is_read(self._restore(lanes, lane, strand.prompt, len(strand.prompt) - 1))
        fresh = [(lane, strand.prompt[len(lanes.ids[lane]) :]) for lane, strand in group.items()]
        reused = len(lanes.ids[fresh[0][0]])
        if len(fresh) > 1 or len(fresh[0][1]) < plan.SHORT:
            rows = lanes.feed(fresh, plan.FEWEST_ROWS)
        else:
            lane = fresh[0][0]
            rows = self._read_long(lanes, lane, group[lane].prompt)
            if rows is not None and plan.is_worth_keeping(reused, len(fresh[0][1])):
                self._keep(lanes, lane)
        for strand in group.values():
            strand.prompt_is_read(strand.answer.cached)
        return rows

    def _read_long(self, lanes: LaneDecoder, lane: int, prompt: Sequence[int]) -> dict[int, int] | None:
        """Read a prompt in the chunks that it would be read in alone."""
        rows: dict[int, int] | None = None
        for start, stop in pairwise(chunk_bounds(len(lanes.ids[lane]), len(prompt), lanes.batch)):
            rows = None if self._cancelled else lanes.feed([(lane, prompt[start:stop])], plan.FEWEST_ROWS)
            if rows is None:
                return None
        return rows

    def _reach(self, strand: Strand) -> int:
        """Ids of a prompt that a kept state spares."""
        _, reach = self._engine.snapshots.best(strand.prompt, self._engine.decoder.window)
        return reach

    def _restore(self, lanes: LaneDecoder, lane: int, prompt: Sequence[int], most: int) -> int:
        """Let a lane hold what a kept state has of a prompt; how many ids that is."""
        lanes.clear(lane)
        snapshot, reach = self._engine.snapshots.best(prompt, self._engine.decoder.window)
        reach = min(reach, most)
        if snapshot is None or reach < plan.SHARED or not lanes.restore(lane, snapshot, reach):
            return 0
        return reach

    def _keep(self, lanes: LaneDecoder, lane: int) -> None:
        if not self._engine.snapshots.holds(lanes.ids[lane]):
            self._engine.snapshots.keep(lanes.snapshot(lane))

    # --- requests go on

    def _step(self) -> Iterator[Outcome]:
        """One more id for each that runs."""
        lanes = self._lanes
        if not self._running or lanes is None or self._cancelled:
            return
        self._pack()
        parts = [(lane, (strand.next,)) for lane, strand in sorted(self._running.items()) if strand.next is not None]
        try:
            rows = lanes.feed(parts)
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
                ends = strand.take(self._lanes.context, row)
            except ChatError as error:
                outcome: Done | ChatError = error
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
