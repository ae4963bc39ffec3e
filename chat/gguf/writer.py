"""Encode the header of a GGUF: its metadata and its list of tensors.

Source: the specification of GGUF version 3 in the ggml repository.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from chat.gguf.types import ARRAY, MAGIC, STRING, VALUE_TYPES, align

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = 3
Kind = Literal["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "str", "u64", "i64", "f64"]
Scalar = int | float | bool | str | bytes

# enum gguf_type and the layout of each kind; text is written as length and bytes.
_TYPE_IDS: dict[str, int] = {kind.name: number for number, kind in VALUE_TYPES.items()} | {"str": STRING}
_LAYOUTS: dict[str, str] = {kind.name: f"<{kind.letter}" for kind in VALUE_TYPES.values()}


@dataclass(frozen=True)
class KeyValue:
    """One entry of the metadata; a tuple of values is an array of that kind."""

    key: str
    kind: Kind
    value: Scalar | tuple[Scalar, ...]


class PlacedTensor(Protocol):
    """A tensor and its place in the file."""

    @property
    def name(self) -> str:
        """The tensor's name in the GGUF."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes, row-major."""
        ...

    @property
    def ggml_type(self) -> int:
        """The number of the tensor's type in ggml's `enum ggml_type`."""
        ...

    @property
    def offset(self) -> int:
        """Bytes from the start of the tensor data."""
        ...


def encode_header(keys: Sequence[KeyValue], tensors: Sequence[PlacedTensor]) -> bytes:
    """The bytes before the tensor data, padded to the alignment at which the data starts."""
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(keys))]
    parts += [encode_key(entry) for entry in keys]
    parts += [_tensor_info(tensor) for tensor in tensors]
    header = b"".join(parts)
    return header.ljust(align(len(header)), b"\0")


def encode_key(entry: KeyValue) -> bytes:
    """One key with its value."""
    return _text(entry.key) + _value(entry)


def _text(text: str | bytes) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(entry: KeyValue) -> bytes:
    if isinstance(entry.value, tuple):
        count = len(entry.value)
        head = struct.pack("<IIQ", ARRAY, _TYPE_IDS[entry.kind], count)
        if entry.kind == "str":
            return head + b"".join(_scalar(entry.kind, item) for item in entry.value)
        return head + struct.pack(f"<{count}{_LAYOUTS[entry.kind][1:]}", *entry.value)
    return struct.pack("<I", _TYPE_IDS[entry.kind]) + _scalar(entry.kind, entry.value)


def _scalar(kind: Kind, value: Scalar) -> bytes:
    if isinstance(value, str | bytes):
        return _text(value)
    return struct.pack(_LAYOUTS[kind], value)


def _tensor_info(tensor: PlacedTensor) -> bytes:
    axes = tuple(reversed(tensor.shape))  # ggml's order: the row's length first
    return _text(tensor.name) + struct.pack(f"<I{len(axes)}QIQ", len(axes), *axes, tensor.ggml_type, tensor.offset)
