"""Load a model's GGUF through llama.cpp, and LoRA adapters for it."""

from __future__ import annotations

import ctypes
import shutil
import struct
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from chat.errors import ChatError, MemoryLimitError, ModelError
from chat.gguf.keys import GeneralKey, MistralChatKey
from chat.gguf.reader import GgufFile, read_gguf
from chat.gguf.validate_lora import check_adapter, check_adapter_fits
from chat.gguf.writer import KeyValue, encode_key
from chat.llama.library import LOG, llama

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from chat.core.events import Notice, PictureProgress

NO_MEMORY = (
    "unable to allocate",
    "failed to allocate",
    "out of memory",
    "Cannot allocate memory",
)
KEY_COUNT_OFFSET = 16  # bytes: after magic, version and the number of tensors
FLOAT_DTYPES = {"F32": "<f4", "F16": "<f2"}


@dataclass(frozen=True)
class LoadSettings:
    """How the weights are loaded.

    Attributes:
        gpu_layers: layers on GPUs, the output counted as one.
        gpu_split: in which proportions several GPUs share them; by default by their free memory.
        repack: keep another order of rows beside the weights, which a CPU multiplies faster.
        mlock: keep the weights in memory.
        vocab_only: load no weights.
        overrides: metadata keys and the whole numbers that replace theirs.
    """

    gpu_layers: int = 0
    gpu_split: tuple[int, ...] = ()
    repack: bool = False
    mlock: bool = False
    vocab_only: bool = False
    overrides: tuple[tuple[str, int], ...] = ()


class PictureRows(Protocol):
    """What a context reads in the places of pictures."""

    def encode(self, ids: Sequence[int]) -> Iterator[PictureProgress | Notice]:
        """Compute the rows of the pictures among some ids of a prompt, and tell how far that is; else `rows` does it.

        Raises:
            ChatError: a picture cannot be read.
        """

    def rows(self, places: Sequence[int]) -> NDArray[np.float32] | None:
        """The rows of neighbouring places of pictures.

        Args:
            places: negative ids.

        Returns:
            (places, width) float32, contiguous; None where `abort` stopped it.

        Raises:
            ChatError: a picture cannot be read.
        """

    def abort(self, flag: bool) -> None:
        """Stop computing rows, from any thread; False allows it again."""

    def close(self) -> None:
        """Free what it holds."""


class Model:
    """A loaded model.

    Attributes:
        path: its file.
        pointer: llama.cpp's model, valid until `close`.
        vocab: llama.cpp's vocabulary of it, valid as long.
        vocabulary_size: the number of pieces.
        trained_context: the context length in tokens that the file states.
        adapters: LoRA adapters that every context made from now on uses.
        pictures: what gives contexts the rows of pictures; None for a model that reads only text.
    """

    def __init__(self, path: str, settings: LoadSettings, on_progress: Callable[[float], bool] | None = None) -> None:
        """Load the file.

        Args:
            path: a GGUF that the strict reader has accepted.
            settings: how to load it.
            on_progress: called with the loaded fraction, 0 to 1; returning False cancels.

        Raises:
            ModelError: llama.cpp refuses it, with its reason.
            MemoryLimitError: no memory for its weights.
        """
        api = llama()
        params = api.llama_model_default_params()
        params.n_gpu_layers = settings.gpu_layers
        if settings.gpu_layers == 0:  # else long prompts would be read on a GPU, with other bits
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
            raise _load_error(path)
        self.vocab: Any = api.llama_model_get_vocab(self.pointer)
        self.vocabulary_size: int = api.llama_vocab_n_tokens(self.vocab)
        self.trained_context: int = api.llama_model_n_ctx_train(self.pointer)
        self.adapters: Adapters | None = None
        self.pictures: PictureRows | None = None

    @property
    def window(self) -> int | None:
        """The sliding window in tokens that llama.cpp applies to at least one layer; None where there is none."""
        return llama().llama_model_n_swa(self.pointer) or None

    @property
    def can_rewind(self) -> bool:
        """Whether ids can be removed from a context one by one: not in recurrent models, whose state mixes them."""
        api = llama()
        return not (api.llama_model_is_recurrent(self.pointer) or api.llama_model_is_hybrid(self.pointer))

    def close(self) -> None:
        """Free the weights. The contexts of the model have to be closed before."""
        if self.pictures is not None:
            self.pictures.close()
        if self.pointer:
            llama().llama_model_free(self.pointer)
            self.pointer = None


def _overrides(api: Any, overrides: tuple[tuple[str, int], ...]) -> Any:
    entries = (api.llama_model_kv_override * (len(overrides) + 1))()  # llama.cpp ends the list at an empty key
    for entry, (key, number) in zip(entries, overrides, strict=False):
        entry.tag = api.LLAMA_KV_OVERRIDE_TYPE_INT
        entry.key = key.encode()
        entry.value.val_i64 = number
    return entries


