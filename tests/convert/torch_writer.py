"""Write checkpoints as `torch.save` does, byte for byte, and wrongly where a test wants it. For tests only."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ITEM_BYTES = {"BFloat16": 2, "Half": 2, "Float": 4, "Double": 8, "Long": 8, "Int": 4, "Byte": 1, "Bool": 1}


@dataclass
class Saved:
    """One tensor of a checkpoint; what is None follows from the rest."""

    name: str
    kind: str  # of its storage: BFloat16, Float, ...
    shape: tuple[int, ...]
    data: bytes = b""
    key: str = "0"
    offset: int = 0
    strides: tuple[int, ...] | None = None
    items: int | None = None  # of its storage

    def steps(self) -> tuple[int, ...]:
        """Its strides, contiguous by default."""
        if self.strides is not None:
            return self.strides
        return tuple(prod(self.shape[place + 1 :]) for place in range(len(self.shape)))


@dataclass
class Program:
    """A pickle of protocol 2 in the making, with the memo that Python's pickler keeps."""

    code: bytes = b"\x80\x02"
    memo: dict[str, int] = field(default_factory=dict)
    kept: int = 0

    def add(self, code: bytes) -> Program:
        """Add opcodes."""
        self.code += code
        return self

    def keep(self) -> Program:
        """Put the top into the memo."""
        self.code += b"q" + bytes([self.kept]) if self.kept < 256 else b"r" + struct.pack("<I", self.kept)
        self.kept += 1
        return self

    def once(self, name: str, code: bytes) -> Program:
        """Add a value the first time, and get it from the memo ever after."""
        if name in self.memo:
            place = self.memo[name]
            return self.add(b"h" + bytes([place]) if place < 256 else b"j" + struct.pack("<I", place))
        self.memo[name] = self.kept
        return self.add(code).keep()

    def called(self, module: str, name: str) -> Program:
        """Name a global."""
        return self.once(f"{module} {name}", f"c{module}\n{name}\n".encode())

    def text(self, text: str) -> Program:
        """A string of its own."""
        return self.add(text_code(text)).keep()

    def number(self, value: int) -> Program:
        """A whole number."""
        return self.add(number_code(value))

    def numbers(self, values: tuple[int, ...]) -> Program:
        """A tuple of whole numbers."""
        if not values:
            return self.add(b")")
        if len(values) > 3:
            self.add(b"(")
        for value in values:
            self.number(value)
        return self.add(b"t" if len(values) > 3 else bytes([0x84 + len(values)])).keep()

    def tensor(self, saved: Saved) -> Program:
        """A tensor, as `torch._utils._rebuild_tensor_v2` is called for it."""
        self.called("torch._utils", "_rebuild_tensor_v2").add(b"((").once("storage", text_code("storage"))
        self.called("torch", f"{saved.kind}Storage").text(saved.key).once("cpu", text_code("cpu"))
        items = len(saved.data) // ITEM_BYTES[saved.kind] if saved.items is None else saved.items
        self.number(items).add(b"t").keep().add(b"Q").number(saved.offset)
        self.numbers(saved.shape).numbers(saved.steps()).add(b"\x89")
        self.called("collections", "OrderedDict").add(b")R").keep()
        return self.add(b"t").keep().add(b"R").keep()

    def state_dict(self, tensors: Iterable[Saved]) -> Program:
        """A plain dictionary of tensors, and the end."""
        self.add(b"}").keep().add(b"(")
        for saved in tensors:
            self.text(saved.name).tensor(saved)
        return self.add(b"u.")


def text_code(text: str) -> bytes:
    """The opcode of a string."""
    raw = text.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number_code(value: int) -> bytes:
    """The shortest opcode of a whole number."""
    if 0 <= value < 1 << 8:
        return b"K" + bytes([value])
    if 0 <= value < 1 << 16:
        return b"M" + struct.pack("<H", value)
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


@dataclass
class Part:
    """One record of an archive, and what its headers say of it; None says the truth."""

    name: str
    data: bytes
    method: int = 0
    flags: int = 0x808
    crc: int | None = None
    listed_bytes: int | None = None
    packed_bytes: int | None = None
    start: int | None = None
    local_name: str | None = None
    local_bytes: int = 0
    extra: bytes = b""


def archive(parts: Iterable[Part], *, end: bytes | None = None, tail: bytes = b"", count: int | None = None) -> bytes:
    """An archive as PyTorch's writer makes it: stored, aligned to 64 bytes, sizes behind the data, 64-bit end."""
    body, directory, listed = b"", b"", 0
    for part in parts:
        start = len(body)
        name, local = part.name.encode(), (part.name if part.local_name is None else part.local_name).encode()
        head = struct.pack(
            "<4s5H3L", b"PK\3\4", 0, part.flags, part.method, 0, 0, 0, part.local_bytes, part.local_bytes
        )
        padding = 64 - (start + 30 + len(local) + 4) % 64
        fill = b"FB" + struct.pack("<H", padding) + b"Z" * padding
        body += head + struct.pack("<2H", len(local), len(fill)) + local + fill + part.data
        crc = zlib.crc32(part.data) if part.crc is None else part.crc
        body += struct.pack("<4s3L", b"PK\7\x08", crc, len(part.data), len(part.data))
        size = len(part.data) if part.listed_bytes is None else part.listed_bytes
        packed = size if part.packed_bytes is None else part.packed_bytes
        fields = (0, 0, part.flags, part.method, 0, 0, crc, packed, size, len(name), len(part.extra), 0, 0, 0, 0)
        directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", *fields, start if part.start is None else part.start)
        directory += name + part.extra
        listed += 1
    listed = listed if count is None else count
    if end is None:
        at = len(body) + len(directory)
        end = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 0x31E, 0x2D, 0, 0, listed, listed, len(directory), len(body))
        end += struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
        end += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, listed, listed, len(directory), len(body), 0)
    return body + directory + end + tail


def records(root: str, pickle: bytes, storages: dict[str, bytes], serial: str = "0" * 40) -> list[Part]:
    """The records of a checkpoint, in PyTorch's order."""
    first = {"data.pkl": pickle, ".format_version": b"1", ".storage_alignment": b"64", "byteorder": b"little"}
    last = {"version": b"3\n", ".data/serialization_id": serial.encode()}
    data = {f"data/{key}": storage for key, storage in storages.items()}
    return [Part(f"{root}/{name}", content) for name, content in (first | data | last).items()]


def checkpoint(tensors: Iterable[Saved], root: str = "consolidated.00", serial: str = "0" * 40) -> bytes:
    """A whole file; tensors of one key share the storage of the first."""
    tensors = list(tensors)
    storages: dict[str, bytes] = {}
    for saved in tensors:
        storages.setdefault(saved.key, saved.data)
    return archive(records(root, Program().state_dict(tensors).code, storages, serial))
