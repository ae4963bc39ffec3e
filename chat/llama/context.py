"""Read token ids into a llama.cpp context and give their logits, for one sequence or for several.

Each sequence has cells of its own, in the order of positions, as if it were alone: llama.cpp sums attention in the
order of the cells, so sequences that shared cells would get other bits. Sequences that are in use have to be the first
ones, since llama.cpp computes only neighbouring sequences in one pass.
"""

from __future__ import annotations

import ctypes
from array import array
from typing import TYPE_CHECKING, Any

from chat.core.token_ids import runs_of
from chat.errors import EngineError, MemoryLimitError, UsageError
from chat.llama.context_settings import ContextSettings, llama_parameters
from chat.llama.kv_snapshots import Snapshot, is_resumable
from chat.llama.library import LOG, llama
from chat.llama.sliding_window import rolling_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from chat.llama.model import Model

SequencePart = tuple[int, "Sequence[int]"]  # a sequence and the ids that are read into it

NO_SLOT = 1  # llama_decode: no free cells
ABORTED = 2  # llama_decode: the abort callback stopped it


class LlamaContext:
    """A context of a model. Methods without a `seq_id` argument work on sequence 0.

    Attributes:
        pointer: llama.cpp's context, valid until `close`.
        memory: llama.cpp's cache of it.
        cells: cells of each sequence, as llama.cpp rounded them up.
        uses_flash_attention: what llama.cpp decided where the settings leave it to it; None if its log does not tell.
        window: the model's sliding window in tokens, None without one.
        sequence_ids: for each sequence all ids read and not rewound, from position 0 on; int32.
        ids: those of sequence 0, the same array.
    """

    def __init__(self, model: Model, settings: ContextSettings) -> None:
        """Make the context.

        Raises:
            UsageError: a quantized cache without flash attention, or for heads that it cannot be divided into.
            MemoryLimitError: no memory for the cache.
            ModelError: llama.cpp refuses the model's adapters.
        """
        api = self._api = llama()
        self.model = model
        self.settings = settings
        self._abort = ctypes.create_string_buffer(2)
        self.pointer: Any = api.llama_init_from_model(model.pointer, llama_parameters(settings, self._abort))
        if not self.pointer:
            reason = LOG.last_error() or "no reason given"
            if settings.has_quantized_cache and "with block size" in reason:
                raise UsageError(
                    f"a {settings.kv_type} cache needs heads whose size is a multiple of 32, which this model's is not",
                    hint="leave out `--kv-type`",
                )
            raise MemoryLimitError(
                f"no memory for a context of {settings.cells:,} tokens: {reason}",
                hint="use a smaller `--context`, or `--kv-type q8_0`",
            )
        if model.adapters is not None:
            model.adapters.attach(self.pointer)
        self.uses_flash_attention = self._uses_flash_attention()
        self.memory: Any = api.llama_get_memory(self.pointer)
        self.cells: int = api.llama_n_ctx_seq(self.pointer)
        self.window = model.window
        self.sequence_ids = tuple(array("i") for _ in range(settings.sequences))
        self.ids = self.sequence_ids[0]
        self._copy_is_pending = False  # of a moved sequence
        self._make_batches()
        self._logits: dict[int, NDArray[np.float32]] = {}  # views by address

    def _uses_flash_attention(self) -> bool | None:
        """Whether flash attention is on; of `auto` only the log of llama.cpp tells (llama-context.cpp)."""
        if self.settings.needed_flash_attention != "auto":
            return self.settings.needed_flash_attention == "on"
        told = [text for _, text in LOG.lines if "Flash Attention enabled" in text or "Flash Attention not" in text]
        return told[-1].endswith("enabled") if told else None

    def _make_batches(self) -> None:
        """Make llama.cpp's structures for batches, filled anew by each of them. All arrays have `batch` entries."""
        rows = self.settings.batch
        self._tokens: Any = (ctypes.c_int32 * rows)()
        self._flags: Any = (ctypes.c_int8 * rows)()  # whether a row's logits are computed
        self._positions: Any = (ctypes.c_int32 * rows)()
        self._seq_ids: Any = (ctypes.c_int32 * rows)()
        counts = (ctypes.c_int32 * rows)(*[1] * rows)  # sequences of each row
        pointers = (ctypes.POINTER(ctypes.c_int32) * rows)(
            *(ctypes.pointer(ctypes.c_int32.from_buffer(self._seq_ids, 4 * row)) for row in range(rows))
        )
        make = self._api.llama_batch
        self._last_output: Any = make(token=self._tokens)  # without flags llama.cpp computes the last row's logits
        self._flagged: Any = make(token=self._tokens, logits=self._flags)
        arrays = {"pos": self._positions, "n_seq_id": counts, "seq_id": pointers, "logits": self._flags}
        self._sequence_batch: Any = make(token=self._tokens, **arrays)
        self._row_batch: Any = make(**arrays)

    @property
    def position(self) -> int:
        """Where the next id goes."""
        return len(self.ids)

    @property
    def free(self) -> int | None:
        """How many more ids fit; None where old cells are freed instead."""
        return None if self.settings.rolling else self.cells - len(self.ids)

    @property
    def held(self) -> int:
        """The length in tokens up to which every cell is kept: layers with a window hold it and one batch."""
        return self.cells if self.window is None else min(self.cells, rolling_cells(self.window, self.settings.batch))

    def feed(self, ids: Sequence[int], outputs: int = 1) -> bool:
        """Read ids into sequence 0, after those already there.

        Args:
            ids: at most a batch, valid for the vocabulary, or places of pictures: negative ids.
            outputs: of how many of the last ids the logits are computed.

        Returns:
            False when `abort` stopped it; `ids` then holds what was read.

        Raises:
            EngineError: llama.cpp failed; the cache is then empty.
        """
        if min(ids) < 0:
            return self._feed_runs(ids, outputs)
        count = len(ids)
        self._tokens[:count] = ids
        batch = self._last_output if outputs == 1 else self._flagged
        if outputs != 1:
            self._flags[:count] = [0] * (count - outputs) + [1] * outputs
        batch.n_tokens = count
        return self._decoded(batch, ids)

    def _feed_runs(self, ids: Sequence[int], outputs: int) -> bool:
        """Read ids among which are places of pictures: each run of ids or places as a batch of its own."""
        runs = runs_of(ids)
        return all(
            self._feed_rows(run, 0) if run[0] < 0 else self.feed(run, outputs if run is runs[-1] else 0) for run in runs
        )

    def _feed_rows(self, places: Sequence[int], seq_id: int) -> bool:
        """Read places of pictures into a sequence; no logits are computed."""
        rows = self._rows(places)  # (places, width) float32
        if rows is None:
            return False
        count, position = len(places), len(self.sequence_ids[seq_id])
        self._flags[:count] = [0] * count
        self._positions[:count] = range(position, position + count)
        self._seq_ids[:count] = [seq_id] * count
        batch = self._row_batch
        batch.embd = rows.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        batch.n_tokens = count
        return self._decoded(batch, places, seq_id)

    def _rows(self, places: Sequence[int]) -> NDArray[np.float32] | None:
        if self.model.pictures is None:
            raise EngineError("a prompt has pictures, and the model cannot read them")
        return self.model.pictures.rows(places)

    def _decoded(self, batch: Any, ids: Sequence[int], seq_id: int = 0) -> bool:
        """Let llama.cpp compute a batch of one sequence; False when `abort` stopped it."""
        known = self.sequence_ids[seq_id]
        if self.settings.rolling:
            self._free_old_cells(seq_id, len(ids))
        result = self._api.llama_decode(self.pointer, batch)
        if result == 0:
            known.extend(ids)
            return True
        if result == ABORTED:
            held = self._api.llama_memory_seq_pos_max(self.memory, seq_id) + 1
            known.extend(ids[: max(held - len(known), 0)])
            return False
        raise self._failed(result, (seq_id,))

    def feed_sequences(self, parts: Sequence[SequencePart], min_rows: int = 1) -> dict[int, int] | None:
        """Read ids into several sequences in one batch.

        Shorter parts are padded to the longest with their last id; the cells of the padding are removed afterwards.

        Args:
            parts: neighbouring sequences in ascending order; padded, at most a batch of ids. A part with places of
                pictures is alone.
            min_rows: rows that each part is padded to at least.

        Returns:
            For each sequence the row of its last id's logits; None when `abort` stopped it: the sequences have to be
            cleared before they are used again.

        Raises:
            EngineError: more rows than a batch, or llama.cpp failed; the sequences of the batch are then empty.
        """
        if len(parts) == 1 and min(parts[0][1]) < 0:
            return self._feed_sequence_runs(*parts[0])
        width = max(min_rows, *(len(ids) for _, ids in parts))
        count = width * len(parts)
        if count > self.settings.batch:
            raise EngineError(f"{count} rows are more than a batch of {self.settings.batch}")
        rows: dict[int, int] = {}
        for start, (seq_id, ids) in zip(range(0, count, width), parts, strict=True):
            if self.settings.rolling:
                self._free_old_cells(seq_id, width)
            stop, position = start + width, len(self.sequence_ids[seq_id])
            rows[seq_id] = start + len(ids) - 1
            self._tokens[start:stop] = [*ids, *[ids[-1]] * (width - len(ids))]
            self._positions[start:stop] = range(position, position + width)
            self._seq_ids[start:stop] = [seq_id] * width
            self._flags[start:stop] = [0] * width
            self._flags[rows[seq_id]] = 1
        self._sequence_batch.n_tokens = count
        result = self._api.llama_decode(self.pointer, self._sequence_batch)
        self._copy_is_pending = False
        if result == ABORTED:
            return None
        if result != 0:
            raise self._failed(result, [seq_id for seq_id, _ in parts])
        for seq_id, ids in parts:
            self.sequence_ids[seq_id].extend(ids)
            if len(ids) < width:
                self._api.llama_memory_seq_rm(self.memory, seq_id, len(self.sequence_ids[seq_id]), -1)
        return rows

    def _feed_sequence_runs(self, seq_id: int, ids: Sequence[int]) -> dict[int, int] | None:
        """`feed_sequences` for ids among which are places of pictures; no row for a sequence that ends with one."""
        rows: dict[int, int] | None = {}
        for run in runs_of(ids):
            if run[0] >= 0:
                rows = self.feed_sequences([(seq_id, run)])
            else:
                rows = {} if self._feed_rows(run, seq_id) else None
                self._copy_is_pending = False
            if rows is None:
                return None
        return rows

    def _free_old_cells(self, seq_id: int, count: int) -> None:
        """Free the oldest cells of a rolling cache where `count` more ids would not fit."""
        excess = len(self.sequence_ids[seq_id]) + count - self.cells
        if excess > 0:
            self._api.llama_memory_seq_rm(self.memory, seq_id, 0, excess)

    def _failed(self, result: int, seq_ids: Sequence[int]) -> EngineError:
        """Clear the sequences of a batch that failed; the error to raise for it."""
        position = max(len(self.sequence_ids[seq_id]) for seq_id in seq_ids)
        for seq_id in seq_ids:
            self.clear(seq_id)
        if result == NO_SLOT:
            return EngineError(f"the cache of {self.cells:,} cells has no room at position {position:,}")
        return EngineError(f"llama.cpp failed at position {position:,}: {LOG.last_error() or f'code {result}'}")

    def rewind(self, position: int, seq_id: int = 0) -> int:
        """Remove the ids from `position` on, or all where the window no longer holds what comes before `position`.

        Returns:
            How many ids are left: `position`, or 0.
        """
        ids = self.sequence_ids[seq_id]
        if position >= len(ids):
            return len(ids)
        if (
            position > 0
            and self.can_rewind(position, seq_id)
            and self._api.llama_memory_seq_rm(self.memory, seq_id, position, -1)
        ):
            del ids[position:]
            return position
        self.clear(seq_id)
        return 0

    def can_rewind(self, position: int, seq_id: int = 0) -> bool:
        """Whether the cells that an id at `position` attends to are all there."""
        return position == 0 or is_resumable(position, self._oldest(seq_id), self.window)

    def _oldest(self, seq_id: int) -> int:
        """The first position whose cells are still there; -1 where there are none."""
        position: int = self._api.llama_memory_seq_pos_min(self.memory, seq_id)
        return position

    def clear(self, seq_id: int = 0) -> None:
        """Remove all ids of a sequence."""
        if len(self.sequence_ids) == 1:
            self._api.llama_memory_clear(self.memory, False)
        else:
            self._api.llama_memory_seq_rm(self.memory, seq_id, -1, -1)
        del self.sequence_ids[seq_id][:]

    def logits(self, row: int = -1) -> NDArray[np.float32]:
        """A view of the logits of one id of the last batch, valid until the next batch.

        Args:
            row: index in the batch; -1 is the last row with logits.

        Returns:
            (vocabulary,) float32, writable.
        """
        import numpy as np

        pointer = self._api.llama_get_logits_ith(self.pointer, row)
        address = ctypes.addressof(pointer.contents)
        view = self._logits.get(address)
        if view is None:
            memory: Any = (ctypes.c_float * self.model.vocabulary_size).from_address(address)
            view = self._logits[address] = np.frombuffer(memory, dtype=np.float32)
        return view

    def first_logit(self, row: int = -1) -> float:
        """The logit of id 0 in a row of the last batch; NaN where the last layer computed NaN."""
        number: float = self._api.llama_get_logits_ith(self.pointer, row)[0]
        return number

    @property
    def state_bytes(self) -> int:
        """The size of a snapshot taken now."""
        size: int = self._api.llama_state_seq_get_size_ext(self.pointer, 0, 0)
        return size

    def snapshot_start(self, seq_id: int = 0) -> int:
        """The first position whose cells a snapshot taken now holds; llama.cpp leaves out those behind the window."""
        oldest = self._oldest(seq_id)
        return max(oldest, len(self.sequence_ids[seq_id]) - self.window) if self.window else oldest

    def snapshot(self, seq_id: int = 0) -> Snapshot:
        """A copy of the cells that the last id attends to.

        Raises:
            EngineError: llama.cpp saved fewer bytes than it announced, or a moved sequence is not copied yet.
        """
        if self._copy_is_pending:
            raise EngineError("the cache cannot be saved before a moved sequence is read further")
        size = self._api.llama_state_seq_get_size_ext(self.pointer, seq_id, 0)
        data = bytearray(size)
        buffer: Any = (ctypes.c_uint8 * size).from_buffer(data)
        written = self._api.llama_state_seq_get_data_ext(self.pointer, buffer, size, seq_id, 0)
        if written != size:
            raise EngineError(f"llama.cpp saved {written:,} of {size:,} bytes of its cache")
        return Snapshot(self.sequence_ids[seq_id][:], self.snapshot_start(seq_id), data)

    def restore(self, snapshot: Snapshot, seq_id: int = 0) -> bool:
        """Replace a sequence by a snapshot; its last id must be read again before there are logits.

        Returns:
            False where it does not fit, llama.cpp refuses it, or a moved sequence is not copied yet; the sequence is
            then empty.
        """
        self.clear(seq_id)
        if self._copy_is_pending or (len(snapshot.ids) > self.cells and not self.settings.rolling):
            return False
        size = len(snapshot.data)
        buffer: Any = (ctypes.c_uint8 * size).from_buffer(snapshot.data)
        if self._api.llama_state_seq_set_data_ext(self.pointer, buffer, size, seq_id, 0) == size:
            newest = self._api.llama_memory_seq_pos_max(self.memory, seq_id)
            if newest + 1 == len(snapshot.ids) and self._oldest(seq_id) <= max(snapshot.oldest, 0):
                self.sequence_ids[seq_id].extend(snapshot.ids)
                return True
        self.clear(seq_id)
        return False

    def move(self, source: int, target: int) -> None:
        """Move what one sequence holds to another, which is empty.

        The cells keep their order, which a snapshot would not: flash attention adds them up in that order, and where a
        rolling cache wraps around inside the window, another order gives other bits. llama.cpp copies the cells at the
        start of the next batch; until then nothing can be saved or restored.
        """
        self._api.llama_memory_seq_cp(self.memory, source, target, -1, -1)
        self.sequence_ids[target].extend(self.sequence_ids[source])
        self.clear(source)
        self._copy_is_pending = True

    def abort(self, flag: bool = True) -> None:
        """Stop the batch that is being computed, from any thread; False allows batches again. Works on CPUs only."""
        self._abort[0] = b"x" if flag else b"\0"
        if self.model.pictures is not None:
            self.model.pictures.abort(flag)

    def close(self) -> None:
        """Free the context."""
        if self.pointer:
            self._api.llama_free(self.pointer)
            self.pointer = None
