"""A loop of plain llama.cpp C API calls in its own context, the baseline of the benchmark."""

from __future__ import annotations

import ctypes
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from chat.errors import EngineError, MemoryLimitError
from chat.llama.context_settings import FLASH_ATTENTION, GGML_TYPES
from chat.llama.library import llama

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.core.request import Sampling, Switch
    from chat.llama.context_settings import ContextSettings
    from chat.llama.model import Model


class BaselineLoop:
    """A second context on the same weights, of the same shape, without our flags and callbacks."""

    def __init__(self, model: Model, settings: ContextSettings) -> None:
        """Make the context.

        Raises:
            MemoryLimitError: there is no memory for a second cache.
        """
        api = llama()
        params = api.llama_context_default_params()
        params.n_ctx = settings.cells
        params.n_batch = params.n_ubatch = settings.batch
        params.n_outputs_max = min(settings.outputs, settings.batch)
        params.n_threads = params.n_threads_batch = settings.threads
        flash: Switch = "on" if settings.kv_type.startswith("q") else settings.flash_attention
        params.flash_attn_type = FLASH_ATTENTION[flash]
        params.type_k = params.type_v = GGML_TYPES[settings.kv_type]
        params.swa_full = False
        params.no_perf = True
        self._pointer: Any = api.llama_init_from_model(model.pointer, params)
        if not self._pointer:
            raise MemoryLimitError("no memory for the second cache of the bare loop", hint="use smaller `--contexts`")
        self._memory: Any = api.llama_get_memory(self._pointer)
        self._cells: int = api.llama_n_ctx(self._pointer)
        self._rolling = settings.rolling
        self._tokens: Any = (ctypes.c_int32 * settings.batch)()
        self._position = 0

    def read(self, ids: Sequence[int], bounds: Sequence[int]) -> float:
        """Seconds for reading a prompt in chunks that end at `bounds`, from an empty cache."""
        llama().llama_memory_clear(self._memory, False)
        self._position = 0
        begun = time.perf_counter()
        for start, stop in pairwise(bounds):
            self._tokens[: stop - start] = ids[start:stop]
            self._decode(stop - start)
        llama().llama_synchronize(self._pointer)
        return time.perf_counter() - begun

    def decode(self, chain: Any, count: int) -> list[float]:
        """Seconds from each token to the next, `count` of them."""
        api = llama()
        self._tokens[0] = api.llama_sampler_sample(chain, self._pointer, -1)
        taken = []
        for _ in range(count):
            begun = time.perf_counter()
            self._decode(1)
            self._tokens[0] = api.llama_sampler_sample(chain, self._pointer, -1)
            taken.append(time.perf_counter() - begun)
        return taken

    def _decode(self, count: int) -> None:
        api = llama()
        if self._rolling and self._position + count > self._cells:
            api.llama_memory_seq_rm(self._memory, 0, 0, self._position + count - self._cells)
        if api.llama_decode(self._pointer, api.llama_batch_get_one(self._tokens, count)):
            raise EngineError(f"llama.cpp failed at position {self._position:,} of the bare loop")
        self._position += count

    def close(self) -> None:
        """Free the context."""
        llama().llama_free(self._pointer)


def baseline_sampler(sampling: Sampling) -> Any:
    """The sampler chain that our own loop has; the caller frees it."""
    api = llama()
    chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
    for part in (
        api.llama_sampler_init_top_k(sampling.top_k),
        api.llama_sampler_init_top_p(sampling.top_p, 1),
        api.llama_sampler_init_min_p(sampling.min_p, 1),
        api.llama_sampler_init_temp(sampling.temperature),
        api.llama_sampler_init_dist(sampling.seed or 0),
    ):
        api.llama_sampler_chain_add(chain, part)
    return chain
