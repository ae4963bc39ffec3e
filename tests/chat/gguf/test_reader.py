"""The header of GGUF files: what is read, what is refused and with which message, how fast."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import gguf
import pytest

from chat.errors import ChatError, DataError, FileError, ModelError
from chat.gguf import cursor
from chat.gguf.reader import TensorInfo, read_gguf
from chat.gguf.types import BLOCK_TYPES
from tests.chat.gguf import gguf_samples as samples
from tests.chat.gguf.gguf_sketch import ARRAY, STRING, Sketch, Tensor, encode, sketch
from tests.grids import FULL

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MOST = cursor.MAX_ITEMS - 8  # items of an array, less those that the sketch holds
INCOMPLETE = "the download may be incomplete: fetch the file again"


def small() -> Sketch:
    """The least file with a key of every type and two tensors."""
    file = Sketch(keys=[], tensors=[Tensor(b"a", [32, 2], 0, bytes(256)), Tensor(b"b", [32], 8, bytes(34))])
    file.set("general.architecture", STRING, "odd")
    for kind, value in {
        0: 255,
        1: -1,
        2: 65535,
        3: -2,
        4: 2**32 - 1,
        5: -3,
        6: 0.5,
        7: 1,
        10: 2**64 - 1,
        11: -4,
    }.items():
        file.set(f"odd.value{kind}", kind, value)
    file.set("odd.value12", 12, 0.1)
    file.set("odd.texts", ARRAY, (STRING, ["", "é", "x" * 200]))
    file.set("odd.floats", ARRAY, (6, [0.25, -1.0]))
    file.set("odd.truths", ARRAY, (7, [1, 0]))
    file.set("odd.none", ARRAY, (4, []))
    return file


def written(tmp_path: Path, file: Sketch) -> Path:
    """The sketch as a file."""
    path = tmp_path / "m.gguf"
    path.write_bytes(file.pack())
    return path


def refusal(path: Path) -> str:
    """The words in which a file is refused, after its name."""
    with pytest.raises(ChatError) as caught:
        read_gguf(path)
    start = f"{path}: "
    assert caught.value.message.startswith(start)
    return caught.value.message.removeprefix(start)


def test_every_type_of_value_is_read_as_written(tmp_path: Path) -> None:
    file = read_gguf(written(tmp_path, small()))
    assert dict(file.metadata) == {
        "general.architecture": "odd",
        "odd.value0": 255,
        "odd.value1": -1,
        "odd.value2": 65535,
        "odd.value3": -2,
        "odd.value4": 2**32 - 1,
        "odd.value5": -3,
        "odd.value6": 0.5,
        "odd.value7": True,
        "odd.value10": 2**64 - 1,
        "odd.value11": -4,
        "odd.value12": 0.1,
        "odd.texts": ("", "é", "x" * 200),
        "odd.floats": (0.25, -1.0),
        "odd.truths": (True, False),
        "odd.none": (),
    }
    assert list(file.types.values()) == [
        *("str", "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "u64", "i64", "f64"),
        *("[str]", "[f32]", "[bool]", "[u32]"),
    ]
    assert dict(file.tensors) == {
        "a": TensorInfo("a", (32, 2), "F32", file.data_offset, 256),
        "b": TensorInfo("b", (32,), "Q8_0", file.data_offset + 256, 34),
    }
    assert (file.version, file.alignment, file.data_offset % 32) == (3, 32, 0)
    assert file.size == file.path.stat().st_size == file.data_offset + 256 + 64
    assert file.key("value5") == -3
    assert file.key("nothing", "usual") == "usual"


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_agrees_with_gguf_py_on_every_sample(name: str, tmp_path: Path) -> None:
    path = samples.SAMPLES[name](tmp_path / "m.gguf")
    mine, theirs = read_gguf(path), gguf.GGUFReader(path)
    for key, value in mine.metadata.items():
        other = theirs.fields[key].contents()
        assert (list(value) if isinstance(other, list) else value) == other
    assert set(mine.metadata) == {key for key in theirs.fields if not key.startswith("GGUF.")}
    assert [(t.name, t.shape, t.type, t.offset, t.bytes) for t in mine.tensors.values()] == [
        (t.name, tuple(map(int, t.shape)), t.tensor_type.name, int(t.data_offset), int(t.n_bytes))
        for t in theirs.tensors
    ]


def test_block_sizes_are_those_of_the_engine() -> None:
    ctypes = pytest.importorskip("ctypes")
    llama_cpp = pytest.importorskip("llama_cpp")
    folder = os.path.join(os.path.dirname(llama_cpp.__file__), "lib")  # noqa: PTH118, PTH120
    names = [name for name in os.listdir(folder) if "ggml-base" in name]  # noqa: PTH208
    base = ctypes.CDLL(os.path.join(folder, names[0]))  # noqa: PTH118
    base.ggml_type_size.restype = ctypes.c_size_t
    base.ggml_blck_size.restype = ctypes.c_int64
    engine = {number: (base.ggml_blck_size(number), base.ggml_type_size(number)) for number in range(43)}
    mine = {number: (kind.block_size, kind.block_bytes) for number, kind in BLOCK_TYPES.items()}
    assert mine == {number: sizes for number, sizes in engine.items() if sizes[0]}


def test_a_version_2_file_reads_like_version_3(tmp_path: Path) -> None:
    file = small()
    file.version = 2
    assert read_gguf(written(tmp_path, file)).version == 2


def test_properties_of_a_model(tmp_path: Path) -> None:
    plain = read_gguf(samples.llama(tmp_path / "a.gguf"))
    assert (plain.architecture, plain.type_name, plain.window, plain.vocabulary_size) == ("llama", "F32", None, 270)
    windowed = read_gguf(samples.windowed(tmp_path / "b.gguf"))
    assert (windowed.architecture, windowed.type_name, windowed.window) == ("granite_swa", "Q8_0", samples.WINDOW)


def test_type_name_without_the_key_is_what_most_bytes_have(tmp_path: Path) -> None:
    file = sketch(samples.mixtral(tmp_path / "a.gguf").read_bytes())
    file.drop("general.file_type")
    assert read_gguf(written(tmp_path, file)).type_name == "Q4_0"


def test_type_name_counts_all_tensors_of_a_type(tmp_path: Path) -> None:
    """The largest tensor alone does not decide."""
    single = [Tensor(b"a", [32], 0, bytes(128))]
    halves = [Tensor(name, [48], 1, bytes(96)) for name in (b"b", b"c")]
    file = Sketch(keys=[], tensors=[*single, *halves])
    file.set("general.architecture", STRING, "llama")
    assert read_gguf(written(tmp_path, file)).type_name == "F16"


@pytest.mark.parametrize(("window", "applied"), [(0, None), (1, 1), (7, 7)])
def test_a_window_of_no_token_is_none(window: int, applied: int | None, tmp_path: Path) -> None:
    file = Sketch(keys=[], tensors=[])
    file.set("general.architecture", STRING, "gemma3")
    file.set("gemma3.attention.sliding_window", 4, window)
    assert read_gguf(written(tmp_path, file)).window == applied


def test_properties_survive_keys_of_the_wrong_type(tmp_path: Path) -> None:
    file = sketch(samples.windowed(tmp_path / "a.gguf").read_bytes())
    file.set("granite_swa.attention.sliding_window", STRING, "many")
    file.set("general.file_type", STRING, "Q4_K_M")
    file.set("tokenizer.ggml.tokens", 4, 7)
    file.set("granite_swa.vocab_size", STRING, "x")
    read = read_gguf(written(tmp_path, file))
    assert (read.window, read.type_name, read.vocabulary_size) == (None, "Q8_0", 0)


def test_strings_longer_than_the_first_read_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursor, "FIRST_READ_BYTES", 16)
    file = small()
    texts = [f"{number} é" * (number % 40) for number in range(500)]
    file.set("odd.texts", ARRAY, (STRING, texts))
    read = read_gguf(written(tmp_path, file)).metadata["odd.texts"]
    assert read == texts
    assert (len(read), read[7], read[-1], read[1:3], list(read)) == (500, texts[7], texts[-1], tuple(texts[1:3]), texts)


def test_missing_and_odd_paths_are_model_errors(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no such file"):
        read_gguf(tmp_path / "no.gguf")
    with pytest.raises(ModelError, match="is a folder, not a GGUF file"):
        read_gguf(tmp_path)
    with pytest.raises(ModelError, match="is not a file name"):
        read_gguf("a\0b")
    with pytest.raises(ModelError, match="there is no such file"):
        read_gguf(written(tmp_path, small()) / "below")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_fifo_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe") == "is not a regular file, not a GGUF file"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_a_file_that_may_not_be_read_is_a_file_error(tmp_path: Path) -> None:
    path = written(tmp_path, small())
    path.chmod(0)
    with pytest.raises(FileError, match="cannot be read: Permission denied"):
        read_gguf(path)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"", "is not a GGUF file but an empty file"),
        (b"GGU", "is not a GGUF file but something that starts with b'GGU'"),
        (b"<!DOCTYPE html><html>", "is not a GGUF file but a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is not a GGUF file but a Git LFS pointer"),
        (b"PK\x03\x04" + bytes(60), "is not a GGUF file but a checkpoint"),
        (b"\x40\0\0\0\0\0\0\0{}", "is not a GGUF file but a checkpoint"),
        (b"\x80\x02" + bytes(60), "is not a GGUF file but something that starts with b'\\x80\\x02\\x00\\x00'"),
    ],
)
def test_what_is_no_gguf_is_named_for_what_it_looks_like(start: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(start)
    assert refusal(tmp_path / "m.gguf") == words
    with pytest.raises(ModelError):
        read_gguf(tmp_path / "m.gguf")


def test_every_truncation_is_refused_as_incomplete(tmp_path: Path) -> None:
    whole = small().pack()
    path = tmp_path / "m.gguf"
    for length in range(4, len(whole) - 30, 1 if FULL else 5):  # the last tensor's padding need not be there
        path.write_bytes(whole[:length])
        with pytest.raises(DataError) as caught:
            read_gguf(path)
        assert caught.value.hint == INCOMPLETE, (length, caught.value.message)


def broken(words: str, **parts: object) -> tuple[str, Callable[[Sketch], None]]:
    """A refusal, and the part of the file that is set to bring it about."""

    def apply(file: Sketch) -> None:
        for part, value in parts.items():
            owner: object = file
            *names, last = part.split("__")
            for name in names:
                owner = {"t0": file.tensors[0], "t1": file.tensors[1], "k0": file.keys[0], "k1": file.keys[1]}[name]
            setattr(owner, last, value)

    return words, apply


MANY = encode(ARRAY, (4, []))[:4] + (2**40).to_bytes(8, "little")
FRAMING = [
    broken("has GGUF version 1, but only 2 and 3 are known", version=1),
    broken("has GGUF version 4, but only 2 and 3 are known", version=4),
    broken("is a big-endian GGUF file, which llama.cpp cannot read here", version=0x03000000),
    broken("claims 9223372036854775807 tensors, but the limit is 65536", tensor_count=2**63 - 1),
    broken("claims 18446744073709551615 keys, but the limit is 65536", key_count=2**64 - 1),
    broken("claims 65000 keys, but only 1096 bytes follow", key_count=65000),
    broken("claims 65000 tensors, but only 1096 bytes follow", tensor_count=65000),
    broken("key 0 has the name '', which is empty or holds a NUL", k0__name=b""),
    broken("key 0 has the name 'a\\x00b', which is empty or holds a NUL", k0__name=b"a\0b"),
    broken("key 'general.architecture' appears twice", k1__name=b"general.architecture"),
    broken("the name of key 0 is not UTF-8 (byte 1)", k0__name=b"a\xff"),
    broken("the name of key 0 is 70000 bytes long, but the limit is 65535", k0__name=b"x" * 70_000),
    broken("key 'odd.value0' has value type 13, but the last one known is 12", k1__kind=13),
    broken(
        "key 'odd.value0' is an array of arrays, which llama.cpp cannot read", k1__kind=9, k1__raw=b"\x09" + bytes(11)
    ),
    broken(
        "key 'odd.value0' is an array of value type 77, but the last one known is 12",
        k1__kind=9,
        k1__raw=b"\x4d" + bytes(11),
    ),
    broken(
        "key 'odd.value0' brings the array items to 1099511627776, but the limit is 4194304", k1__kind=9, k1__raw=MANY
    ),
    broken("key 'odd.value0' is bool, but holds 2", k1__kind=7, k1__raw=b"\2"),
    broken("key 'odd.value0' is bool, but holds 255", k1__kind=9, k1__raw=encode(ARRAY, (7, [1, 255]))),
    broken("key 'odd.value0' is not UTF-8 (byte 0)", k1__kind=8, k1__raw=encode(STRING, b"\1" + bytes(7) + b"\xff")),
    broken(
        "key 'odd.value0' is not UTF-8 (byte 118 of the file)",
        k1__kind=9,
        k1__raw=encode(ARRAY, (STRING, ["a", "?"]))[:-1] + b"\xff",
    ),
    broken(
        "key 'odd.value0' is not UTF-8 (byte 317 of the file)",
        k1__kind=9,
        k1__raw=encode(ARRAY, (STRING, ["é" * 100, "?"]))[:-1] + b"\xff",
    ),
    broken(
        "key 'odd.value0' is not UTF-8 (byte 109 of the file)",  # its last byte and the next length would be one letter
        k1__kind=9,
        k1__raw=encode(ARRAY, (STRING, ["?", "x" * 0xA9])).replace(b"?", b"\xc3"),
    ),
    broken("tensor 'a' has 5 dimensions, but the limit is 4", t0__dimensions=5),
    broken("tensor 'a' has type 4, which llama.cpp does not know or no longer knows", t0__kind=4),
    broken("tensor 'a' has type 4294967295, which llama.cpp does not know or no longer knows", t0__kind=-1),
    broken("tensor 'a' has shape [32, 0]: a dimension is 0", t0__shape=[32, 0]),
    broken("tensor 'b' has 33 columns, but Q8_0 needs a multiple of 32", t1__shape=[33]),
    broken("tensor 'b' is at offset 128 of the data, but the one before it ends at 256", t1__offset=128),
    broken("tensor 'b' is at offset 288 of the data, but the one before it ends at 256", t1__offset=288),
    broken("tensor 'a' appears twice", t1__name=b"a"),
    broken("tensor 1 has the name '', which is empty or holds a NUL", t1__name=b""),
    broken("tensor 1 has the name 'a\\x00', which is empty or holds a NUL", t1__name=b"a\0"),
    broken(f"tensor '{'é' * 32}' has a name of 64 bytes, but the limit is 63", t1__name="é".encode() * 32),
    broken(
        "tensor 'b' ends at byte 1180591620717411304512, but the file ends at 1152", t1__shape=[2**63, 32], t1__kind=0
    ),
]


@pytest.mark.parametrize(("words", "apply"), FRAMING, ids=[words[:60] for words, _ in FRAMING])
def test_each_rule_of_framing_has_its_words(words: str, apply: Callable[[Sketch], None], tmp_path: Path) -> None:
    file = small()
    apply(file)
    assert refusal(written(tmp_path, file)) == words


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        (10, 32, "key 'general.alignment' is u64, but must be u32"),
        (4, 0, "key 'general.alignment' is 0, but must be a power of two"),
        (4, 48, "key 'general.alignment' is 48, but must be a power of two"),
        (4, 2**31, "ends at byte 2147483904, but the file ends at 1152"),
    ],
)
def test_alignment_must_be_a_power_of_two(kind: int, value: int, words: str, tmp_path: Path) -> None:
    file = small()
    file.set("general.alignment", kind, value)
    assert words in refusal(written(tmp_path, file))


def test_a_tensor_off_the_boundary_that_llama_cpp_asserts_is_refused(tmp_path: Path) -> None:
    file = small()
    file.set("general.alignment", 4, 1)
    file.alignment = 1
    file.set("odd.name", STRING, "x")
    assert "which is not a multiple of 32" in refusal(written(tmp_path, file))


def test_names_in_messages_cannot_steer_a_terminal(tmp_path: Path) -> None:
    file = small()
    file.tensors[0].name = b"\x1b[2J\xc2\x9b1m\xe2\x80\xae" + b"y" * 9
    file.tensors[0].kind = 99
    words = refusal(written(tmp_path, file))
    assert words == (
        "tensor '\\x1b[2J\\x9b1m\\u202eyyyyyyyyy' has type 99, which llama.cpp does not know or no longer knows"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on memory and sparse files")
@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (ARRAY, struct.pack("<IQ", STRING, MOST)),
        (ARRAY, struct.pack("<IQ", 12, MOST)),
        (ARRAY, struct.pack("<IQ", 7, MOST)),
        (STRING, struct.pack("<Q", 127 << 20)),
    ],
    ids=["strings", "numbers", "truths", "text"],
)
@pytest.mark.slow
def test_a_sparse_terabyte_of_zeros_costs_neither_time_nor_memory(kind: int, raw: bytes, tmp_path: Path) -> None:
    """The most that a header may claim, in a file that is long enough for it: two seconds and a gigabyte are plenty."""
    file = small()
    file.keys[1].kind, file.keys[1].raw = kind, raw
    path = written(tmp_path, file)
    head = path.read_bytes().index(raw) + len(raw)
    with path.open("r+b") as opened:
        opened.truncate(head)
        opened.truncate(1 << 40)
    code = (
        "import resource, sys, time; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30));"
        "from chat.errors import DataError; from chat.gguf.reader import read_gguf;"
        "started = time.process_time()\n"
        "try: read_gguf(sys.argv[1])\n"
        "except DataError as error: print(time.process_time() - started, error)"
    )
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    seconds, _, words = run.stdout.partition(" ")
    assert "has the name '', which is empty or holds a NUL" in words, run.stderr
    assert float(seconds) < 2


def test_the_header_of_a_sparse_file_has_a_limit(tmp_path: Path) -> None:
    file = small()
    file.keys[-1].kind, file.keys[-1].raw = STRING, (1 << 39).to_bytes(8, "little")
    path = written(tmp_path, file)
    with path.open("r+b") as opened:
        opened.truncate(1 << 40)
    assert "bytes long, but the limit is 134217728" in refusal(path)


@pytest.mark.parametrize(("pieces", "merges"), [(32_768, 0), (65_536 if FULL else 40_000, 130_000 if FULL else 60_000)])
@pytest.mark.slow
def test_long_pieces_do_not_slow_down_the_others(pieces: int, merges: int, tmp_path: Path) -> None:
    """A single piece of over 127 bytes once made the reader look at all 400,000 strings one by one: 0.8 s, not 0.2."""
    path = samples.large(tmp_path / "m.gguf", pieces, merges)
    plain = samples.large(tmp_path / "plain.gguf", pieces, merges, long=0)
    rounds = [(_seconds(path), _seconds(plain)) for _ in range(3)]
    with_long, without = map(min, zip(*rounds, strict=True))
    print(f"{pieces} pieces in {with_long * 1000:.0f} ms, without long ones in {without * 1000:.0f} ms")
    assert with_long < 2 * without
    read = read_gguf(path)
    assert read.metadata["tokenizer.ggml.tokens"][7] == "Ġpiece7" + "Ġ" * 80
    assert read.metadata["tokenizer.ggml.tokens"][pieces - 1] == f"Ġpiece{pieces - 1}"


def _seconds(path: Path) -> float:
    """Of this process alone: other work on the machine must not fail the test."""
    started = time.process_time()
    read_gguf(path)
    return time.process_time() - started


def test_importing_loads_no_heavy_library() -> None:
    code = (
        "import sys, chat.gguf.validate_model, chat.gguf.reader;"
        "print([name for name in ('numpy', 'gguf', 'llama_cpp', 'mmap') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
