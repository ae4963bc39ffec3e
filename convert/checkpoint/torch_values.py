"""The names that a PyTorch pickle may refer to, and the inert values they stand for.

Nothing here is imported from anywhere or called with code: a name is a name, and the functions that real checkpoints
call are described by the table `MAKERS`, whose entries build values of this module only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_DIMENSIONS = 8

# torch's storage classes, and its dtypes where a storage has none of its own
STORAGES: dict[str, str] = {
    "torch.DoubleStorage": "F64",
    "torch.FloatStorage": "F32",
    "torch.HalfStorage": "F16",
    "torch.BFloat16Storage": "BF16",
    "torch.LongStorage": "I64",
    "torch.IntStorage": "I32",
    "torch.ShortStorage": "I16",
    "torch.CharStorage": "I8",
    "torch.ByteStorage": "U8",
    "torch.BoolStorage": "BOOL",
}
UNTYPED = ("torch.storage.UntypedStorage", "torch.UntypedStorage")
DTYPES: dict[str, str] = {
    "torch.float8_e4m3fn": "F8_E4M3",
    "torch.float8_e5m2": "F8_E5M2",
    "torch.uint16": "U16",
    "torch.uint32": "U32",
    "torch.uint64": "U64",
}


class Name(NamedTuple):
    """A global name that the allow-list holds. Only a name: nothing is imported."""

    full: str


class Storage(NamedTuple):
    """A record of the archive that tensors look into; `items` are bytes where `dtype` is None."""

    dtype: str | None
    key: str
    items: int


class PickledTensor(NamedTuple):
    """A look into a storage: places and steps count items."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _dictionary(items: tuple[Any, ...]) -> dict[str, Any]:
    if items:  # a list of pairs could be read a thousand times over from the memo
        raise ValueError("not an empty dictionary")
    return {}


def text_key(key: Any) -> str:
    """A key of a dictionary, which must be text."""
    if type(key) is not str:  # chosen numbers could also be made to collide
        raise ValueError("a key is not text")
    return key


def counts(values: Any) -> tuple[int, ...]:
    """A tuple of whole numbers from 0, no longer than a shape may be, else ValueError."""
    if type(values) is not tuple or len(values) > MAX_DIMENSIONS:
        raise ValueError("not a shape")
    if not all(type(value) is int and 0 <= value < 1 << 63 for value in values):
        raise ValueError("not a tuple of whole numbers from 0")
    return values


def _tensor(items: tuple[Any, ...]) -> PickledTensor:
    storage, offset, shape, strides, gradient, _hooks = items[:6]
    if type(storage) is not Storage or storage.dtype is None or type(gradient) is not bool or len(items) > 7:
        raise ValueError("not a tensor")
    return PickledTensor(storage, storage.dtype, counts((offset,))[0], counts(shape), counts(strides))


def _tensor_of_dtype(items: tuple[Any, ...]) -> PickledTensor:
    storage, offset, shape, strides, gradient, _hooks, dtype = items[:7]
    if type(storage) is not Storage or type(dtype) is not Name or type(gradient) is not bool or len(items) > 8:
        raise ValueError("not a tensor")
    return PickledTensor(storage, DTYPES[dtype.full], counts((offset,))[0], counts(shape), counts(strides))


def _parameter(items: tuple[Any, ...]) -> PickledTensor:
    tensor, gradient, _hooks = items
    if type(tensor) is not PickledTensor or type(gradient) is not bool:
        raise ValueError("not a parameter")
    return tensor


def _size(items: tuple[Any, ...]) -> tuple[int, ...]:
    (sizes,) = items
    return counts(sizes)


# what REDUCE may be asked for
MAKERS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "collections.OrderedDict": _dictionary,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_dtype,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
}
ALLOWED = frozenset((*MAKERS, *STORAGES, *UNTYPED, *DTYPES))
