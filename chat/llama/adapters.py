"""Load LoRA adapters beside a model. Knows adapter files and their base, not how answers are made."""

from __future__ import annotations

import ctypes
import shutil
import struct
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.errors import ChatError, ModelError
from chat.gguf.reader import GgufFile, read_gguf
from chat.gguf.validate_lora import check_adapter, check_adapter_fits
from chat.llama.library import LOG, llama

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chat.llama.model import Model

STRING = 8  # GGUF's type of a text
KEY_COUNT_AT = 16  # after magic, version and the number of tensors
FILLER = "mistral_chat.filler"
FLOATS = {"F32": "<f4", "F16": "<f2"}


class Adapters:
    """Adapters with their scales, loaded for one model and freed with it."""

    def __init__(self, model: Model, base: GgufFile, files: Sequence[tuple[str, float]]) -> None:
        """Load them.

        Raises:
            ModelError: an adapter is missing, damaged, or belongs to another model.
        """
        pointers = [_load(model, _checked(path, base), base.architecture) for path, _ in files]
        self._pointers: Any = (llama().llama_adapter_lora_p_ctypes * len(pointers))(*pointers)
        self._scales: Any = (ctypes.c_float * len(pointers))(*(scale for _, scale in files))

    def attach(self, context: Any) -> None:
        """Put them into force for a context of the model.

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
        if adapter.metadata.get("general.type") != "adapter":
            raise ModelError(f"{path}: is a model, not an adapter", hint="`-m` takes models, `--lora` adapters")
        check_adapter(adapter)
        check_adapter_fits(adapter, base)
        _check_numbers(adapter)
    except ModelError:
        raise
    except ChatError as error:  # whatever is wrong with an adapter, the model cannot be used with it
        raise ModelError(error.message, hint=error.hint) from error
    return adapter


def _check_numbers(adapter: GgufFile) -> None:
    """Refuse numbers that would make every answer NaN; blocks of quantized adapters are not looked into."""
    import numpy as np

    for name, tensor in adapter.tensors.items():
        if tensor.type in FLOATS:
            numbers = np.memmap(adapter.path, FLOATS[tensor.type], "r", tensor.offset, tensor.shape[::-1])
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
    """The adapter's file, or a copy under the model's architecture name.

    llama.cpp refuses an adapter of another name (llama-adapter.cpp), though a carrier has the same tensors as `llama`.
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
    """The header with another architecture, longer by whole alignments, so that the tensors' places stay right.

    A key that nobody reads fills it up.
    """
    old, new = _entry("general.architecture", adapter.architecture), _entry("general.architecture", architecture)
    filled = len(new) - len(old) + len(_entry(FILLER, ""))
    new += _entry(FILLER, " " * (-filled % adapter.alignment))
    count = struct.unpack_from("<Q", header, KEY_COUNT_AT)[0]
    header = header[:KEY_COUNT_AT] + struct.pack("<Q", count + 1) + header[KEY_COUNT_AT + 8 :]
    return header.replace(old, new, 1)


def _entry(key: str, value: str) -> bytes:
    """A key with a text, as GGUF writes it."""
    name, text = key.encode(), value.encode()
    return struct.pack("<Q", len(name)) + name + struct.pack("<IQ", STRING, len(text)) + text
