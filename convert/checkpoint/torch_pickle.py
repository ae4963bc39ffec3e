"""Interpret the pickle of a PyTorch checkpoint without running it: opcodes and their stack.

A pickle is a program, so this is an interpreter that cannot call anything but the makers of inert values.
"""

from __future__ import annotations

from struct import unpack
from typing import TYPE_CHECKING, Any

from chat.errors import DataError
from convert.checkpoint.torch_values import ALLOWED, MAKERS, STORAGES, UNTYPED, Name, Storage, counts, text_key

if TYPE_CHECKING:
    from collections.abc import Callable

PICKLE_LIMIT_BYTES = 16 << 20
OPCODE_LIMIT = 500_000  # Mixtral 8x22B takes 60,000
NAME_LIMIT_BYTES = 200
LAST_PROTOCOL = 5


class _Mark:
    """What the opcode MARK leaves on the stack."""


MARK = _Mark()


def read_pickle(text: bytes, where: str) -> Any:
    """The value that a pickle describes, of dict, list, tuple, str, int, float, bool, None and this module's values.

    Args:
        where: begins every error message.

    Raises:
        DataError: it names anything outside the allow-list, uses an opcode that no checkpoint needs, or is damaged.
    """
    if len(text) > PICKLE_LIMIT_BYTES:
        raise DataError(f"{where} has {len(text):,} bytes, but the limit is {PICKLE_LIMIT_BYTES:,}")
    machine = _Machine(text, where)
    try:
        return machine.run()
    except (IndexError, KeyError, TypeError, ValueError) as error:  # the stack holds something else than it should
        raise DataError(f"{where} is damaged near byte {machine.at}") from error


