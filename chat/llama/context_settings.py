"""The shape of a llama.cpp context, and llama.cpp's numbers for what it can be told."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chat import platform
from chat.errors import UsageError
from chat.llama.library import llama

if TYPE_CHECKING:
    from chat.core.request import KvType, Switch

GGML_TYPES: dict[KvType, int] = {"f32": 0, "f16": 1, "q4_0": 2, "q8_0": 8}  # ggml.h, ggml_type
FLASH_ATTENTION: dict[Switch, int] = {"auto": -1, "off": 0, "on": 1}  # llama.h, llama_flash_attn_type


@dataclass(frozen=True)
class ContextSettings:
    """The shape of a context.

    Attributes:
        cells: what the cache of each sequence holds.
        batch: most tokens in one batch.
        outputs: most rows of logits of one batch.
        rolling: free the oldest cells when a sequence grows past `cells`.
        offload_cache: keep the cache of layers on a GPU there too.
        sequences: how many independent sequences the context holds.
        eval_callback: llama.cpp calls it between the nodes of a graph (`cb_eval`).
    """

    cells: int
    batch: int = 256
    outputs: int = 8
    rolling: bool = False
    kv_type: KvType = "f16"
    flash_attention: Switch = "auto"
    threads: int = 1
    offload_cache: bool = True
    sequences: int = 1
    eval_callback: Any = None

    @property
    def has_quantized_cache(self) -> bool:
        """Whether numbers of the cache share scales, which only flash attention can read."""
        return self.kv_type.startswith("q")

    @property
    def needed_flash_attention(self) -> Switch:
        """The flash attention that is asked of llama.cpp."""
        return "on" if self.has_quantized_cache else self.flash_attention


def llama_parameters(settings: ContextSettings, abort_flag: Any) -> Any:
    """The settings as llama.cpp takes them.

    Args:
        settings: of the context.
        abort_flag: a C string, which stops a batch while it is not empty.

    Raises:
        UsageError: a quantized cache without flash attention.
    """
    api = llama()
    if settings.has_quantized_cache and settings.flash_attention == "off":
        raise UsageError(f"a {settings.kv_type} cache needs flash attention", hint="leave out `--flash-attention`")
    params = api.llama_context_default_params()
    params.n_ctx = settings.cells * settings.sequences
    params.n_seq_max = settings.sequences
    params.n_batch = params.n_ubatch = settings.batch
    params.n_outputs_max = min(settings.outputs, settings.batch)
    params.n_threads = params.n_threads_batch = settings.threads
    params.flash_attn_type = FLASH_ATTENTION[settings.needed_flash_attention]
    params.type_k = params.type_v = GGML_TYPES[settings.kv_type]
    params.swa_full = False
    params.offload_kqv = settings.offload_cache
    params.no_perf = True
    params.cb_eval = settings.eval_callback or params.cb_eval
    # Called between the nodes of a graph, a thousand times a token: `strlen` of our flag answers without Python.
    params.abort_callback = ctypes.cast(platform.c_library().strlen, api.ggml_abort_callback)
    params.abort_callback_data = ctypes.cast(abort_flag, ctypes.c_void_p)
    return params
