"""One llama.cpp context: ids in, logits out, and the cells in between. Knows positions, not text or turns."""

from __future__ import annotations

import ctypes
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chat.errors import EngineError, MemoryLimitError, UsageError
from chat.llama.kv_snapshots import Snapshot, resumable_prefix
from chat.llama.library import LOG, llama
from chat.llama.sliding_window import rolling_cells

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from chat.core.request import KvType, Switch
    from chat.llama.model import Model

GGML_TYPES: dict[KvType, int] = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8}
FLASH_ATTENTION: dict[Switch, int] = {"auto": -1, "off": 0, "on": 1}
NO_SLOT = 1  # llama_decode: no free cells
ABORTED = 2


@dataclass(frozen=True)
class ContextSettings:
    """The shape of a context. `cells` is what the cache holds; `rolling` gives old ones back as the text goes on."""

    cells: int
    batch: int = 256  # tokens that are read at once
    outputs: int = 8  # rows of logits that one batch may ask for
    rolling: bool = False
    kv_type: KvType = "f16"
    flash_attention: Switch = "auto"
    threads: int = 1
    offload_cache: bool = True


class LlamaContext:
    """A sequence of ids in llama.cpp's cache. `ids` is every id ever read and not rewound, from position 0 on."""

    def __init__(self, model: Model, settings: ContextSettings) -> None:
        """Make the context.

        Raises:
            UsageError: a quantized cache without flash attention.
            MemoryLimitError: no memory for the cache.
        """
        api = self._api = llama()
        self.model = model
        self.settings = settings
        self._abort = ctypes.create_string_buffer(2)
        self.pointer: Any = api.llama_init_from_model(model.pointer, self._parameters())
        if not self.pointer:
            raise MemoryLimitError(
                f"no memory for a context of {settings.cells:,} tokens: {LOG.last_error() or 'no reason given'}",
                hint="use a smaller `--context`, or `--kv-type q8_0`",
            )
        if model.adapters is not None:
            model.adapters.attach(self.pointer)
        self.memory: Any = api.llama_get_memory(self.pointer)
        self.cells: int = api.llama_n_ctx(self.pointer)
        self.window = model.window
        self.ids = array("i")
        self._tokens: Any = (ctypes.c_int32 * settings.batch)()
        self._wanted: Any = (ctypes.c_int8 * settings.batch)()
        self._last_only = api.llama_batch(token=self._tokens)  # without flags the last token's logits are made
        self._flagged = api.llama_batch(token=self._tokens, logits=self._wanted)
        self._rows: dict[int, NDArray[np.float32]] = {}

    def _parameters(self) -> Any:
        settings, api = self.settings, self._api
        flash = settings.flash_attention
        if settings.kv_type.startswith("q"):
            if flash == "off":
                raise UsageError(
                    f"a {settings.kv_type} cache needs flash attention", hint="leave `--flash-attention` on"
                )
            flash = "on"
        params = api.llama_context_default_params()
        params.n_ctx = settings.cells
        params.n_batch = params.n_ubatch = settings.batch
        params.n_outputs_max = min(settings.outputs, settings.batch)
        params.n_threads = params.n_threads_batch = settings.threads
        params.flash_attn_type = FLASH_ATTENTION[flash]
        params.type_k = params.type_v = GGML_TYPES[settings.kv_type]
        params.swa_full = False
        params.offload_kqv = settings.offload_cache
        params.no_perf = True
        # Asked between the nodes of a graph, a thousand times a token: `strlen` of our flag answers without Python.
        params.abort_callback = ctypes.cast(ctypes.CDLL(None).strlen, api.ggml_abort_callback)
        params.abort_callback_data = ctypes.cast(self._abort, ctypes.c_void_p)
        return params

    @property
    def position(self) -> int:
        """Where the next id goes."""
        return len(self.ids)

    @property
    def free(self) -> int | None:
        """Ids that still fit; None where there is no end."""
        return None if self.settings.rolling else self.cells - len(self.ids)

    @property
    def held(self) -> int:
        """How long a text is of which no cell was given back: layers with a window hold it and one batch."""
        return self.cells if self.window is None else min(self.cells, rolling_cells(self.window, self.settings.batch))

    def feed(self, ids: Sequence[int], outputs: int = 1) -> bool:
        """Read ids after the ones before.

        Args:
            ids: at most a batch, valid for the vocabulary.
            outputs: how many of the last ids get their logits.

        Returns:
            False when `abort` stopped it; what was read stays in `ids`.

        Raises:
            EngineError: llama.cpp failed; the cache is then empty.
        """
        count = len(ids)
        self._tokens[:count] = ids
        if outputs == 1:
            batch = self._last_only
        else:
            batch = self._flagged
            self._wanted[:count] = [0] * (count - outputs) + [1] * outputs
        batch.n_tokens = count
        if self.settings.rolling and len(self.ids) + count > self.cells:
            self._api.llama_memory_seq_rm(self.memory, 0, 0, len(self.ids) + count - self.cells)
        result = self._api.llama_decode(self.pointer, batch)
        if result == 0:
            self.ids.extend(ids)
            return True
        self._recover(ids, result)
        return False

    def _recover(self, ids: Sequence[int], result: int) -> None:
        """Make `ids` tell again what the cache holds after a batch that did not end well."""
        if result == ABORTED:
            held = self._api.llama_memory_seq_pos_max(self.memory, 0) + 1
            self.ids.extend(ids[: max(held - len(self.ids), 0)])
            return
        position = len(self.ids)
        self.clear()
        if result == NO_SLOT:
            raise EngineError(f"the cache of {self.cells:,} cells has no room at position {position:,}")
        raise EngineError(f"llama.cpp failed at position {position:,}: {LOG.last_error() or f'code {result}'}")

    def rewind(self, position: int) -> int:
        """Forget the ids from `position` on, or all of them where the window no longer holds what comes before it.

        Returns:
            How many ids are left: `position`, or 0.
        """
        if position >= len(self.ids):
            return len(self.ids)
        if position > 0 and self.can_rewind(position) and self._api.llama_memory_seq_rm(self.memory, 0, position, -1):
            del self.ids[position:]
            return position
        self.clear()
        return 0

    def can_rewind(self, position: int) -> bool:
        """Whether the cells that an id at `position` looks back to are all there."""
        return position == 0 or resumable_prefix(position, self.oldest, self.window) > 0

    @property
    def oldest(self) -> int:
        """The first position whose cells are still there; -1 where there are none."""
        position: int = self._api.llama_memory_seq_pos_min(self.memory, 0)
        return position

    def clear(self) -> None:
        """Forget everything."""
        self._api.llama_memory_clear(self.memory, False)
        del self.ids[:]

    def logits(self, row: int = -1) -> NDArray[np.float32]:
        """A view of the logits of one id of the last batch, valid until the next.

        Args:
            row: index in the batch that was fed; -1 is the last output.

        Returns:
            (vocabulary,) float32, writable.
        """
        import numpy as np

        pointer = self._api.llama_get_logits_ith(self.pointer, row)
        address = ctypes.addressof(pointer.contents)
        view = self._rows.get(address)
        if view is None:
            row_memory: Any = (ctypes.c_float * self.model.vocabulary_size).from_address(address)
            view = self._rows[address] = np.frombuffer(row_memory, dtype=np.float32)
        return view

    def first_logit(self, row: int = -1) -> float:
        """The logit of id 0 in a row of the last batch; NaN where the last layer holds no numbers."""
        number: float = self._api.llama_get_logits_ith(self.pointer, row)[0]
        return number

    @property
    def state_bytes(self) -> int:
        """Size of a snapshot taken now."""
        size: int = self._api.llama_state_seq_get_size_ext(self.pointer, 0, 0)
        return size

    def snapshot(self) -> Snapshot:
        """A copy of the cells that the last id looks back to; llama.cpp saves no others."""
        size = self.state_bytes
        data = bytearray(size)
        buffer: Any = (ctypes.c_uint8 * size).from_buffer(data)
        written = self._api.llama_state_seq_get_data_ext(self.pointer, buffer, size, 0, 0)
        if written != size:
            raise EngineError(f"llama.cpp saved {written:,} of {size:,} bytes of its cache")
        oldest = max(self.oldest, len(self.ids) - self.window) if self.window else self.oldest
        return Snapshot(self.ids[:], oldest, data)

    def restore(self, snapshot: Snapshot) -> bool:
        """Hold what the snapshot held; the last id must be read again before there are logits.

        Returns:
            False where llama.cpp refuses it; the cache is then empty.
        """
        self.clear()
        size = len(snapshot.data)
        buffer: Any = (ctypes.c_uint8 * size).from_buffer(snapshot.data)
        if self._api.llama_state_seq_set_data_ext(self.pointer, buffer, size, 0, 0) == size:
            newest = self._api.llama_memory_seq_pos_max(self.memory, 0)
            if newest + 1 == len(snapshot.ids) and self.oldest <= max(snapshot.oldest, 0):
                self.ids = snapshot.ids[:]
                return True
        self.clear()
        return False

    def abort(self, flag: bool = True) -> None:
        """Stop the batch that is being read, from any thread, or let batches be read again; works on CPUs only."""
        self._abort[0] = b"x" if flag else b"\0"

    def close(self) -> None:
        """Free the context."""
        if self.pointer:
            self._api.llama_free(self.pointer)
            self.pointer = None
