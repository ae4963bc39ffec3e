"""Answer many requests together in one context: a new one starts where another has ended.

The answers have the same bits as alone, and so the same text at temperature 0, as long as llama.cpp computes a row
alone and among others alike; `chat.llama.batch_invariance` has the conditions. Elsewhere (float weights, more than
seven rows, repacked rows, GPUs, longer texts on several threads, a prefix that was read before) logits differ by 1e-3
to 1e-1, and an answer may differ from where two ids are nearly as likely.
"""

from __future__ import annotations

import itertools
import time
import traceback
from collections import deque
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chat.core.events import Completion, outcome_of
from chat.errors import ChatError, EngineError, MemoryLimitError, as_chat_error
from chat.inference.batch_admission import (
    SEQUENCES,
    SEQUENCES_ON_GPU,
    SHORT_PROMPT,
    PrefixReader,
    cells_needed,
    group_size,
    plan_sequences,
    should_read_now,
    unread_rows,
)
from chat.inference.response import ResponseBuilder, stream
from chat.llama.batch_invariance import MAX_BATCH_INVARIANT_ROWS
from chat.llama.context import LlamaContext
from chat.llama.hardware import host_free_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    from chat.core.request import Request
    from chat.inference.loaded_model import LoadedModel

    class RequestSource(Protocol):
        """Where the requests of a batch come from."""

        def take(self, wait_seconds: float | None) -> tuple[int, Request] | None:
            """The next request with its index; None if none came in time, or none will.

            Args:
                wait_seconds: how long to wait at most; None: for ever.
            """

        @property
        def ended(self) -> bool:
            """Whether no more will come."""


Outcome = tuple[int, "Completion | ChatError | None"]  # of the request with this index; None: it has started

GATHERING_SECONDS = 0.05  # at the start, so that the requests of a file start together


@dataclass
class ActiveRequest:
    """A request that waits or is being answered."""

    index: int
    response: ResponseBuilder
    next_token: int | None = None  # drawn, but not fed yet

    @property
    def prompt(self) -> tuple[int, ...]:
        """The ids of its prompt."""
        return self.response.prompt.ids