def _load_error(path: str) -> ModelError | MemoryLimitError:
    if reason := LOG.first_with(*NO_MEMORY):  # the last line is just "failed to load model"
        return MemoryLimitError(f"{path} does not fit in memory: {reason}", hint="use a smaller quantization")
    reason = LOG.last_error() or "it gives no reason"
    return ModelError(
        f"{path} cannot be loaded: {reason}", hint="`mistral-chat -v --log-file FILE` keeps llama.cpp's log"
    )


# --- LoRA adapters


class Adapters:
    """Adapters with their scales, loaded for one model and freed with it."""

    def __init__(self, model: Model, base: GgufFile, files: Sequence[tuple[str, float]]) -> None:
        """Load adapters.

        Args:
            model: loaded from `base`.
            base: the model's checked file.
            files: paths and scales.

        Raises:
            ModelError: an adapter is missing, damaged, or made for another model.
        """
        pointers = [_load(model, _checked(path, base), base.architecture) for path, _ in files]
        self._pointers: Any = (llama().llama_adapter_lora_p_ctypes * len(pointers))(*pointers)
        self._scales: Any = (ctypes.c_float * len(pointers))(*(scale for _, scale in files))

    def attach(self, context: Any) -> None:
        """Let a context of the model use them.

        Args:
            context: llama.cpp's pointer.

        Raises:
            ModelError: llama.cpp refuses them.
        """
        if len(self._pointers) and llama().llama_set_adapters_lora(
            context, self._pointers, len(self._pointers), self._scales
        ):
            raise ModelError(f"the adapters cannot be used: {LOG.last_error() or 'no reason given'}")


def _checked(path: str, base: GgufFile) -> GgufFile:
    try:
        adapter = read_gguf(path)
        if not adapter.is_adapter:
            raise ModelError(f"{path}: is a model, not an adapter", hint="`-m` takes models, `--lora` adapters")
        check_adapter(adapter)
        check_adapter_fits(adapter, base)
        _check_numbers(adapter)
    except ModelError:
        raise
    except ChatError as error:  # with any fault of an adapter the model cannot be used as requested
        raise ModelError(error.message, hint=error.hint) from error
    return adapter


def _check_numbers(adapter: GgufFile) -> None:
    """Refuse NaN and infinite numbers, which would make every answer NaN; quantized tensors are not checked."""
    import numpy as np

    for name, tensor in adapter.tensors.items():
        if tensor.type in FLOAT_DTYPES:
            # (rows, columns), or more dimensions: GGUF lists the innermost first
            numbers = np.memmap(adapter.path, FLOAT_DTYPES[tensor.type], "r", tensor.offset, tensor.shape[::-1])
            if not np.isfinite(numbers).all():
                raise ModelError(f"{adapter.path}: tensor '{name}' holds NaN or infinite numbers")


def _load(model: Model, adapter: GgufFile, architecture: str) -> Any:
    with _tagged(adapter, architecture) as path:
        LOG.lines.clear()
        pointer = llama().llama_adapter_lora_init(model.pointer, str(path).encode())
    if not pointer:
        raise ModelError(f"{adapter.path}: llama.cpp refuses the adapter: {LOG.last_error() or 'no reason given'}")
    return pointer


@contextmanager
def _tagged(adapter: GgufFile, architecture: str) -> Iterator[Path]:
    """The path of the adapter's file, or of a temporary copy that names the model's architecture.

    llama.cpp refuses an adapter of another architecture (llama-adapter.cpp), though `granite_swa` has the same tensors
    as `llama`.
    """
    if adapter.architecture == architecture:
        yield adapter.path
        return
    with tempfile.TemporaryDirectory(prefix="mistral-chat-") as folder:
        path = Path(folder) / "adapter.gguf"
        with adapter.path.open("rb") as source, path.open("wb") as target:
            target.write(_retagged(source.read(adapter.data_offset), adapter, architecture))
            shutil.copyfileobj(source, target, 1 << 20)
        yield path


def _retagged(header: bytes, adapter: GgufFile, architecture: str) -> bytes:
    """The header with another architecture, longer by whole alignments, so that the tensors' offsets stay valid.

    A key that no program reads fills it up.
    """
    old, new = (_entry(GeneralKey.ARCHITECTURE, name) for name in (adapter.architecture, architecture))
    filled = len(new) - len(old) + len(_entry(MistralChatKey.FILLER, ""))
    new += _entry(MistralChatKey.FILLER, " " * (-filled % adapter.alignment))
    count = struct.unpack_from("<Q", header, KEY_COUNT_OFFSET)[0]
    header = header[:KEY_COUNT_OFFSET] + struct.pack("<Q", count + 1) + header[KEY_COUNT_OFFSET + 8 :]
    return header.replace(old, new, 1)


def _entry(key: str, value: str) -> bytes:
    """The bytes of a key with a text in a GGUF."""
    return encode_key(KeyValue(key, "str", value))