class _Machine:
    """The stack, the memo and the place in the program."""

    def __init__(self, text: bytes, where: str) -> None:
        self.text = text
        self.where = where
        self.at = 0
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Interpret the opcodes up to STOP.

        Returns:
            The value that is left on the stack.

        Raises:
            DataError: a forbidden or broken pickle.
        """
        for _ in range(OPCODE_LIMIT):
            code = self.take(1)[0]
            if code == STOP:
                return self.result()
            step = STEPS.get(code)
            if step is None:
                self.refuse(code)
            else:
                step(self)
        raise DataError(f"{self.where} takes more than {OPCODE_LIMIT:,} steps")

    def result(self) -> Any:
        """The only value on the stack.

        Raises:
            DataError: several values, none, or bytes after the end.
        """
        if len(self.stack) != 1:
            raise DataError(f"{self.where} leaves {len(self.stack)} values, but must leave one")
        if self.at != len(self.text):
            raise DataError(f"{self.where} goes on for {len(self.text) - self.at} bytes after its end")
        return self.pop()

    def refuse(self, code: int) -> None:
        """Refuse an opcode that is not interpreted.

        Raises:
            DataError: always; it names the opcode, or the global that it would call.
        """
        place = self.at - 1
        if code == INST:
            self.allow(self.line(), self.line())
        name = FORBIDDEN.get(code, f"0x{code:02x}")
        raise DataError(f"{self.where} uses the opcode {name} at byte {place}, which no checkpoint needs")

    def take(self, count: int) -> bytes:
        """The next bytes.

        Raises:
            DataError: the text ends before.
        """
        end = self.at + count
        if end > len(self.text):
            raise DataError(f"{self.where} ends inside an opcode")
        self.at = end
        return self.text[end - count : end]

    def number(self, letter: str, count: int) -> int:
        return int(unpack("<" + letter, self.take(count))[0])

    def line(self) -> str:
        """The text up to the next newline.

        Raises:
            DataError: a line longer than a name may be, or no newline.
        """
        end = self.text.find(b"\n", self.at, self.at + NAME_LIMIT_BYTES + 1)
        if end < 0:
            raise DataError(f"{self.where} has a name longer than {NAME_LIMIT_BYTES} bytes, or ends inside one")
        raw, self.at = self.text[self.at : end], end + 1
        return raw.decode()

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is MARK:
            raise ValueError("a mark where a value should be")
        return value

    def top(self, kind: type) -> Any:
        value = self.stack[-1]
        if type(value) is not kind:
            raise ValueError(f"not a {kind.__name__}")
        return value

    def since_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while self.stack[place] is not MARK:
            place -= 1
            if place < 0:
                raise ValueError("no mark")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def allow(self, module: str, name: str) -> Name:
        """The inert value for a global.

        Raises:
            DataError: a global that no checkpoint needs.
        """
        full = f"{module}.{name}"
        if full not in ALLOWED:
            shown = full if full.isprintable() and len(full) <= NAME_LIMIT_BYTES else repr(full[:NAME_LIMIT_BYTES])
            raise DataError(
                f"{self.where}: forbidden global `{shown}`",
                hint="loading it could run code, so nothing was loaded; take the safetensors version of the model",
            )
        return Name(full)


def _store(machine: _Machine, place: int) -> None:
    if machine.stack[-1] is MARK:
        raise ValueError("a mark cannot be kept")
    machine.memo[place] = machine.stack[-1]


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    if type(name) is not str or type(module) is not str:
        raise ValueError("not a name")
    machine.push(machine.allow(module, name))


def _reduce(machine: _Machine) -> None:
    items, function = machine.pop(), machine.pop()
    if type(items) is not tuple or type(function) is not Name or function.full not in MAKERS:
        raise ValueError("not a call that a checkpoint makes")
    machine.push(MAKERS[function.full](items))


def _build(machine: _Machine) -> None:
    """Attributes of an ordered dictionary (PyTorch keeps versions there), which say nothing about tensors."""
    if type(machine.pop()) is not dict:
        raise ValueError("not attributes")
    machine.top(dict)


def _storage(machine: _Machine) -> None:
    kind, name, key, location, items = machine.pop()
    known = type(name) is Name and (name.full in STORAGES or name.full in UNTYPED)
    if kind != "storage" or not known or type(key) is not str or type(location) is not str:
        raise ValueError("not a storage")
    machine.push(Storage(STORAGES.get(name.full), key, *counts((items,))))


def _set_items(machine: _Machine, values: list[Any]) -> None:
    if len(values) % 2:
        raise ValueError("a key without a value")
    owner = machine.top(dict)
    for key, value in zip(values[::2], values[1::2], strict=True):
        if text_key(key) in owner:
            raise DataError(f"{machine.where} names {key[:120]!r} twice")
        owner[key] = value


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    _set_items(machine, [key, value])


def _extend(machine: _Machine, values: list[Any]) -> None:
    machine.top(list).extend(values)


def _tuple(machine: _Machine, count: int) -> None:
    values = [machine.pop() for _ in range(count)]
    machine.push(tuple(reversed(values)))


def _long(machine: _Machine, length: int) -> None:
    if length > 8:
        raise DataError(f"{machine.where} holds a number of {length} bytes, but the limit is 8")
    machine.push(int.from_bytes(machine.take(length), "little", signed=True))


def _proto(machine: _Machine) -> None:
    protocol = machine.take(1)[0]
    if machine.at != 2 or not 2 <= protocol <= LAST_PROTOCOL:
        raise DataError(f"{machine.where} says protocol {protocol} at byte {machine.at - 2}, but 2 to 5 are known")


STOP = ord(".")
STEPS: dict[int, Callable[[_Machine], Any]] = {
    0x80: _proto,
    0x95: lambda m: m.take(8),  # FRAME: how much to read ahead, and all is here already
    ord("("): lambda m: m.push(MARK),
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("J"): lambda m: m.push(m.number("i", 4)),
    ord("K"): lambda m: m.push(m.number("B", 1)),
    ord("M"): lambda m: m.push(m.number("H", 2)),
    0x8A: lambda m: _long(m, m.number("B", 1)),
    0x8B: lambda m: _long(m, m.number("I", 4)),
    ord("G"): lambda m: m.push(unpack(">d", m.take(8))[0]),
    ord("X"): lambda m: m.push(m.take(m.number("I", 4)).decode()),
    0x8C: lambda m: m.push(m.take(m.number("B", 1)).decode()),
    0x8D: lambda m: m.push(m.take(m.number("Q", 8)).decode()),
    ord("}"): lambda m: m.push({}),
    ord("]"): lambda m: m.push([]),
    ord(")"): lambda m: m.push(()),
    ord("t"): lambda m: m.push(tuple(m.since_mark())),
    0x85: lambda m: _tuple(m, 1),
    0x86: lambda m: _tuple(m, 2),
    0x87: lambda m: _tuple(m, 3),
    ord("a"): lambda m: _extend(m, [m.pop()]),
    ord("e"): lambda m: _extend(m, m.since_mark()),
    ord("s"): _set_item,
    ord("u"): lambda m: _set_items(m, m.since_mark()),
    ord("q"): lambda m: _store(m, m.number("B", 1)),
    ord("r"): lambda m: _store(m, m.number("I", 4)),
    0x94: lambda m: _store(m, len(m.memo)),
    ord("h"): lambda m: m.push(m.memo[m.number("B", 1)]),
    ord("j"): lambda m: m.push(m.memo[m.number("I", 4)]),
    ord("c"): lambda m: m.push(m.allow(m.line(), m.line())),
    0x93: _stack_global,
    ord("R"): _reduce,
    ord("b"): _build,
    ord("Q"): _storage,
}

INST = ord("i")  # names its class itself
FORBIDDEN: dict[int, str] = {
    INST: "INST",
    ord("o"): "OBJ",
    0x81: "NEWOBJ",
    0x92: "NEWOBJ_EX",
    0x82: "EXT1",
    0x83: "EXT2",
    0x84: "EXT4",
    ord("P"): "PERSID",
    0x97: "NEXT_BUFFER",
    0x98: "READONLY_BUFFER",
    ord("0"): "POP",
    ord("1"): "POP_MARK",
    ord("2"): "DUP",
    ord("B"): "BINBYTES",
    ord("C"): "SHORT_BINBYTES",
    0x8E: "BINBYTES8",
    0x96: "BYTEARRAY8",
    ord("F"): "FLOAT",
    ord("I"): "INT",
    ord("L"): "LONG",
    ord("S"): "STRING",
    ord("T"): "BINSTRING",
    ord("U"): "SHORT_BINSTRING",
    ord("V"): "UNICODE",
    ord("d"): "DICT",
    ord("g"): "GET",
    ord("l"): "LIST",
    ord("p"): "PUT",
    0x8F: "EMPTY_SET",
    0x90: "ADDITEMS",
    0x91: "FROZENSET",
}
