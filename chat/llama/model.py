"""Load a GGUF through llama.cpp and hold it. Knows files and weights, not conversations."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chat.errors import MemoryLimitError, ModelError
from chat.llama.library import LOG, llama

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.llama.adapters import Adapters

NO_MEMORY = ("unable to allocate", "failed to allocate", "out of memory", "Cannot allocate memory")


@dataclass(frozen=True)
class LoadSettings:
    """How the weights are loaded; `overrides` replace whole numbers in the metadata.

    `gpu_layers` counts the output; `gpu_split` says in which proportions several GPUs share them, by default as memory
    is free.
    """

    gpu_layers: int = 0
    gpu_split: tuple[int, ...] = ()
    repack: bool = False
    mlock: bool = False
    vocab_only: bool = False
    overrides: tuple[tuple[str, int], ...] = ()


class Model:
    """A loaded model. `pointer` and `vocab` are llama.cpp's, valid until `close`."""

    def __init__(self, path: str, settings: LoadSettings, on_progress: Callable[[float], bool] | None = None) -> None:
        """Load the file.

        Args:
            path: a GGUF that the strict reader has accepted.
            settings: how.
            on_progress: told the loaded fraction; returning False gives up.

        Raises:
            ModelError: llama.cpp refuses it, with its reason.
            MemoryLimitError: no memory for its weights.
        """
        api = llama()
        params = api.llama_model_default_params()
        params.n_gpu_layers = settings.gpu_layers
        if settings.gpu_layers == 0:  # else long prompts are read on a GPU all the same, with other bits
            no_devices = (ctypes.c_void_p * 1)()
            params.devices = ctypes.cast(no_devices, ctypes.c_void_p)
        elif len(settings.gpu_split) > 1:
            split = (ctypes.c_float * max(api.llama_max_devices(), len(settings.gpu_split)))(*settings.gpu_split)
            params.tensor_split = split
        params.use_extra_bufts = settings.repack
        params.vocab_only = settings.vocab_only
        if settings.mlock:
            params.load_mode = api.LLAMA_LOAD_MODE_MMAP_MLOCK
        if settings.overrides:
            params.kv_overrides = _overrides(api, settings.overrides)
        if on_progress is not None:
            params.progress_callback = api.llama_progress_callback(lambda done, _: on_progress(done))
        LOG.lines.clear()
        self.path = path
        self.pointer: Any = api.llama_model_load_from_file(path.encode(), params)
        if not self.pointer:
            raise _refused(path)
        self.vocab: Any = api.llama_model_get_vocab(self.pointer)
        self.vocabulary_size: int = api.llama_vocab_n_tokens(self.vocab)
        self.trained_context: int = api.llama_model_n_ctx_train(self.pointer)
        self.adapters: Adapters | None = None  # in force in every context made from now on

    @property
    def window(self) -> int | None:
        """The sliding window that llama.cpp applies on at least one layer; None where there is none."""
        return llama().llama_model_n_swa(self.pointer) or None

    @property
    def can_rewind(self) -> bool:
        """Whether ids can be taken back one by one: not where a recurrence has swallowed them."""
        api = llama()
        return not (api.llama_model_is_recurrent(self.pointer) or api.llama_model_is_hybrid(self.pointer))

    def close(self) -> None:
        """Free the weights; contexts made of the model must be closed before."""
        if self.pointer:
            llama().llama_model_free(self.pointer)
            self.pointer = None


def _overrides(api: Any, overrides: tuple[tuple[str, int], ...]) -> Any:
    entries = (api.llama_model_kv_override * (len(overrides) + 1))()  # an empty key ends the list
    for entry, (key, number) in zip(entries, overrides, strict=False):
        entry.tag = api.LLAMA_KV_OVERRIDE_TYPE_INT
        entry.key = key.encode()
        entry.value.val_i64 = number
    return entries


def _refused(path: str) -> ModelError | MemoryLimitError:
    reason = LOG.last_error() or "it gives no reason"
    if LOG.mentions(*NO_MEMORY):
        return MemoryLimitError(f"{path} does not fit in memory: {reason}", hint="use a smaller quantization")
    return ModelError(
        f"{path} cannot be loaded: {reason}", hint="`mistral-chat -v --log-file FILE` keeps llama.cpp's log"
    )
