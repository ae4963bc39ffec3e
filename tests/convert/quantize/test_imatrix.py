"""Importance matrices and `--tensor-type`: every byte is llama-quantize's, and broken files are refused."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat.errors import ChatError, DataError, ModelError, UsageError
from chat.gguf.reader import read_gguf
from convert.draft import ConversionOptions
from convert.pipeline import convert
from convert.quantize.imatrix import read_imatrix
from convert.quantize.recipes import RECIPES
from convert.quantize.type_overrides import read_override
from tests.convert.imatrix_files import Measured, measure, plain_means, write_gguf, write_legacy
from tests.convert.samples import Sizes, make_checkpoint, quantizable_checkpoint, tensor_bytes
from tests.grids import FULL
from tests.program import run_command

MODELS = {
    "nine layers, wide groups": Sizes(layers=9, width=256, heads=8, kv_heads=2, hidden=256),
    "eight experts": Sizes(layers=2, hidden=256, experts=8),
    "four experts": Sizes(layers=2, hidden=256, experts=4),
    "tied": Sizes(layers=2, is_tied=True),
    "columns of 32 but not of 256": Sizes(layers=2, width=320, heads=4, kv_heads=2, hidden=352),
    "columns of nothing": Sizes(layers=2, width=336, heads=4, kv_heads=1, head_dim=32, hidden=368),
}
WITHOUT_OWN_RULES = {"four experts": "IQ4_XS", "tied": "IQ4_XS"}  # the slowest type, chosen there as in other models
RECIPES_TRIED = ("Q4_0", "Q4_K_M", "IQ4_XS") + (("Q4_K_S", "Q5_K_M", "Q6_K", "Q8_0") if FULL else ())

# llama_model_quantize aborts or throws on what it does not like: a process of its own
LLAMA_QUANTIZE = """
import ctypes, json, sys, llama_cpp as L
quiet = L.llama_log_callback(lambda *_: None)
L.llama_log_set(quiet, None)
work = json.load(sys.stdin)
held = [(name.encode(), (ctypes.c_float * len(values))(*values)) for name, values in work["importance"].items()]
matrix = (L.llama_model_imatrix_data * (len(held) + 1))()
for entry, (name, values) in zip(matrix, held):
    entry.name, entry.data, entry.size = name, values, len(values)
overrides = (L.llama_model_tensor_override * (len(work["overrides"]) + 1))()
for entry, (pattern, kind) in zip(overrides, work["overrides"]):
    entry.pattern, entry.type = pattern.encode(), kind
for target, file_type in work["targets"].items():
    params = L.llama_model_quantize_default_params()
    params.ftype, params.nthread, params.allow_requantize = file_type, 1, True
    if held:
        params.imatrix = matrix
    if work["overrides"]:
        params.tt_overrides = overrides
    if L.llama_model_quantize(work["source"].encode(), target.encode(), ctypes.byref(params)):
        sys.exit(f"cannot quantize to {target}")
