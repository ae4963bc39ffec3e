"""Read the header of a GGUF file and refuse every file that breaks a rule of the format.

What the keys and tensors mean to a model is checked in `validate_model`.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chat.errors import ChatError, DataError, FileError, ModelError
from chat.gguf.cursor import INCOMPLETE, MAX_HEADER_BYTES, Cursor, Texts, shown
from chat.gguf.keys import ADAPTER_FILE, FULL_ARCHITECTURES, GeneralKey, MistralChatKey, ModelKey, TokenizerKey
from chat.gguf.types import BLOCK_TYPES, DEFAULT_ALIGNMENT, FILE_TYPES, MAGIC, align

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSIONS = (2, 3)
# llama.cpp maps the file, and its CPU buffers must start on such a boundary or it aborts (ggml-backend.cpp)
TENSOR_ALIGNMENT = 32
MAX_NAME_BYTES = 63  # of a tensor: GGML_MAX_NAME with its final zero
MAX_KEY_BYTES = 65_535
MAX_DIMENSIONS = 4
MAX_KEYS = 65_536
MAX_TENSORS = 65_536


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's type and place in the file."""

    name: str
    shape: tuple[int, ...]  # ggml order, ne0 (columns) first
    type: str  # Q4_K, F32, ...
    offset: int  # absolute in the file
    bytes: int  # without padding


@dataclass(frozen=True)
class GgufFile:
    """One GGUF file's header, checked."""

    path: Path
    version: int
    size: int
    alignment: int
    metadata: Mapping[str, Any]  # an array is a tuple, or `Texts` of strings
    tensors: Mapping[str, TensorInfo]  # in the order of the file
    data_offset: int
    types: Mapping[str, str] = field(default_factory=dict)  # of each key: u32, str, [f32], ...

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the model's graph; empty where the file does not say."""
        name = self.metadata.get(GeneralKey.ARCHITECTURE, "")
        return name if isinstance(name, str) else ""

    def key(self, name: str, default: Any = None) -> Any:
        """The value of `{architecture}.{name}`."""
        return self.metadata.get(f"{self.architecture}.{name}", default)

    @property
    def type_name(self) -> str:
        """The recipe as written after `-t`, such as Q4_K_M; else the type of most bytes."""
        number = self.metadata.get(GeneralKey.FILE_TYPE)
        if isinstance(number, int) and number in FILE_TYPES:
            return FILE_TYPES[number]
        held: dict[str, int] = {}
        for tensor in self.tensors.values():
            held[tensor.type] = held.get(tensor.type, 0) + tensor.bytes
        return max(held, key=lambda kind: held[kind]) if held else "unknown"

    @property
    def window(self) -> int | None:
        """The sliding window in tokens that llama.cpp applies; None where a token sees the whole context.

        llama.cpp never reads the key for Mistral's architectures but the one that applies a window.
        """
        window = self.key(ModelKey.SLIDING_WINDOW)
        if self.architecture in FULL_ARCHITECTURES or not isinstance(window, int) or window <= 0:
            return None
        pattern = self.key(ModelKey.SLIDING_WINDOW_PATTERN)
        return None if isinstance(pattern, tuple) and not any(pattern) else window

    @property
    def noted_windows(self) -> tuple[int | None, ...] | None:
        """The window in tokens that each layer was made with, as our converter notes it, whatever this file applies.

        A layer that sees the whole context has None. The value is None where the file has no such note, and valid only
        of a file that `check_model` accepts.
        """
        window = self.metadata.get(MistralChatKey.SLIDING_WINDOW)
        if window is None:
            return None
        pattern = self.metadata.get(MistralChatKey.SLIDING_WINDOW_PATTERN, (True,) * self.key(ModelKey.BLOCK_COUNT))
        return tuple((window or None) if is_windowed else None for is_windowed in pattern)

    @property
    def is_adapter(self) -> bool:
        """Whether the file says that it is a LoRA adapter, not a model."""
        return bool(self.metadata.get(GeneralKey.TYPE) == ADAPTER_FILE)

    @property
    def vocabulary_size(self) -> int:
        """The number of pieces of the tokenizer; 0 where the file has none."""
        pieces = self.metadata.get(TokenizerKey.TOKENS)
        if isinstance(pieces, Texts):
            return len(pieces)
        size = self.key(ModelKey.VOCABULARY_SIZE, 0)
        return size if isinstance(size, int) else 0

    def fault(self, problem: str, *, hint: str | None = None) -> DataError:
        """An error about this file."""
        return DataError(f"{self.path}: {problem}", hint=hint)

    def key_fault(self, name: str, problem: str) -> DataError:
        """An error about the key `{architecture}.{name}`; `problem` continues the sentence after its name."""
        return self.fault(f"key {shown(f'{self.architecture}.{name}')} {problem}")


