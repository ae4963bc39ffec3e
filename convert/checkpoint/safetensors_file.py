"""Open a safetensors file: check its header, map its tensors.

The format: 8 bytes of header length (u64, little-endian), a JSON object, then the tensors without holes.
"""

from __future__ import annotations

from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chat.errors import DataError
from convert.checkpoint.json_file import parse_json_object
from convert.checkpoint.mapped_file import ITEM_BYTES, MappedFile, TensorEntry, TensorFile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

HEADER_LIMIT_BYTES = 100_000_000  # the reference implementation's own limit
TENSOR_LIMIT = 100_000  # Mixtral 8x22B has 1,739; a million would only cost time
_LENGTH_BYTES = 8
_FIELDS = {"dtype", "shape", "data_offsets"}


def open_safetensors(path: Path) -> TensorFile:
    """Map a safetensors file.

    Raises:
        FileError: it cannot be opened.
        DataError: it breaks a rule of the format; the message names file, tensor and rule.
    """
    file = MappedFile(path)
    header, data_start = _read_header(file)
    metadata = _check_metadata(path, header.pop("__metadata__", {}))
    entries = [_check_entry(file, data_start, name, fields) for name, fields in header.items()]
    _check_coverage(path, entries, data_start, file.size)
    return TensorFile(file, MappingProxyType({entry.name: entry for entry in entries}), metadata)


def _read_header(file: MappedFile) -> tuple[dict[str, Any], int]:
    if file.size < _LENGTH_BYTES:
        raise DataError(f"{file.path}: {file.size} bytes are too few for a safetensors header")
    length = int.from_bytes(file.view(0, _LENGTH_BYTES), "little")
    if not 2 <= length <= HEADER_LIMIT_BYTES:
        raise DataError(
            f"{file.path}: the header's length is {length}, but must be between 2 and {HEADER_LIMIT_BYTES:,}",
            hint="this is not a safetensors file, or its beginning is damaged; download it again",
        )
    data_start = _LENGTH_BYTES + length
    if data_start > file.size:
        raise DataError(
            f"{file.path}: the file ends inside its header ({file.size} of at least {data_start} bytes)",
            hint="the download is incomplete; fetch the file again",
        )
    text = bytes(file.view(_LENGTH_BYTES, length))
    if not text.startswith(b"{"):
        raise DataError(f"{file.path}: the header does not start with `{{`")
    if text.count(b'"data_offsets"') > TENSOR_LIMIT:
        raise DataError(f"{file.path}: the header lists more than {TENSOR_LIMIT:,} tensors")
    return parse_json_object(text, f"{file.path}: the header"), data_start


def _check_metadata(path: Path, metadata: Any) -> MappingProxyType[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise DataError(f"{path}: `__metadata__` must map names to text")
    return MappingProxyType(metadata)


def _check_entry(file: MappedFile, data_start: int, name: str, fields: Any) -> TensorEntry:
    where = f"{file.path}: tensor `{name}`"
    if not isinstance(fields, dict) or fields.keys() != _FIELDS:
        raise DataError(f"{where}: must have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise DataError(f"{where}: unknown dtype {str(dtype)[:40]!r}")
    if not _are_counts(shape):
        raise DataError(f"{where}: the shape must be a list of whole numbers from 0")
    if not _are_counts(offsets) or len(offsets) != 2:
        raise DataError(f"{where}: data_offsets must be two whole numbers from 0")
    begin, end = offsets
    available = file.size - data_start
    if begin > end:
        raise DataError(f"{where}: ends at {end} before it begins at {begin}")
    if end > available:
        raise DataError(
            f"{where}: ends at byte {end} of the data, but the file holds {available}",
            hint="the download is incomplete; fetch the file again",
        )
    if prod(shape) * ITEM_BYTES[dtype] != end - begin:
        raise DataError(f"{where}: {dtype} of shape {shape} does not take {end - begin} bytes")
    return TensorEntry(name, dtype, tuple(shape), data_start + begin, end - begin)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 63 for value in values)


def _check_coverage(path: Path, entries: Iterable[TensorEntry], data_start: int, file_size: int) -> None:
    """Every byte of the data belongs to exactly one tensor."""
    at = data_start
    for entry in sorted(entries, key=lambda entry: (entry.offset, entry.nbytes)):
        if entry.offset < at:
            raise DataError(f"{path}: tensor `{entry.name}` overlaps the one before it")
        if entry.offset > at:
            raise DataError(f"{path}: a hole of {entry.offset - at} bytes before tensor `{entry.name}`")
        at = entry.offset + entry.nbytes
    if at != file_size:
        raise DataError(f"{path}: {file_size - at} bytes after the last tensor")
