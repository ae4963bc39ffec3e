"""Read an importance matrix, in either of llama-imatrix's formats: the mean squared input of each tensor's columns.

Source: llama.cpp's common/imatrix-loader.cpp and `load_imatrix` in tools/quantize/quantize.cpp. The quantized bytes
depend on their float32 divisions, so these are the same here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from chat.errors import DataError, FileError, ModelError
from chat.gguf.keys import ImatrixKey
from chat.gguf.reader import read_gguf
from chat.gguf.types import MAGIC
from chat.gguf.writer import KeyValue

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from convert.checkpoint.rows import Floats
    from convert.quantize.recipes import PlannedTensor

SUMS, COUNTS = ".in_sum2", ".counts"
METADATA = (ImatrixKey.DATASETS, ImatrixKey.CHUNK_COUNT, ImatrixKey.CHUNK_SIZE)
MAX_FILE_BYTES = 1 << 30  # the matrix of the largest Mixtral has 30 MB
MAX_ENTRIES = 65_536
MAX_NAME_BYTES = 1024
NOTE_BYTES = 127  # llama-quantize truncates the texts of its keys to so many


@dataclass(frozen=True)
class Importance:
    """What llama-imatrix measured.

    `values` has for each tensor (experts * columns,) float32: the mean squared input of each column, expert by expert.
    """

    path: Path
    values: Mapping[str, Floats]
    dataset: str | None = None
    chunks: int = 0  # of text that were evaluated; 0 where the file does not say

    def of_tensor(self, tensor: PlannedTensor) -> Floats | None:
        """The tensor's values as (experts, columns) float32, or None where it has none or needs none.

        Raises:
            DataError: it was measured on a tensor of another shape.
        """
        found = self.values.get(tensor.name)
        if found is None or not tensor.type.is_quantized:
            return None
        experts = tensor.row_count // tensor.rows_per_matrix
        if found.size == experts * tensor.columns:
            return found.reshape(experts, tensor.columns)
        if tensor.name == "token_embd.weight":  # llama-quantize's exception: the embedding is looked up, not multiplied
            return None
        raise DataError(
            f"{self.path}: has {found.size} numbers for `{tensor.name}`, which needs {experts * tensor.columns}",
            hint="the importance matrix must have been made with this very model",
        )

    def keys(self) -> tuple[KeyValue, ...]:
        """The keys that llama-quantize writes about the matrix."""
        keys = [KeyValue(ImatrixKey.NOTE_FILE, "str", _shortened(str(self.path)))]
        if self.dataset is not None:
            keys.append(KeyValue(ImatrixKey.NOTE_DATASET, "str", _shortened(self.dataset)))
        keys.append(KeyValue(ImatrixKey.NOTE_ENTRIES_COUNT, "u32", len(self.values)))
        if self.chunks > 0:
            keys.append(KeyValue(ImatrixKey.NOTE_CHUNKS_COUNT, "u32", self.chunks))
        return tuple(keys)


def _shortened(text: str) -> str:
    return text.encode(errors="replace")[:NOTE_BYTES].decode(errors="ignore")


def read_imatrix(path: Path) -> Importance:
    """Read the output of `llama-imatrix`, a GGUF or the older format.

    Raises:
        ModelError: there is no such file, or it holds no importance matrix.
        DataError: it is damaged, or a number in it is negative or not finite.
        FileError: it cannot be read.
    """
    if not path.is_file():
        raise ModelError(f"{path}: {'is not a file' if path.exists() else 'no such file'}")
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DataError(f"{path}: is too large for an importance matrix")
        raw = path.read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    importance = _read_gguf(path, raw) if raw[:4] == MAGIC else _Legacy(path, raw).read()
    for name, values in importance.values.items():
        if not np.isfinite(values).all() or (values < 0).any():
            raise DataError(f"{path}: `{name}` holds a number that is negative or not finite")
    return importance


def _read_gguf(path: Path, raw: bytes) -> Importance:
    file = read_gguf(path)
    lacking = [key for key in METADATA if key not in file.metadata]
    if lacking:
        raise ModelError(f"{path}: is a GGUF but no importance matrix: the key '{lacking[0]}' is missing")
    kinds = [file.types[key] for key in METADATA]
    if kinds != ["[str]", "u32", "u32"]:
        raise DataError(f"{path}: the keys {', '.join(METADATA)} are {', '.join(kinds)}, but must be [str], u32, u32")
    for info in file.tensors.values():
        if info.type != "F32":
            raise DataError(f"{path}: `{info.name}` is {info.type}, but must be F32")
    numbers = {
        name: np.frombuffer(raw, dtype="<f4", count=info.bytes // 4, offset=info.offset)
        for name, info in file.tensors.items()
    }
    values = {}
    for name in sorted({name.removesuffix(SUMS).removesuffix(COUNTS) for name in numbers}):
        if name + SUMS not in numbers or name + COUNTS not in numbers:
            raise DataError(f"{path}: `{name}` has only one of `{SUMS}` and `{COUNTS}`")
        values[name] = _means(path, name, numbers[name + SUMS], numbers[name + COUNTS])
    if not values:
        raise ModelError(f"{path}: holds no tensor's importance")
    datasets = file.metadata[ImatrixKey.DATASETS]
    return Importance(path, values, datasets[0] if datasets else None, file.metadata[ImatrixKey.CHUNK_COUNT])


def _means(path: Path, name: str, sums: Floats, counts: Floats) -> Floats:
    """Means per column: sums divided by the count of their expert, 1 for an expert that was never used.

    Args:
        sums: (experts * columns,) float32, the sums of squared inputs.
        counts: (experts,) float32.

    Returns:
        (experts * columns,) float32.
    """
    if sums.size % counts.size or not np.isfinite(counts).all():
        raise DataError(f"{path}: `{name}` has {sums.size} sums for {counts.size} counts")
    rounded = np.rint(counts)[:, None]  # (experts, 1)
    by_expert = sums.reshape(counts.size, -1)  # (experts, columns)
    means: Floats = np.divide(by_expert, rounded, out=np.ones_like(by_expert), where=rounded > 0)
    return means.reshape(-1)


class _Legacy:
    """Reads the older format: entries of name, number of calls and sums; then the chunks and the dataset."""

    def __init__(self, path: Path, raw: bytes) -> None:
        self.path = path
        self.raw = raw
        self.position = 0

    def take(self, count: int, limit: int) -> bytes:
        """The next `count` bytes, of which no more than `limit` are allowed.

        Raises:
            DataError: the file ends before, or the count is over the limit.
        """
        if not 0 <= count <= min(limit, len(self.raw) - self.position):
            raise DataError(f"{self.path}: is not an importance matrix, or damaged at byte {self.position}")
        self.position += count
        return self.raw[self.position - count : self.position]

    def number(self) -> int:
        """The next int32."""
        return int(struct.unpack("<i", self.take(4, 4))[0])

    def text(self) -> str:
        """The next string, up to its first NUL, as llama.cpp reads it."""
        return self.take(self.number(), MAX_NAME_BYTES).partition(b"\0")[0].decode(errors="replace")

    def read(self) -> Importance:
        """The whole file; its end, the number of chunks and the dataset, may be missing.

        Raises:
            DataError: it is damaged, or no importance matrix.
        """
        count = self.number()
        if not 1 <= count <= MAX_ENTRIES:
            raise DataError(f"{self.path}: is not an importance matrix: it claims {count} entries")
        values = dict(self.entry() for _ in range(count))
        chunks = self.number() if self.position < len(self.raw) else 0
        dataset = self.text() if self.position < len(self.raw) else ""
        return Importance(self.path, values, dataset or None, chunks)

    def entry(self) -> tuple[str, Floats]:
        """A tensor's name and means, (experts * columns,) float32: its sums lack only the division by the calls.

        Raises:
            DataError: the tensor has no numbers, or the file ends inside it.
        """
        name, calls, size = self.text(), self.number(), self.number()
        if size < 1:
            raise DataError(f"{self.path}: `{name}` has {size} numbers")
        sums = np.frombuffer(self.take(4 * size, MAX_FILE_BYTES), dtype="<f4")
        means: Floats = np.divide(sums, np.float32(calls)) if calls > 0 else sums
        return name, means
