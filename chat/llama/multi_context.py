"""Several sequences in one llama.cpp context, each in cells of its own: one batch computes them all. Knows no text.

Each lane has its cells to itself, in order of position as if it were alone: llama.cpp sums attention in the order of
cells, so lanes that shared them would get other bits than alone. Lanes in use are always the first ones, since
llama.cpp computes only neighbours in one go.
"""

from __future__ import annotations

import ctypes
from array import array
from typing import TYPE_CHECKING, Any

from chat.errors import EngineError
from chat.llama.context import ABORTED, ContextSettings, LlamaContext
from chat.llama.kv_snapshots import Snapshot
from chat.llama.library import LOG, llama

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.llama.model import Model

Part = tuple[int, "Sequence[int]"]  # a lane and the ids that it goes on with


class _Context(LlamaContext):
    """A decoder's context with several sequences."""

    def __init__(self, model: Model, settings: ContextSettings, count: int) -> None:
        self._count = count
        super().__init__(model, settings)
        self.cells = llama().llama_n_ctx_seq(self.pointer)

    def _parameters(self) -> Any:
        params = super()._parameters()
        params.n_seq_max = self._count
        params.n_ctx = self.settings.cells * self._count
        return params


class MultiSequenceContext:
    """`ids` of each lane are those whose cells it holds, from position 0 on."""

    def __init__(self, model: Model, settings: ContextSettings, count: int) -> None:
        """Make the context; `settings.cells` are those of one lane.

        Raises:
            MemoryLimitError: no memory for it.
        """
        self._api = llama()
        self.context = _Context(model, settings, count)
        self.count = count
        self.batch = settings.batch
        self.ids = [array("i") for _ in range(count)]
        self._batch: Any = self._api.llama_batch_init(settings.batch, 0, 1)

    def feed(self, parts: Sequence[Part], fewest: int = 1) -> dict[int, int] | None:
        """Read more ids of some lanes in one batch; shorter parts are padded to the longest, then cut again.

        Args:
            parts: neighbouring lanes in order; padded, at most a batch of ids.
            fewest: rows that each part is padded to.

        Returns:
            For each lane the row of its last id's logits; None when `abort` stopped it: the lanes are then of no use.

        Raises:
            EngineError: llama.cpp failed.
        """
        width = max(fewest, *(len(ids) for _, ids in parts))
        if width * len(parts) > self.batch:
            raise EngineError(f"{width * len(parts)} rows are more than a batch of {self.batch}")
        rows: dict[int, int] = {}
        count = 0
        for lane, ids in parts:
            self._make_room(lane, width)
            first = len(self.ids[lane])
            for at, token in enumerate([*ids, *[ids[-1]] * (width - len(ids))]):
                self._set(count, token, first + at, lane, at == len(ids) - 1)
                count += 1
            rows[lane] = count - width + len(ids) - 1
        self._batch.n_tokens = count
        result = self._api.llama_decode(self.context.pointer, self._batch)
        if result == ABORTED:
            return None
        if result != 0:
            raise EngineError(f"llama.cpp failed at a batch of {count} ids: {LOG.last_error() or f'code {result}'}")
        for lane, ids in parts:
            self.ids[lane].extend(ids)
            if len(ids) < width:
                self._api.llama_memory_seq_rm(self.context.memory, lane, len(self.ids[lane]), -1)
        return rows

    def _set(self, row: int, token: int, position: int, lane: int, output: bool) -> None:
        batch = self._batch
        batch.token[row], batch.pos[row] = token, position
        batch.n_seq_id[row], batch.seq_id[row][0] = 1, lane
        batch.logits[row] = output

    def _make_room(self, lane: int, width: int) -> None:
        """Give old cells of a window back."""
        over = len(self.ids[lane]) + width - self.context.cells
        if self.context.settings.rolling and over > 0:
            self._api.llama_memory_seq_rm(self.context.memory, lane, 0, over)

    def snapshot(self, lane: int) -> Snapshot:
        """A copy of a lane's cells."""
        api, pointer = self._api, self.context.pointer
        size = api.llama_state_seq_get_size_ext(pointer, lane, 0)
        data = bytearray(size)
        written = api.llama_state_seq_get_data_ext(pointer, (ctypes.c_uint8 * size).from_buffer(data), size, lane, 0)
        if written != size:
            raise EngineError(f"llama.cpp saved {written:,} of {size:,} bytes of its cache")
        oldest = api.llama_memory_seq_pos_min(self.context.memory, lane)
        window = self.context.window
        if window:
            oldest = max(oldest, len(self.ids[lane]) - window)
        return Snapshot(self.ids[lane][:], oldest, data)

    def restore(self, lane: int, snapshot: Snapshot, position: int) -> bool:
        """Let a lane hold the first ids of a snapshot, up to a position.

        Returns:
            False where it does not fit; the lane is then empty.
        """
        api, memory = self._api, self.context.memory
        self.clear(lane)
        if len(snapshot.ids) > self.context.cells and not self.context.settings.rolling:
            return False
        size = len(snapshot.data)
        buffer = (ctypes.c_uint8 * size).from_buffer(snapshot.data)
        if api.llama_state_seq_set_data_ext(self.context.pointer, buffer, size, lane, 0) == size:
            newest = api.llama_memory_seq_pos_max(memory, lane)
            if newest + 1 == len(snapshot.ids) and api.llama_memory_seq_rm(memory, lane, position, -1):
                self.ids[lane] = snapshot.ids[:position]
                return True
        self.clear(lane)
        return False

    def move(self, source: int, target: int) -> None:
        """Let another lane, an empty one, hold what a lane holds.

        Raises:
            EngineError: llama.cpp does not copy it.
        """
        snapshot = self.snapshot(source)
        if not self.restore(target, snapshot, len(snapshot.ids)):
            raise EngineError("llama.cpp could not move a sequence to other cells")
        self.clear(source)

    def clear(self, lane: int) -> None:
        """Forget all of a lane."""
        self._api.llama_memory_seq_rm(self.context.memory, lane, -1, -1)
        del self.ids[lane][:]

    def close(self) -> None:
        """Free the context."""
        self._api.llama_batch_free(self._batch)
        self.context.close()