class BatchScheduler:
    """Answers the requests of one batch with one loaded model."""

    def __init__(
        self, loaded: LoadedModel, parallel: int | None, on_notice: Callable[[str], None] = lambda _: None
    ) -> None:
        """Prepare a batch.

        Args:
            loaded: answers.
            parallel: how many requests at a time; None: as many as is fastest.
            on_notice: gets sentences for the user.
        """
        self._loaded = loaded
        self._generator = loaded.generator
        self._requested = parallel  # None also after `_warn_of_fewer`
        self._on_notice = on_notice
        self._wanted = self._most_sequences(parallel)
        self._context: LlamaContext | None = None
        self._waiting: deque[ActiveRequest] = deque()
        self._running: dict[int, ActiveRequest] = {}  # by sequence
        self._steps_waited = 0
        self._has_warned_of_rows = False
        self._cancelled = False
        self._reader = PrefixReader(self._generator.cache.snapshots, self._generator.context.window)

    def cancel(self, flag: bool = True) -> None:
        """End all that runs, from any thread."""
        self._cancelled = self._reader.cancelled = flag
        if self._context is not None:
            self._context.abort(flag)

    def outcomes(self, source: RequestSource) -> Iterator[Outcome]:
        """Yield the outcome of each request when it ends; after a cancel, requests that did not start have none.

        Raises:
            MemoryLimitError: there is not enough memory for an answer alone.
        """
        try:
            yield from self._gather(source)
            while not self._cancelled and (self._waiting or self._running or not source.ended):
                yield from self._accept_more(source)
                yield from self._start_waiting()
                yield from self._step()
            for active in self._running.values():
                active.response.run.finish_reason = "interrupted"
                yield active.index, active.response.completion()
        finally:
            for active in (*self._running.values(), *self._waiting):
                active.response.close()
            if self._context is not None:
                context, self._context = self._context, None
                context.close()

    def _most_sequences(self, parallel: int | None) -> int:
        """How many requests at a time, apart from memory."""
        if not self._generator.context.model.can_rewind:
            self._warn_of_fewer(1, "a recurrent model answers one by one")
            return 1
        uses_gpu = self._loaded.info.details.get("gpu_layers", 0) > 0
        return parallel or (SEQUENCES_ON_GPU if uses_gpu else SEQUENCES)

    def _warn_of_fewer(self, count: int, reason: str) -> None:
        """Tell the user once that fewer requests run together than requested."""
        if self._requested is not None and count < self._requested:
            requested, self._requested = self._requested, None
            self._on_notice(f"{count} answers at a time instead of {requested}: {reason}")

    def _warn_of_rows(self, count: int) -> None:
        """Tell the user once that so many answers together, if requested, may differ from those of each alone."""
        if self._requested is not None and count > MAX_BATCH_INVARIANT_ROWS and not self._has_warned_of_rows:
            self._has_warned_of_rows = True
            self._on_notice(
                f"{count} answers at a time: with more than {MAX_BATCH_INVARIANT_ROWS} the sums are computed in "
                "another order, so an answer may differ where two tokens are almost equally likely"
            )

    # --- accept requests

    def _gather(self, source: RequestSource) -> Iterator[Outcome]:
        """Accept the first requests, for a short time after the first of them."""
        deadline = time.monotonic() + GATHERING_SECONDS
        while self._accepts(source):
            left = deadline - time.monotonic() if self._waiting else None
            if left is not None and left <= 0:
                return
            taken = source.take(left)
            if taken is not None:
                yield from self._accept(*taken)

    def _accept_more(self, source: RequestSource) -> Iterator[Outcome]:
        """Accept the requests that are there; wait for one only if nothing else is to be done."""
        while self._accepts(source):
            is_idle = not (self._waiting or self._running)
            taken = source.take(None if is_idle else 0)
            if taken is None:
                return
            yield from self._accept(*taken)

    def _accepts(self, source: RequestSource) -> bool:
        return len(self._waiting) < 2 * self._wanted and not source.ended and not self._cancelled

    def _accept(self, index: int, request: Request) -> Iterator[Outcome]:
        try:
            active = ActiveRequest(index, ResponseBuilder(self._loaded, request))
        except Exception as error:
            yield index, _logged(error)
            return
        self._waiting.append(active)
        for notice in active.response.notices():
            self._on_notice(notice)

    # --- start requests

    def _start_waiting(self) -> Iterator[Outcome]:
        """Read the prompts of waiting requests into free sequences."""
        while self._waiting and not self._cancelled:
            if self._waiting[0].response.choices or self._wanted == 1:
                yield from self._answer_alone(self._waiting.popleft())
                continue
            context = self._fitting_context()
            if context is None:
                return
            free = context.settings.sequences - len(self._running)
            if free == 0 or not should_read_now(free, context.settings.sequences, self._steps_waited):
                self._steps_waited += 1
                return
            if self._pack(context):
                return  # the cells are copied with the next step; prompts are read after it
            self._steps_waited = 0
            yield from self._read_prompts(context, free)

    def _answer_alone(self, active: ActiveRequest) -> Iterator[Outcome]:
        """Answer in the model's own context, as without a batch."""
        yield active.index, None
        with closing(active.response):
            yield active.index, outcome_of(stream(active.response), lambda _: None)

    def _fitting_context(self) -> LlamaContext | None:
        """The context of the batch, replaced if the first waiting request needs more cells.

        Returns:
            None while requests run and it cannot be replaced, or where requests are answered alone from now on.
        """
        needs = [cells_needed(len(active.prompt), active.response.run.limit) for active in self._waiting]
        single = self._generator.context
        most = single.cells + (0 if single.settings.rolling else SHORT_PROMPT)
        context = self._context
        if context is not None and context.cells >= min(needs[0], most):
            return context
        if self._running:
            return None
        if context is not None:
            self._context = None
            context.close()
        self._context = self._make_context(max(needs), most)
        if self._cancelled and self._context is not None:
            self._context.abort()
        return self._context

    def _make_context(self, need: int, most: int) -> LlamaContext | None:
        """A new context, with fewer sequences if a GPU has no memory for all; None: answer requests alone."""
        details, single = self._loaded.info.details, self._generator.context
        cell_bytes = details["cache_bytes"] / max(details["cells"], 1)
        while self._wanted:
            plan = plan_sequences(self._wanted, need, most, cell_bytes, host_free_bytes())
            settings = replace(
                single.settings,
                cells=plan.cells,
                outputs=plan.count,
                sequences=plan.count,
                rolling=single.settings.rolling and plan.cells >= single.cells,
            )
            try:
                context = LlamaContext(single.model, settings)
            except MemoryLimitError:
                self._wanted = plan.count // 2
            else:
                self._warn_of_fewer(plan.count, "memory allows no more")
                return context
        self._wanted = 1
        self._warn_of_fewer(1, "memory allows no more")
        return None

    def _read_prompts(self, context: LlamaContext, free: int) -> Iterator[Outcome]:
        """Read the first waiting prompt, together with others if they are short."""
        first_free = len(self._running)
        prompt, *others = (active.prompt for active in self._waiting)
        try:
            self._reader.read_common_prefix(context, first_free, prompt, others)
        except EngineError as error:
            yield from self._fail(context, {first_free: self._waiting.popleft()}, error)
            return
        group = self._take_group(context, first_free, free)
        yield from ((active.index, None) for active in group.values())
        try:
            rows = self._reader.read(context, {seq_id: active.prompt for seq_id, active in group.items()})
        except EngineError as error:
            yield from self._fail(context, group, error)
            return
        for seq_id, active in group.items():
            active.response.start_generation()
            self._running[seq_id] = active
        if rows is not None:
            yield from self._draw(context, rows)

    def _take_group(self, context: LlamaContext, first_free: int, free: int) -> dict[int, ActiveRequest]:
        """The first waiting requests that are read together, by sequence; snapshots are restored."""
        batched = itertools.takewhile(lambda active: not active.response.choices, self._waiting)
        fitting = list(itertools.islice(batched, free))
        unread = [unread_rows(active.prompt, self._reader.reusable_prefix(active.prompt)) for active in fitting]
        count = group_size(unread, free, context.settings.batch)
        group = {first_free + offset: self._waiting.popleft() for offset in range(count)}
        for seq_id, active in group.items():
            active.response.start_prefill()
            active.response.cached = self._reader.restore(context, seq_id, active.prompt)
        unread = [unread_rows(active.prompt, active.response.cached) for active in group.values()]
        count = group_size(unread, free, context.settings.batch)
        for seq_id in reversed([*group][count:]):  # a snapshot did not fit, so more is unread than expected
            context.clear(seq_id)
            self._waiting.appendleft(group.pop(seq_id))
        return group

    def _fail(self, context: LlamaContext, group: dict[int, ActiveRequest], error: EngineError) -> Iterator[Outcome]:
        """End requests whose batch failed."""
        for seq_id, active in group.items():
            context.clear(seq_id)
            active.response.close()
            yield active.index, error

    # --- continue requests

    def _step(self) -> Iterator[Outcome]:
        """Generate one more id for each running request."""
        context = self._context
        if not self._running or context is None or self._cancelled:
            return
        self._pack(context)
        self._warn_of_rows(len(self._running))
        parts = [
            (seq_id, (active.next_token,))
            for seq_id, active in sorted(self._running.items())
            if active.next_token is not None
        ]
        try:
            rows = context.feed_sequences(parts)
        except EngineError as error:
            failed, self._running = self._running, {}
            yield from self._fail(context, failed, error)
            return
        if rows is not None:
            yield from self._draw(context, rows)

    def _draw(self, context: LlamaContext, rows: dict[int, int]) -> Iterator[Outcome]:
        """Draw an id for each sequence from its row of logits."""
        for seq_id, row in rows.items():
            active = self._running[seq_id]
            response = active.response
            outcome: Completion | ChatError
            try:
                token = response.run.draw(context, row)
                if token is not None:
                    response.push(token)
            except Exception as error:
                outcome = _logged(error)
            else:
                active.next_token = token
                if response.run.finish_reason is None:
                    continue
                outcome = response.completion()
            response.close()
            del self._running[seq_id]
            context.clear(seq_id)
            yield active.index, outcome

    def _pack(self, context: LlamaContext) -> bool:
        """Move the last sequences in use to free ones before them, and say whether there were any.

        Only neighbours are computed in one pass.
        """
        has_moved = False
        for target in range(len(self._running)):
            if target not in self._running:
                source = max(self._running)
                context.move(source, target)
                self._running[target] = self._running.pop(source)
                has_moved = True
        return has_moved


def _logged(error: Exception) -> ChatError:
    """The outcome of a request that failed; the traceback of a fault that nobody expected goes to the log."""
    if not isinstance(error, ChatError):
        traceback.print_exception(error)
    return as_chat_error(error)
