"""A safetensors header is believed only if it follows the format."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from chat.errors import ChatError, DataError
from convert.checkpoint import safetensors_file
from convert.checkpoint.safetensors_file import open_safetensors
from tests.convert.samples import V01, safetensors_bytes
from tests.grids import FULL


def entry(begin: Any = 0, end: Any = 8, dtype: Any = "F32", shape: Any = (2,)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def written(folder: Path, content: bytes) -> Path:
    path = folder / "x.safetensors"
    path.write_bytes(content)
    return path


BAD: list[tuple[str, bytes, str]] = [
    ("empty file", b"", "the file is empty"),
    ("too short", b"\x02\0\0", "3 bytes are too few for a safetensors header"),
    ("header of nothing", safetensors_bytes(b"", b""), "length is 0, but must be between 2 and 100,000,000"),
    ("header of 2^63", safetensors_bytes(b"{}", b"", 1 << 63), "length is 9223372036854775808, but must be"),
    ("header over the limit", safetensors_bytes(b"{}", b"", 100_000_001), "length is 100000001, but must be"),
    ("header cut off", safetensors_bytes(b"{}", b"", 100), r"ends inside its header \(10 of at least 108 bytes\)"),
    ("leading space", safetensors_bytes(b" {}", b""), "does not start with `{`"),
    ("a list", safetensors_bytes(b"[]", b""), "does not start with `{`"),
    ("not UTF-8", safetensors_bytes(b'{"\xff": 1}', b""), r"the header is not UTF-8 \(byte 2\)"),
    ("not JSON", safetensors_bytes(b'{"a": }', b""), r"the header is not JSON \(line 1, column 7"),
    ("text after the object", safetensors_bytes(b"{} {}", b""), "the header is not JSON"),
    ("tensor twice", safetensors_bytes(b'{"a": 1, "a": 1}', b""), "names the key `a` twice"),
    ("field twice", safetensors_bytes(b'{"a": {"dtype": 1, "dtype": 2}}', b""), "names the key `dtype` twice"),
    ("nested too deeply", safetensors_bytes(b'{"a": ' + b"[" * 100_000, b""), "is nested too deeply"),
    ("a number of 5,000 digits", safetensors_bytes(b'{"a": ' + b"9" * 5000 + b"}", b""), "a number that is too long"),
    ("metadata not text", safetensors_bytes({"__metadata__": {"a": 1}}, b""), "`__metadata__` must map names to text"),
    (
        "entry no object",
        safetensors_bytes({"a": 1}, b""),
        "tensor `a`: must have exactly dtype, shape and data_offsets",
    ),
    ("field missing", safetensors_bytes({"a": {"dtype": "F32", "shape": [2]}}, bytes(8)), "must have exactly"),
    ("field too many", safetensors_bytes({"a": {**entry(), "x": 1}}, bytes(8)), "must have exactly"),
    ("unknown dtype", safetensors_bytes({"a": entry(dtype="F31")}, bytes(8)), "tensor `a`: unknown dtype 'F31'"),
    ("dtype no text", safetensors_bytes({"a": entry(dtype=["F32"])}, bytes(8)), "unknown dtype"),
    ("shape negative", safetensors_bytes({"a": entry(shape=[-2])}, bytes(8)), "list of whole numbers from 0"),
    ("shape of floats", safetensors_bytes({"a": entry(shape=[2.0])}, bytes(8)), "list of whole numbers from 0"),
    ("shape of truths", safetensors_bytes({"a": entry(shape=[True, 2])}, bytes(8)), "list of whole numbers from 0"),
    ("shape no list", safetensors_bytes({"a": entry(shape=2)}, bytes(8)), "list of whole numbers from 0"),
    ("shape overflows", safetensors_bytes({"a": entry(shape=[1 << 62, 4])}, bytes(8)), "does not take 8 bytes"),
    ("shape too large", safetensors_bytes({"a": entry(shape=[1 << 64])}, bytes(8)), "list of whole numbers from 0"),
    ("offsets of floats", safetensors_bytes({"a": entry(0.0, 8.0)}, bytes(8)), "two whole numbers from 0"),
    ("offset a truth", safetensors_bytes({"a": entry(False, 8)}, bytes(8)), "two whole numbers from 0"),
    ("offset negative", safetensors_bytes({"a": entry(-8, 0)}, bytes(8)), "two whole numbers from 0"),
    ("three offsets", safetensors_bytes({"a": {**entry(), "data_offsets": [0, 4, 8]}}, bytes(8)), "two whole numbers"),
    ("end before begin", safetensors_bytes({"a": entry(8, 0)}, bytes(8)), "ends at 0 before it begins at 8"),
    ("end past the file", safetensors_bytes({"a": entry(0, 16, shape=[4])}, bytes(8)), "but the file holds 8"),
    (
        "lying dtype",
        safetensors_bytes({"a": entry(dtype="F64")}, bytes(8)),
        r"F64 of shape \[2\] does not take 8 bytes",
    ),
    ("overlap", safetensors_bytes({"a": entry(), "b": entry(4, 12)}, bytes(12)), "`b` overlaps the one before it"),
    ("same bytes twice", safetensors_bytes({"a": entry(), "b": entry()}, bytes(8)), "`b` overlaps the one before it"),
    ("hole", safetensors_bytes({"a": entry(), "b": entry(12, 20)}, bytes(20)), "a hole of 4 bytes before tensor `b`"),
    ("hole at the start", safetensors_bytes({"a": entry(4, 12)}, bytes(12)), "a hole of 4 bytes before tensor `a`"),
    ("trailing bytes", safetensors_bytes({"a": entry()}, bytes(9)), "1 bytes after the last tensor"),
]


@pytest.mark.parametrize(("content", "words"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_an_unlawful_file_is_refused_in_one_sentence_with_its_name(content: bytes, words: str, tmp_path: Path) -> None:
    path = written(tmp_path, content)
    with pytest.raises(DataError, match=words) as caught:
        open_safetensors(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert "\n" not in caught.value.message


@pytest.mark.slow
def test_a_million_entries_are_refused_before_they_are_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = '"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    text = "{" + ",".join(one % number for number in range(1_000_000)) + "}"
    path = written(tmp_path, safetensors_bytes(text.encode(), b""))
    monkeypatch.setattr(safetensors_file, "parse_json_object", lambda *_: pytest.fail("parsed"))
    with pytest.raises(DataError, match="more than 100,000 tensors"):
        open_safetensors(path)


def test_a_fifo_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.safetensors")
    with pytest.raises(DataError, match="is not a regular file"):
        open_safetensors(tmp_path / "x.safetensors")


ODD: dict[str, bytes] = {
    "no tensors": safetensors_bytes({}, b""),
    "padded with spaces": safetensors_bytes(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}     ', bytes(8)),
    "only metadata": safetensors_bytes({"__metadata__": {"format": "pt"}}, b""),
    "empty metadata": safetensors_bytes({"__metadata__": {}, "a": entry()}, bytes(8)),
    "scalar": safetensors_bytes({"a": entry(0, 4, shape=[])}, bytes(4)),
    "empty tensor": safetensors_bytes({"a": entry(0, 0, shape=[0, 5]), "b": entry()}, bytes(8)),
    "empty tensor at the end": safetensors_bytes({"a": entry(), "b": entry(8, 8, shape=[0])}, bytes(8)),
    "another order than the data": safetensors_bytes({"b": entry(8, 16), "a": entry(0, 8)}, bytes(16)),
    "other order of fields": safetensors_bytes(b'{"a":{"data_offsets":[0,8],"shape":[2],"dtype":"F32"}}', bytes(8)),
    "unaligned data": safetensors_bytes({"c": entry(0, 1, "U8", [1]), "a": entry(1, 9)}, bytes(9)),
    "many axes": safetensors_bytes({"a": entry(shape=[1, 1, 2, 1, 1, 1])}, bytes(8)),
    "empty name": safetensors_bytes({"": entry()}, bytes(8)),
    "names of other scripts": safetensors_bytes({"слой.0": entry(), "層\n": entry(8, 16)}, bytes(16)),
    "escaped name": safetensors_bytes(b'{"\\u0061":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
    "line breaks": safetensors_bytes(json.dumps({"a": entry()}, indent=3).encode(), bytes(8)),
} | {
    f"dtype {dtype}": safetensors_bytes({"a": entry(0, size * 2, dtype)}, bytes(size * 2))
    for dtype, size in {"F64": 8, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "U8": 1}.items()
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_but_lawful_file_is_accepted(name: str, tmp_path: Path) -> None:
    file = open_safetensors(written(tmp_path, ODD[name]))
    header = json.loads(ODD[name][8 : 8 + int.from_bytes(ODD[name][:8], "little")])
    header.pop("__metadata__", None)
    assert {tensor: (found.dtype, list(found.shape)) for tensor, found in file.tensors.items()} == {
        tensor: (fields["dtype"], list(fields["shape"])) for tensor, fields in header.items()
    }


def mutants(seed: int) -> bytes:
    """The tiny checkpoint's header with a few bytes, numbers or characters changed, and little data."""
    generator = random.Random(seed)
    raw = (V01 / "model.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = bytearray(raw[8 : 8 + length])
    for _ in range(generator.randint(1, 4)):
        at = generator.randrange(len(header))
        kind = generator.randrange(5)
        if kind == 0:
            header[at] = generator.randrange(256)
        elif kind == 1:
            del header[at : at + generator.randint(1, 40)]
        elif kind == 2:
            header[at:at] = generator.choice(
                [b"-", b"9" * 20, b"null", b"true", b'"', b"[", b"}", b"1e9", b"\\u0000", b"{", b",", b"\xff", b"0.5"]
            )
        elif kind == 3:
            end = at + generator.randint(1, 200)
            header[at:at] = header[at:end]
        else:
            digits = [place for place, byte in enumerate(header) if 48 <= byte <= 57]
            header[generator.choice(digits)] = generator.randrange(48, 58)
    claimed = generator.choice([None, None, None, length, generator.randrange(1 << 20), generator.getrandbits(64)])
    return safetensors_bytes(bytes(header), raw[8 + length :][: generator.choice([0, 100, 1 << 30])], claimed)


@pytest.mark.slow
def test_mutants_are_accepted_whole_or_refused_in_one_sentence(tmp_path: Path) -> None:
    refused = 0
    count = 10_000 if FULL else 400
    for seed in range(count):
        path = written(tmp_path, mutants(seed))
        started = time.process_time()
        try:
            file = open_safetensors(path)
        except ChatError as error:
            refused += 1
            assert error.exit_code == 6, (seed, error.message)
            assert "\n" not in error.message
        else:
            for found in file.tensors.values():
                assert 0 <= found.offset <= found.offset + found.nbytes <= file.file.size, seed
        assert time.process_time() - started < 2, seed
    print(f"{refused} of {count} refused")
    assert refused > count // 2