"""


def run_llama_quantize(source: Path, targets: dict[Path, str], **work: Any) -> None:
    """Have llama.cpp quantize a GGUF."""
    kinds = {str(path): RECIPES[name].file_type for path, name in targets.items()}
    text = json.dumps({"source": str(source), "targets": kinds, "importance": {}, "overrides": [], **work})
    done = run_command([sys.executable, "-c", LLAMA_QUANTIZE], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def assert_same(ours: Path, theirs: Path) -> None:
    made, made_bytes = tensor_bytes(ours)
    expected, expected_bytes = tensor_bytes(theirs)
    types = {name: info.type for name, info in expected.tensors.items()}
    assert {name: info.type for name, info in made.tensors.items()} == types
    assert list(made_bytes) == list(expected_bytes)
    assert {name for name in made_bytes if made_bytes[name] != expected_bytes[name]} == set()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.slow
def test_every_recipe_gives_the_bytes_of_llama_quantize_with_the_same_matrix(model: str, tmp_path: Path) -> None:
    folder = quantizable_checkpoint(tmp_path / "model", MODELS[model])
    full = tmp_path / "full.gguf"
    convert(ConversionOptions(folder, full, "BF16", verify=False))
    measured = measure(full)
    imatrix = write_gguf(tmp_path / "imatrix.gguf", measured)
    names = [name for name in RECIPES_TRIED if FULL or name != WITHOUT_OWN_RULES.get(model)]
    for name in names:
        convert(ConversionOptions(folder, tmp_path / f"ours-{name}.gguf", name, verify=False, imatrix=imatrix))
    theirs = {tmp_path / f"theirs-{name}.gguf": name for name in names}
    run_llama_quantize(full, theirs, importance=plain_means(measured))
    for name in names:
        assert_same(tmp_path / f"ours-{name}.gguf", tmp_path / f"theirs-{name}.gguf")


def test_the_matrix_changes_what_is_written_and_the_file_says_which_it_was(tmp_path: Path) -> None:
    folder, full = make_checkpoint(tmp_path / "model"), tmp_path / "full.gguf"
    convert(ConversionOptions(folder, full, "BF16", verify=False))
    measured = measure(full)
    imatrix = write_gguf(tmp_path / "i.gguf", measured, ("calibration.txt", "second"))
    convert(ConversionOptions(folder, tmp_path / "plain.gguf"))
    convert(ConversionOptions(folder, tmp_path / "with.gguf", imatrix=imatrix))
    plain, with_matrix = tensor_bytes(tmp_path / "plain.gguf")[1], tensor_bytes(tmp_path / "with.gguf")[1]
    assert {name for name in plain if plain[name] != with_matrix[name]} == {
        name for name in measured if not name.endswith("norm.weight")
    }
    keys = read_gguf(tmp_path / "with.gguf").metadata
    assert list(keys.items())[-6:] == [
        ("general.quantization_version", 2),
        ("general.file_type", 15),
        ("quantize.imatrix.file", str(imatrix)[:127]),
        ("quantize.imatrix.dataset", "calibration.txt"),
        ("quantize.imatrix.entries_count", len(measured)),
        ("quantize.imatrix.chunks_count", 12),
    ]


@pytest.mark.parametrize("tail", [None, (12, b"wiki.txt"), (12, b"")])
def test_the_older_format_holds_the_same(tail: tuple[int, bytes] | None, tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    sums = {f"blk.{n}.attn_q.weight": generator.random(64, dtype=np.float32) for n in range(3)}
    found = read_imatrix(write_legacy(tmp_path / "i.dat", sums, 7, tail))
    assert {name: values.tolist() for name, values in found.values.items()} == {
        name: [float(x / np.float32(7)) for x in values] for name, values in sums.items()
    }
    assert (found.chunks, found.dataset) == ((tail[0], tail[1].decode() or None) if tail else (0, None))
    uncounted = read_imatrix(write_legacy(tmp_path / "u.dat", sums, 0, tail))
    assert {name: values.tolist() for name, values in uncounted.values.items()} == {
        name: values.tolist() for name, values in sums.items()
    }


def test_an_expert_that_was_never_asked_counts_every_column_alike(tmp_path: Path) -> None:
    sums = np.array([[2, 4], [0, 0], [9, 3]], dtype=np.float32)
    path = write_gguf(tmp_path / "i.gguf", {"blk.0.ffn_up_exps.weight": Measured(sums, (2, 0, 3))})
    assert read_imatrix(path).values["blk.0.ffn_up_exps.weight"].tolist() == [1, 2, 1, 1, 3, 1]


def test_a_matrix_of_another_model_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    small, large = make_checkpoint(tmp_path / "small"), make_checkpoint(tmp_path / "large", Sizes(width=512))
    convert(ConversionOptions(large, tmp_path / "large.gguf", "BF16", verify=False))
    imatrix = write_gguf(tmp_path / "i.gguf", measure(tmp_path / "large.gguf"))
    with pytest.raises(DataError, match=r"i\.gguf: has 512 numbers for `blk\.0\.attn_k\.weight`, which needs 256"):
        convert(ConversionOptions(small, tmp_path / "out.gguf", imatrix=imatrix))
    assert not (tmp_path / "out.gguf").exists()


def test_tensors_that_the_matrix_lacks_are_told(tmp_path: Path) -> None:
    folder, full = make_checkpoint(tmp_path / "model"), tmp_path / "full.gguf"
    convert(ConversionOptions(folder, full, "BF16", verify=False))
    measured = measure(full)
    del measured["blk.1.attn_q.weight"]
    imatrix = write_gguf(tmp_path / "i.gguf", measured)
    report = convert(ConversionOptions(folder, tmp_path / "out.gguf", imatrix=imatrix))
    assert report.warnings == (f"{imatrix}: says nothing of `blk.1.attn_q.weight`",)


def legacy(count: int = 1, name: bytes = b"a", calls: int = 1, size: int = 1, data: bytes = bytes(4)) -> bytes:
    return struct.pack("<ii", count, len(name)) + name + struct.pack("<ii", calls, size) + data


@pytest.mark.parametrize(
    ("raw", "error", "words"),
    [
        (b"", DataError, "is not an importance matrix, or damaged at byte 0"),
        (b"PK\3\4" + bytes(100), DataError, "is not an importance matrix: it claims 67324752 entries"),
        (legacy(count=0), DataError, "claims 0 entries"),
        (legacy(count=2), DataError, "damaged at byte 21"),
        (legacy(name=b"x" * 2000), DataError, "damaged at byte 8"),
        (struct.pack("<ii", 1, -1), DataError, "damaged at byte 8"),
        (legacy(size=0), DataError, "`a` has 0 numbers"),
        (legacy(size=-5), DataError, "`a` has -5 numbers"),
        (legacy(size=1 << 30), DataError, "damaged at byte 17"),
        (legacy(data=struct.pack("<f", float("nan"))), DataError, "`a` holds a number that is negative or not finite"),
        (legacy(data=struct.pack("<f", float("inf"))), DataError, "`a` holds a number that is negative or not finite"),
        (legacy(data=struct.pack("<f", -1)), DataError, "`a` holds a number that is negative or not finite"),
        (legacy() + b"\1", DataError, "damaged at byte 21"),
        (b"GGUF" + bytes(20), ChatError, "has GGUF version 0"),
    ],
)
def test_what_is_no_importance_matrix_is_refused(
    raw: bytes, error: type[ChatError], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "i.dat"
    path.write_bytes(raw)
    with pytest.raises(error, match=words):
        read_imatrix(path)


def test_a_gguf_that_is_none_or_lacks_a_half_is_refused(tmp_path: Path) -> None:
    folder, full = make_checkpoint(tmp_path / "model"), tmp_path / "full.gguf"
    convert(ConversionOptions(folder, full, "Q8_0", verify=False))
    with pytest.raises(ModelError, match=r"is a GGUF but no importance matrix: the key 'imatrix\.datasets' is missing"):
        read_imatrix(full)
    good = write_gguf(tmp_path / "i.gguf", {"blk.0.attn_q.weight": Measured(np.ones((1, 8), np.float32), (3,))})
    good.write_bytes(good.read_bytes().replace(b".counts", b".cOunts"))
    with pytest.raises(DataError, match=r"has only one of `\.in_sum2` and `\.counts`"):
        read_imatrix(good)
    with pytest.raises(ModelError, match=r"none\.dat: no such file"):
        read_imatrix(tmp_path / "none.dat")
    with pytest.raises(ModelError, match="is not a file"):
        read_imatrix(tmp_path)


OVERRIDES = {
    "the first that matches counts": ("attn_k=Q8_0", "attn_=q6_k"),
    "an overridden layer does not count for the rules": (r"blk\.[01]\.(attn_v|ffn_down)=Q4_0",),
    "embeddings and output too": ("token_embd=Q4_1", "^output=BF16"),
    "upper case": ("ATTN_Q=IQ4_NL", "FFN_(UP|GATE)=F16"),
    "what does not fit falls back": (r"blk\.1=Q6_K", "ffn_norm=Q8_0", "ffn_gate_inp=Q8_0"),
}


@pytest.mark.parametrize("model", ["nine layers, wide groups", "eight experts", "columns of 32 but not of 256"])
@pytest.mark.slow
def test_types_of_ones_own_give_the_bytes_of_llama_quantize(model: str, tmp_path: Path) -> None:
    folder = quantizable_checkpoint(tmp_path / "model", MODELS[model])
    full = tmp_path / "full.gguf"
    convert(ConversionOptions(folder, full, "BF16", verify=False))
    for number, texts in enumerate(OVERRIDES.values()):
        pairs = [(text.partition("=")[0].lower(), read_override(text).type.ggml_id) for text in texts]
        theirs = {
            tmp_path / f"{number}-{name}.gguf": name
            for name in (("Q4_K_M", "Q4_K_S", "IQ4_XS") if FULL else ("Q4_K_M",))
        }
        run_llama_quantize(full, theirs, overrides=pairs)
        for path, name in theirs.items():
            ours = tmp_path / f"ours-{path.name}"
            convert(ConversionOptions(folder, ours, name, verify=False, tensor_types=texts))
            assert_same(ours, path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("attn_v", "is not of the form REGEX=TYPE"),
        ("=Q8_0", "is not of the form REGEX=TYPE"),
        ("attn_v=Q9", "unknown type `Q9`"),
        ("attn_v=", "unknown type ``"),
        ("attn_(v=Q8_0", "the pattern is wrong: missing "),
        ("a" * 501 + "=Q8_0", "a pattern of 501 characters is longer than 500"),
        ("a{99999999999999999999}=Q8_0", "the pattern is wrong: "),
    ],
)
def test_a_type_that_cannot_be_read_is_a_usage_error(text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_override(text)
    assert words in caught.value.message


def test_a_pattern_that_matches_nothing_is_told(tmp_path: Path) -> None:
    report = convert(
        ConversionOptions(make_checkpoint(tmp_path / "m"), tmp_path / "out.gguf", tensor_types=("attn_x=Q8_0",))
    )
    assert report.warnings == ("`--tensor-type attn_x=Q8_0` matches no tensor",)


@pytest.mark.parametrize("options", [{"tensor_types": ("a=Q8_0",)}, {"imatrix": Path("x.dat")}])
def test_plain_floats_have_no_blocks_to_choose_for(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="goes with a quantized type, not with BF16"):
        convert(ConversionOptions(make_checkpoint(tmp_path / "m"), tmp_path / "out.gguf", "BF16", **options))
