"""A GGUF file as parts that can be changed one by one, and packed again however wrong they then are. For tests only."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import Any

STRING, ARRAY = 8, 9
LETTERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "B", 10: "Q", 11: "q", 12: "d"}


@dataclass
class Key:
    """One key; `kind` is what is written as its type, `raw` its value's bytes as they stand in the file."""

    name: bytes
    kind: int
    raw: bytes

    @property
    def value(self) -> Any:
        """The value, as long as the bytes are what the type says."""
        return Parser(self.raw).value(self.kind)


@dataclass
class Tensor:
    """One tensor; `offset` None puts it where it belongs."""

    name: bytes
    shape: list[int]
    kind: int
    data: bytes
    offset: int | None = None
    dimensions: int | None = None


@dataclass
class Sketch:
    """A whole file. `tensor_count` and `key_count` None count truly."""

    keys: list[Key]
    tensors: list[Tensor]
    magic: bytes = b"GGUF"
    version: int = 3
    tensor_count: int | None = None
    key_count: int | None = None
    alignment: int = 32
    tail: bytes = b""
    cut: int | None = None  # bytes to keep
    patches: list[tuple[int, bytes]] = field(default_factory=list)  # (place, bytes written over it)

    def copy(self) -> Sketch:
        """One that can be changed without changing this one."""
        tensors = [replace(tensor, shape=list(tensor.shape)) for tensor in self.tensors]
        return replace(self, keys=[replace(key) for key in self.keys], tensors=tensors, patches=list(self.patches))

    def key(self, name: str) -> Key:
        """The key of this name."""
        return next(key for key in self.keys if key.name == name.encode())

    def tensor(self, name: str) -> Tensor:
        """The tensor of this name."""
        return next(tensor for tensor in self.tensors if tensor.name == name.encode())

    def set(self, name: str, kind: int, value: Any) -> None:
        """Write a key anew, or at the end; `value` is bytes, str, a number, or (item kind, items) for an array."""
        key = Key(name.encode(), kind, encode(kind, value))
        places = [place for place, other in enumerate(self.keys) if other.name == key.name]
        if places:
            self.keys[places[0]] = key
        else:
            self.keys.append(key)

    def drop(self, name: str) -> None:
        """Remove a key or a tensor."""
        self.keys = [key for key in self.keys if key.name != name.encode()]
        self.tensors = [tensor for tensor in self.tensors if tensor.name != name.encode()]

    def pack(self) -> bytes:
        """The file's bytes."""
        tensor_count = len(self.tensors) if self.tensor_count is None else self.tensor_count
        key_count = len(self.keys) if self.key_count is None else self.key_count
        head = [self.magic, struct.pack("<IQQ", self.version & 0xFFFFFFFF, tensor_count, key_count)]
        for key in self.keys:
            head += [text(key.name), struct.pack("<I", key.kind & 0xFFFFFFFF), key.raw]
        data, end = [], 0
        for tensor in self.tensors:
            offset = end if tensor.offset is None else tensor.offset
            count = len(tensor.shape) if tensor.dimensions is None else tensor.dimensions
            head += [text(tensor.name), struct.pack("<I", count)]
            head += [struct.pack("<Q", size & (1 << 64) - 1) for size in tensor.shape]
            head.append(struct.pack("<IQ", tensor.kind & 0xFFFFFFFF, offset & (1 << 64) - 1))
            data += [tensor.data, bytes(-len(tensor.data) % self.alignment)]
            end += len(tensor.data) + len(data[-1])
        padding = bytes(-sum(map(len, head)) % self.alignment)
        whole = bytearray().join([*head, padding, *data, self.tail])
        for place, patch in self.patches:
            place %= len(whole)
            whole[place : place + len(patch)] = patch
        return bytes(whole[: self.cut])


def text(raw: bytes) -> bytes:
    """A string as the format writes it."""
    return struct.pack("<Q", len(raw)) + raw


def encode(kind: int, value: Any) -> bytes:
    """A value's bytes after its type; bytes are taken as they are."""
    if isinstance(value, bytes):
        return value
    if kind == STRING:
        return text(value.encode())
    if kind == ARRAY:
        item, items = value
        return struct.pack("<IQ", item, len(items)) + b"".join(encode(item, one) for one in items)
    return struct.pack("<" + LETTERS[kind], value)


class Parser:
    """A plain reader of well-formed bytes, written apart from the one under test."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def take(self, count: int) -> bytes:
        """The next bytes."""
        self.at += count
        return self.raw[self.at - count : self.at]

    def number(self, letter: str) -> Any:
        """The next number."""
        return struct.unpack("<" + letter, self.take(struct.calcsize(letter)))[0]

    def value(self, kind: int) -> Any:
        """The next value of a type."""
        if kind == STRING:
            return self.take(self.number("Q")).decode()
        if kind == ARRAY:
            item, count = self.number("I"), self.number("Q")
            return [self.value(item) for _ in range(count)]
        value = self.number(LETTERS[kind])
        return bool(value) if kind == 7 else value


def sketch(raw: bytes) -> Sketch:
    """The parts of a well-formed file whose tensors follow each other."""
    parser = Parser(raw)
    magic, version, tensor_count, key_count = parser.take(4), parser.number("I"), parser.number("Q"), parser.number("Q")
    keys = []
    for _ in range(key_count):
        name, kind = parser.take(parser.number("Q")), parser.number("I")
        start = parser.at
        parser.value(kind)
        keys.append(Key(name, kind, raw[start : parser.at]))
    tensors, offsets = [], []
    for _ in range(tensor_count):
        name = parser.take(parser.number("Q"))
        shape = [parser.number("Q") for _ in range(parser.number("I"))]
        tensors.append(Tensor(name, shape, parser.number("I"), b""))
        offsets.append(parser.number("Q"))
    start = parser.at + -parser.at % 32
    for tensor, first, last in zip(tensors, offsets, [*offsets[1:], len(raw) - start], strict=True):
        tensor.data = raw[start + first : start + last]
    return Sketch(keys, tensors, magic, version)
