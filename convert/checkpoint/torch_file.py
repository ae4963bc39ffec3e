"""Open a PyTorch checkpoint without PyTorch: check its archive, interpret its pickle, map its tensors."""

from __future__ import annotations

from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chat.errors import DataError
from convert.checkpoint.mapped_file import ITEM_BYTES, MappedFile, TensorEntry, TensorFile
from convert.checkpoint.torch_pickle import PICKLE_LIMIT_BYTES, read_pickle
from convert.checkpoint.torch_values import PickledTensor
from convert.checkpoint.torch_zip import ArchiveRecord, read_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

TENSOR_LIMIT = 100_000
WRAPPERS = ("state_dict", "model", "module")  # keys under which training programs keep the tensors
_ZIP = b"PK\3\4"
_LEGACY = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # torch's magic number, the first pickle of old files


def open_torch(path: Path) -> TensorFile:
    """Map a `.pth`, `.pt` or `.bin` checkpoint.

    Raises:
        FileError: it cannot be opened.
        DataError: it is no such archive, or breaks a rule; the message names file, record or tensor, and rule.
    """
    file = MappedFile(path)
    _check_kind(file)
    records = read_records(file)
    root = _find_root(path, records)
    pickle = records[f"{root}/data.pkl"]
    if pickle.nbytes > PICKLE_LIMIT_BYTES:
        raise DataError(f"{path}: data.pkl has {pickle.nbytes:,} bytes, but the limit is {PICKLE_LIMIT_BYTES:,}")
    _check_byte_order(file, records.get(f"{root}/byteorder"))
    value = read_pickle(bytes(file.view(pickle.offset, pickle.nbytes)), f"{path}: data.pkl")
    entries = {name: _entry(path, records, root, name, tensor) for name, tensor in _tensors(path, value)}
    return TensorFile(file, MappingProxyType(entries))


def _check_kind(file: MappedFile) -> None:
    start = bytes(file.view(0, min(file.size, 32)))
    if start.startswith(_ZIP):
        return
    if _LEGACY in start[:16] or start[:1] == b"\x80":
        raise DataError(
            f"{file.path}: is in PyTorch's old format, which cannot be read without running it",
            hint="take the safetensors version, or load it with PyTorch 1.6 or later and save it again",
        )
    if start[8:9] == b"{":
        raise DataError(f"{file.path}: is a safetensors file under another name", hint="rename it to `.safetensors`")
    raise DataError(f"{file.path}: is not a PyTorch checkpoint: it starts with {start[:4]!r}")


def _find_root(path: Path, records: Mapping[str, ArchiveRecord]) -> str:
    """The one folder that all records lie in, as PyTorch writes it, with nothing but tensors and their description."""
    pickles = [name for name in records if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        raise DataError(f"{path}: the archive has {len(pickles)} records `data.pkl`, but must have one")
    root = pickles[0].removesuffix("/data.pkl")
    for name in records:
        folder, _, rest = name.partition("/")
        if folder != root or not (rest.startswith((".", "data/")) or rest in ("data.pkl", "byteorder", "version")):
            raise DataError(
                f"{path}: the archive holds {name!r}, which is not part of a checkpoint",
                hint="TorchScript models and archives of other files cannot be converted",
            )
    return root


def _check_byte_order(file: MappedFile, record: ArchiveRecord | None) -> None:
    if record is not None and (order := bytes(file.view(record.offset, min(record.nbytes, 16)))) != b"little":
        raise DataError(f"{file.path}: its numbers are in {order!r} byte order, but must be in little")


def _tensors(path: Path, value: Any) -> Iterator[tuple[str, PickledTensor]]:
    """The named tensors, from the top or from one key below it."""
    if type(value) is not dict:
        raise DataError(f"{path}: data.pkl describes a {type(value).__name__}, but must map names to tensors")
    for wrapper in WRAPPERS:
        if type(value.get(wrapper)) is dict:
            value = value[wrapper]
            break
    if not value or len(value) > TENSOR_LIMIT:
        raise DataError(f"{path}: data.pkl names {len(value)} tensors, but must name 1 to {TENSOR_LIMIT:,}")
    for name, tensor in value.items():
        if type(tensor) is not PickledTensor:
            raise DataError(f"{path}: {_shown(name)} is a {type(tensor).__name__}, but must be a tensor")
        yield name, tensor


def _entry(
    path: Path, records: Mapping[str, ArchiveRecord], root: str, name: str, tensor: PickledTensor
) -> TensorEntry:
    """Where the tensor's bytes lie, after its claims have been held against its record."""
    where = f"{path}: tensor {_shown(name)}"
    storage, item_bytes = tensor.storage, ITEM_BYTES[tensor.dtype]
    record = records.get(f"{root}/data/{storage.key}")
    if record is None:
        raise DataError(f"{where}: its storage {_shown(storage.key)} is not in the archive")
    claimed = storage.items * (ITEM_BYTES[storage.dtype] if storage.dtype else 1)
    if claimed != record.nbytes:
        raise DataError(f"{where}: its storage should have {claimed} bytes, but the record has {record.nbytes}")
    if len(tensor.shape) != len(tensor.strides):
        raise DataError(f"{where}: {len(tensor.shape)} dimensions with {len(tensor.strides)} strides")
    if not _is_contiguous(tensor):
        raise DataError(
            f"{where}: is a transposed or cut view, shape {list(tensor.shape)} with strides {list(tensor.strides)}",
            hint="save it again after `tensor.contiguous()`",
        )
    nbytes = prod(tensor.shape) * item_bytes
    start = tensor.offset * item_bytes
    if start + nbytes > record.nbytes:
        raise DataError(f"{where}: ends at byte {start + nbytes} of its storage, which has {record.nbytes}")
    return TensorEntry(name, tensor.dtype, tensor.shape, record.offset + start, nbytes)


def _is_contiguous(tensor: PickledTensor) -> bool:
    """Row after row without gaps; the step of a dimension of 1 is never taken."""
    step = 1
    for size, stride in zip(reversed(tensor.shape), reversed(tensor.strides), strict=True):
        if size > 1 and stride != step:
            return 0 in tensor.shape
        step *= size
    return True


def _shown(name: str) -> str:
    return repr(name[:120])
