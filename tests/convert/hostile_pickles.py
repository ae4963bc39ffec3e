"""Seeded pickles that try to run something, to fill the memory or to loop. For tests only; never load them."""

from __future__ import annotations

import pickletools
import struct
from random import Random
from typing import TYPE_CHECKING

from tests.convert.torch_writer import Program, Saved, number_code, text_code

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GLOBALS = (
    ("posix", "system"),
    ("nt", "system"),
    ("os", "system"),
    ("os", "popen"),
    ("subprocess", "Popen"),
    ("subprocess", "check_output"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "getattr"),
    ("builtins", "__import__"),
    ("__builtin__", "eval"),
    ("builtins", "open"),
    ("builtins", "map"),
    ("functools", "partial"),
    ("operator", "attrgetter"),
    ("operator", "methodcaller"),
    ("pickle", "loads"),
    ("marshal", "loads"),
    ("types", "FunctionType"),
    ("codecs", "decode"),
    ("_codecs", "encode"),
    ("importlib", "import_module"),
    ("runpy", "run_path"),
    ("webbrowser", "open"),
    ("torch", "load"),
    ("torch.hub", "load"),
    ("torch._utils", "_rebuild_wrapper_subclass"),
    ("torch.storage", "_load_from_bytes"),
    ("torch._tensor", "_rebuild_from_type_v2"),
    ("torch.serialization", "_get_layout"),
    ("torch._utils", "_rebuild_tensor_v2.__globals__"),
    ("collections", "OrderedDict.__init__.__globals__"),
    ("collections.OrderedDict", ""),
    ("copyreg", "_reconstructor"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("argparse", "Namespace"),
    ("\u202e", "\x1b[2J"),
)
ALLOWED = (
    ("collections", "OrderedDict"),
    ("torch", "FloatStorage"),
    ("torch", "BFloat16Storage"),
    ("torch", "Size"),
    ("torch", "float8_e4m3fn"),
    ("torch.storage", "UntypedStorage"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_tensor_v3"),
    ("torch._utils", "_rebuild_parameter"),
)
TENSOR = Saved("weight", "Float", (2, 3), bytes(24))


def name_code(random: Random, module: str, name: str) -> bytes:
    """A global, by one of the opcodes that name one."""
    if random.random() < 0.6:
        return f"c{module}\n{name}\n".encode()
    return text_code(module) + text_code(name) + b"\x93"


def value_code(random: Random, depth: int = 0) -> bytes:
    """Some value, mostly of a kind that does not belong where it will stand."""
    pick = random.randrange(12 if depth < 3 else 8)
    if pick < 2:
        return number_code(random.choice((0, 1, 6, 24, -1, 255, 2**31, 2**62, -(2**63))))
    if pick < 4:
        return text_code(random.choice(("storage", "0", "weight", "cpu", "", "../../x", "x" * 1000, "\0")))
    if pick < 6:
        return random.choice((b"N", b"\x88", b"\x89", b")", b"}", b"]", b"G" + struct.pack(">d", 1e308)))
    if pick < 8:
        return name_code(random, *random.choice(ALLOWED))
    items = b"".join(value_code(random, depth + 1) for _ in range(random.randrange(5)))
    if pick == 8:
        return b"(" + items + b"t"
    if pick == 9:
        return b"](" + items + b"e"
    if pick == 10:
        return b"}(" + items + b"u"
    return items + random.choice((b"R", b"Q", b"b", b"\x81", b"\x85", b"\x86", b"s", b"a"))


def command(random: Random, canary: str) -> bytes:
    """Arguments that leave the canary behind, if they are ever used."""
    return text_code(random.choice((f"touch {canary}", f"open({canary!r}, 'w')")))


def _call(random: Random, canary: str) -> bytes:
    """A function called, by every opcode that calls one."""
    module, name = random.choice(GLOBALS)
    code = name_code(random, module, name)
    argument = command(random, canary)
    return b"\x80\x02" + random.choice(
        (
            code + argument + b"\x85R.",
            code + b"(" + argument + b"tR.",
            code + argument + b"\x85\x81.",
            code + argument + b"\x85}\x92.",
            b"(" + code + argument + b"o.",
            b"(" + argument + f"i{module}\n{name}\n".encode() + b".",
            code + code + argument + b"\x85R\x85R.",
            code + b"}" + argument + argument + b"sb.",
        )
    )


def _call_inside(random: Random, canary: str) -> bytes:
    """A function called somewhere in a good checkpoint."""
    good = Program().state_dict([TENSOR]).code
    call = _call(random, canary)[2:-1]
    places = [position for _, _, position in pickletools.genops(good) if position]
    place = random.choice([position for position in places if position is not None and position > 1])
    return good[:place] + call + random.choice((b"", b"0")) + good[place:]


def _chain(random: Random, canary: str) -> bytes:
    """A function reached by attributes from an allowed name."""
    module, name = random.choice(ALLOWED)
    step = b"cbuiltins\ngetattr\n" if random.random() < 0.7 else b"coperator\nattrgetter\n"
    path = random.choice(("__init__", "__globals__", "__class__", "__reduce_ex__", "__subclasses__"))
    code = step + f"c{module}\n{name}\n".encode() + text_code(path) + b"\x86R"
    return b"\x80\x02" + code * random.randrange(1, 4) + command(random, canary) + b"\x85R."


def _misuse(random: Random, _canary: str) -> bytes:
    """Allowed names with arguments that they never have."""
    module, name = random.choice(ALLOWED)
    count = random.randrange(9)
    arguments = b"(" + b"".join(value_code(random) for _ in range(count)) + b"t"
    code = name_code(random, module, name) + arguments + random.choice((b"R", b"R", b"R", b"b", b"\x81", b"Q"))
    return b"\x80\x02" + code + random.choice((b".", b"}b.", b"}}b0.", value_code(random) + b"b."))


def _storage(random: Random, _canary: str) -> bytes:
    """A tensor with false sizes or places."""
    count = random.choice((0, 1, 5, 6, 7, 2**31, 2**62, 2**63 - 1))
    shape = tuple(random.choice((0, 1, 2, 3, 6, 2**31, 2**62)) for _ in range(random.randrange(5)))
    strides = random.choice((None, (3, 1), (1, 2), (0, 0), (2**62, 1), (1,), ()))
    saved = Saved("weight", random.choice(("Float", "BFloat16", "Long")), shape, bytes(24))
    saved.strides, saved.items, saved.offset = strides, count, random.choice((0, 1, 6, 2**62))
    saved.key = random.choice(("0", "1", "../data.pkl", "../version", "", "\0", "0/0"))
    return Program().state_dict([saved]).code


def _memo(random: Random, _canary: str) -> bytes:
    big = struct.pack("<I", random.choice((0, 5, 2**31, 2**32 - 1)))
    return b"\x80\x02" + random.choice(
        (
            b"h\x07.",
            b"j" + big + b".",
            b"}r" + big + b".",
            b"(q\0.",
            b"q\0.",
            b"\x94.",
            b"]q\0(" + b"h\0" * 1000 + b"e.",
            b"}q\0(" + text_code("x") + b"h\0u.",
            b"p7\n.",
            b"g7\n.",
        )
    )


def _deep(random: Random, _canary: str) -> bytes:
    """Nesting, doubling and repetition."""
    count = random.choice((100, 10_000, 60_000))
    listed = b"]q\0(" + (text_code("k") + b"N\x86") * 2000 + b"e"
    return b"\x80\x02" + random.choice(
        (
            b"(" * count + b".",
            b"]" * count + b"a" * (count - 1) + b".",
            b"}" + b"".join(text_code("x") + b"}" for _ in range(count // 10)) + b"s" * (count // 10) + b".",
            b"N" + b"\x85" * count + b".",
            b"Nq\0" + b"h\0h\0\x86q\0" * 100 + b".",
            listed + (b"ccollections\nOrderedDict\nh\0\x85R") * 2000 + b".",
            b"(" + b"K\1" * count + b"tq\0" + b"ctorch\nSize\nh\0\x85R" * 2000 + b".",
            b"(" + b"N" * count,
            b"N" * count + b".",
            b"}" + b"(" * count + b"u" * count + b".",
        )
    )


def _huge(random: Random, _canary: str) -> bytes:
    size = random.choice((2**31 - 1, 2**32 - 1))
    return b"\x80\x02" + random.choice(
        (
            b"\x8b" + struct.pack("<I", size) + b"\xff" * 100 + b".",
            b"\x8a\xff" + b"\xff" * 255 + b".",
            b"X" + struct.pack("<I", size) + b"x.",
            b"\x8d" + struct.pack("<Q", 2**63) + b"x.",
            b"\x8e" + struct.pack("<Q", 2**63) + b"x.",
            b"B" + struct.pack("<I", size) + b"x.",
            b"\x95" + struct.pack("<Q", 2**64 - 1) + b"N.",
            b"I" + b"9" * random.choice((10, 10_000, 100_000)) + b"\n.",
            b"L" + b"9" * random.choice((10, 10_000, 100_000)) + b"L\n.",
            b"c" + b"x" * 10_000,
            b"F1e999999\n.",
        )
    )


def _registry(random: Random, canary: str) -> bytes:
    """Extensions, buffers and text identities."""
    return b"\x80\x02" + random.choice(
        (
            b"\x82\x01" + command(random, canary) + b"\x85R.",
            b"\x83\x01\x02.",
            b"\x84" + struct.pack("<i", random.choice((0, 1, -1, 2**31 - 1))) + b".",
            b"Pstorage\n.",
            b"\x97.",
            b"\x97\x98.",
            f"(S'touch {canary}'\niposix\nsystem\n.".encode(),
            b"\x80\x02\x80\x02N.",
            b"(1N.",
            b"N2\x86.",
        )
    )


def _end(random: Random, _canary: str) -> bytes:
    """Something behind the end, or no end."""
    good = Program().state_dict([TENSOR]).code
    return random.choice(
        (good + b"cposix\nsystem\n.", good + b"\0", good[:-1], good[:-1] + b"N.", good[:2] + b"." + good[2:], b"", b".")
    )


def _soup(random: Random, _canary: str) -> bytes:
    """Any opcodes with any arguments."""
    codes = [op.code.encode("latin-1") for op in pickletools.opcodes]
    return b"\x80\x02" + b"".join(
        random.choice(codes) + random.randbytes(random.choice((0, 0, 0, 1, 2, 4, 8)))
        for _ in range(random.randrange(80))
    )


def _mutant(random: Random, _canary: str) -> bytes:
    """A good checkpoint with bytes changed, taken away or put in."""
    code = bytearray(Program().state_dict([TENSOR, TENSOR]).code)
    for _ in range(random.randrange(1, 4)):
        place = random.randrange(len(code))
        change = random.randrange(3)
        if change == 0:
            code[place] = random.randrange(256)
        elif change == 1:
            del code[place : place + random.randrange(1, 5)]
        else:
            code[place:place] = random.randbytes(random.randrange(1, 5))
    return bytes(code)


ATTACKS: tuple[Callable[[Random, str], bytes], ...] = (
    _call, _call, _call_inside, _call_inside, _chain, _misuse, _misuse, _storage, _memo, _deep, _huge, _registry,
    _end, _soup, _mutant, _mutant,
)  # fmt: skip
RUNNING = ("_call", "_call_inside", "_chain")  # those that must be refused by name


def hostile_pickles(count: int, seed: int, canary: str) -> Iterator[tuple[str, bytes]]:
    """`count` pickles, each with the name of its attack; equal for equal arguments."""
    for place in range(count):
        random = Random(f"{seed}/{place}")
        attack = ATTACKS[place % len(ATTACKS)]
        yield f"{place}: {attack.__name__}", attack(random, canary)