def read_gguf(path: Path | str) -> GgufFile:
    """Read and check the header of a GGUF file, of a model or of an adapter.

    Raises:
        ModelError: there is no such file, or it is no GGUF at all.
        DataError: it breaks a rule of the format; the message names file, key or tensor, and rule.
        FileError: it cannot be read.
    """
    path = Path(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # before open(): a FIFO would hang there
            raise ModelError(f"{path}: {'is a folder' if path.is_dir() else 'is not a regular file'}, not a GGUF file")
        with path.open("rb", buffering=0) as file:
            return _read(Cursor(path, file, os.fstat(file.fileno()).st_size))
    except (FileNotFoundError, NotADirectoryError) as error:
        hint = "`mistral-chat models list` shows what is here"
        raise ModelError(f"{path}: there is no such file", hint=hint) from error
    except ValueError as error:  # a NUL in the path
        raise ModelError(f"{shown(str(path))}: is not a file name") from error
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error


def _read(cursor: Cursor) -> GgufFile:
    version, tensor_count, key_count = _header(cursor)
    metadata, types = _keys(cursor, key_count)
    alignment = _alignment(cursor, metadata, types)
    described = _descriptions(cursor, tensor_count)
    data_offset = align(cursor.position, alignment) if tensor_count else cursor.position
    return GgufFile(
        path=cursor.path,
        version=version,
        size=cursor.size,
        alignment=alignment,
        metadata=MappingProxyType(metadata),
        tensors=MappingProxyType(_places(cursor, described, data_offset, alignment)),
        data_offset=data_offset,
        types=MappingProxyType(types),
    )


def _header(cursor: Cursor) -> tuple[int, int, int]:
    """Version, number of tensors, number of keys."""
    start = cursor.peek(64)
    if start[:4] != MAGIC:
        raise _not_gguf(cursor, start)
    cursor.position = 4
    version = cursor.u32()
    if version and not version & 0xFFFF:
        cursor.fail("is a big-endian GGUF file, which llama.cpp cannot read here", hint="fetch the little-endian one")
    if version not in VERSIONS:
        cursor.fail(f"has GGUF version {version}, but only 2 and 3 are known", hint="convert the model again")
    tensor_count, key_count = cursor.u64(), cursor.u64()
    for what, number, limit, smallest in (
        ("tensors", tensor_count, MAX_TENSORS, 8 + 1 + 4 + 4 + 8),
        ("keys", key_count, MAX_KEYS, 8 + 1 + 4 + 1),
    ):
        if number > limit:
            cursor.fail(f"claims {number} {what}, but the limit is {limit}")
        if number * smallest > cursor.size - cursor.position:
            problem = f"claims {number} {what}, but only {cursor.size - cursor.position} bytes follow"
            cursor.fail(problem, hint=INCOMPLETE)
    return version, tensor_count, key_count


def _keys(cursor: Cursor, count: int) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of all keys, and the names of their types."""
    metadata: dict[str, Any] = {}
    types: dict[str, str] = {}
    for number in range(count):
        cursor.subject = f"key {number}"
        name = cursor.text(MAX_KEY_BYTES, f"the name of key {number}")
        if not name or "\0" in name:  # llama.cpp reads names as C strings: two could become one
            cursor.fail(f"key {number} has the name {shown(name)}, which is empty or holds a NUL")
        if name in metadata:
            cursor.fail(f"key {shown(name)} appears twice")
        cursor.subject = f"key {shown(name)}"
        metadata[name], types[name] = cursor.value()
    return metadata, types


def _alignment(cursor: Cursor, metadata: Mapping[str, Any], types: Mapping[str, str]) -> int:
    alignment = metadata.get(GeneralKey.ALIGNMENT, DEFAULT_ALIGNMENT)
    kind = types.get(GeneralKey.ALIGNMENT, "u32")
    if kind != "u32":
        cursor.fail(f"key '{GeneralKey.ALIGNMENT}' is {kind}, but must be u32")
    if alignment == 0 or alignment & (alignment - 1):
        cursor.fail(f"key '{GeneralKey.ALIGNMENT}' is {alignment}, but must be a power of two")
    return int(alignment)


def _descriptions(cursor: Cursor, count: int) -> dict[str, tuple[tuple[int, ...], int, int]]:
    """Each tensor's shape, type number and offset in the data, as the file claims them."""
    described: dict[str, tuple[tuple[int, ...], int, int]] = {}
    for number in range(count):
        cursor.subject = f"tensor {number}"
        name = cursor.text(MAX_HEADER_BYTES, f"the name of tensor {number}")
        length = len(name.encode())
        if length > MAX_NAME_BYTES:
            cursor.fail(f"tensor {shown(name)} has a name of {length} bytes, but the limit is {MAX_NAME_BYTES}")
        if not name or "\0" in name:
            cursor.fail(f"tensor {number} has the name {shown(name)}, which is empty or holds a NUL")
        if name in described:
            cursor.fail(f"tensor {shown(name)} appears twice")
        cursor.subject = f"tensor {shown(name)}"
        dimensions = cursor.u32()
        if dimensions > MAX_DIMENSIONS:
            cursor.fail(f"{cursor.subject} has {dimensions} dimensions, but the limit is {MAX_DIMENSIONS}")
        shape = tuple([cursor.u64() for _ in range(dimensions)])
        described[name] = (shape, cursor.u32(), cursor.u64())
    return described


def _places(
    cursor: Cursor, described: Mapping[str, tuple[tuple[int, ...], int, int]], data_offset: int, alignment: int
) -> dict[str, TensorInfo]:
    """The tensors, which must follow each other without overlap or gap and end inside the file."""
    tensors: dict[str, TensorInfo] = {}
    expected = 0
    for name, (shape, kind, offset) in described.items():
        subject = f"tensor {shown(name)}"
        size = _tensor_bytes(cursor, subject, shape, kind)
        start = data_offset + offset
        if offset != expected:
            cursor.fail(f"{subject} is at offset {offset} of the data, but the one before it ends at {expected}")
        if start + size > cursor.size:
            cursor.fail(f"{subject} ends at byte {start + size}, but the file ends at {cursor.size}", hint=INCOMPLETE)
        if start % TENSOR_ALIGNMENT:
            cursor.fail(f"{subject} starts at byte {start}, which is not a multiple of {TENSOR_ALIGNMENT}")
        tensors[name] = TensorInfo(name, shape, BLOCK_TYPES[kind].name, start, size)
        expected = align(offset + size, alignment)
    return tensors


def _tensor_bytes(cursor: Cursor, subject: str, shape: tuple[int, ...], kind: int) -> int:
    if kind not in BLOCK_TYPES:
        cursor.fail(f"{subject} has type {kind}, which llama.cpp does not know or no longer knows")
    if 0 in shape:
        cursor.fail(f"{subject} has shape {list(shape)}: a dimension is 0")
    block = BLOCK_TYPES[kind]
    columns = shape[0] if shape else 1
    if columns % block.block_size:
        cursor.fail(f"{subject} has {columns} columns, but {block.name} needs a multiple of {block.block_size}")
    return prod(shape) // block.block_size * block.block_bytes


def _not_gguf(cursor: Cursor, start: bytes) -> ChatError:
    """An error that says what a file without the magic bytes is."""
    text = start.lstrip().lower()
    hint: str | None = None
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        looks, hint = "a web page", "the address may need a login, or does not exist"
    elif text.startswith(b"version https://git-lfs"):
        looks, hint = "a Git LFS pointer", "fetch the file itself: `git lfs pull`"
    elif start[:2] == b"PK" or start[8:9] == b"{":
        looks, hint = "a checkpoint", "convert it first: `mistral-chat convert`"
    else:
        looks = f"something that starts with {start[:4]!r}" if start else "an empty file"
    return ModelError(f"{cursor.path}: is not a GGUF file but {looks}", hint=hint)
