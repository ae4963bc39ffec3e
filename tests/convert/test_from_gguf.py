"""A GGUF with its window added or removed equals the file that the checkpoint converts to, byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat.cli.main import run
from chat.errors import ChatError, DataError, FileError, ModelError, UsageError
from chat.gguf.reader import read_gguf
from chat.gguf.validate_model import check_model
from chat.gguf.writer import KeyValue, encode_header
from convert.draft import ConversionOptions
from convert.drafting import make_draft
from convert.native.widen import Numbers
from convert.pipeline import convert
from convert.quantize.kernels import ALL_TYPES, dequantize, quantize
from convert.quantize.recipes import place_tensors
from tests.convert.adapters import linear_modules, pairs_for, write_peft
from tests.convert.imatrix_files import measure, plain_means, write_gguf
from tests.convert.quantize.test_imatrix import assert_same, run_llama_quantize
from tests.convert.samples import (
    V01,
    V03,
    Sizes,
    bfloat16,
    hugging_face_tensors,
    make_checkpoint,
    read_safetensors,
    tensor_bytes,
    with_few_rows,
)
from tests.grids import FULL


def made(source: Path, output: Path, kind: str | None = None, **more: Any) -> Path:
    """A checkpoint or a GGUF as another GGUF, whose bytes the tests compare with others."""
    convert(ConversionOptions(source, output, kind, **{"verify": FULL, **more}))
    return output


def edited(source: Path, output: Path, **changed: KeyValue | None) -> Path:
    """A copy of a GGUF with keys replaced, added (`_` for `.` in their names does not matter) or removed (None)."""
    file, raw = tensor_bytes(source)
    kept = {
        name: KeyValue(name, file.types[name].strip("[]"), value if not _is_array(file, name) else tuple(value))  # type: ignore[arg-type]
        for name, value in file.metadata.items()
    }
    for name, key in changed.items():
        if key is None:
            del kept[name]
        else:
            kept[key.key] = key
    plan = place_tensors("", [(info.name, info.shape[::-1], ALL_TYPES[info.type]) for info in file.tensors.values()])
    data = b"".join(raw[tensor.name] + bytes(-len(raw[tensor.name]) % 32) for tensor in plan.tensors)
    output.write_bytes(encode_header(list(kept.values()), plan.tensors) + data)
    return output


def _is_array(file: Any, name: str) -> bool:
    return bool(file.types[name].startswith("["))


@pytest.mark.parametrize("kind", ["F32", "Q4_K_M", "IQ4_XS"])
@pytest.mark.slow
def test_a_plain_file_gets_its_window_and_is_the_file_that_the_checkpoint_becomes(kind: str, tmp_path: Path) -> None:
    direct = made(V01, tmp_path / "direct.gguf", kind)
    plain = made(V01, tmp_path / "plain.gguf", kind, window="off")
    windowed = made(plain, tmp_path / "windowed.gguf", window="64")
    assert windowed.read_bytes() == direct.read_bytes()
    assert made(direct, tmp_path / "off.gguf", window="off").read_bytes() == plain.read_bytes()


@pytest.mark.parametrize(
    ("kinds", "pattern"), [(None, None), (["sliding_attention", "full_attention"] * 2, (True, False, True, False))]
)
def test_a_window_that_was_left_out_comes_back_as_it_was(
    kinds: list[str] | None, pattern: tuple[bool, ...] | None, tmp_path: Path
) -> None:
    """Ministral's layers differ, which a file without the window must not forget."""
    folder = make_checkpoint(tmp_path / "model", Sizes(layers=4, window=64), layer_types=kinds)
    direct = made(folder, tmp_path / "direct.gguf", "Q8_0")
    plain = made(folder, tmp_path / "plain.gguf", "Q8_0", window="off")
    metadata = read_gguf(plain).metadata
    assert metadata["mistral_chat.sliding_window"] == 64
    assert metadata.get("mistral_chat.sliding_window_pattern") == pattern
    assert made(direct, tmp_path / "off.gguf", window="off").read_bytes() == plain.read_bytes()
    assert made(plain, tmp_path / "auto.gguf").read_bytes() == direct.read_bytes()
    wide = made(plain, tmp_path / "wide.gguf", window="128")
    assert wide.read_bytes() == made(folder, tmp_path / "direct-wide.gguf", "Q8_0", window="128").read_bytes()


def test_a_files_own_window_comes_back_with_another_type_too_unless_it_is_not_wanted(tmp_path: Path) -> None:
    plain = made(V01, tmp_path / "plain.gguf", "BF16", window="off")
    direct = made(V01, tmp_path / "direct.gguf", "Q8_0")
    assert made(plain, tmp_path / "auto.gguf", "Q8_0").read_bytes() == direct.read_bytes()
    off = made(V01, tmp_path / "off.gguf", "Q8_0", window="off")
    assert made(plain, tmp_path / "plain-q8.gguf", "Q8_0", window="off").read_bytes() == off.read_bytes()


@pytest.mark.parametrize(
    ("note", "words"),
    [
        (KeyValue("mistral_chat.sliding_window", "str", "64"), "window' is str, but must be u32"),
        (KeyValue("mistral_chat.sliding_window_pattern", "bool", (True,)), "pattern' has 1 items for 3 layers"),
        (KeyValue("mistral_chat.sliding_window_pattern", "i32", (1, 1, 1)), r"pattern' is \[i32\], but must be \[bool"),
    ],
)
def test_a_note_that_cannot_be_is_refused(note: KeyValue, words: str, tmp_path: Path) -> None:
    plain = made(V01, tmp_path / "plain.gguf", "Q8_0", window="off")
    with pytest.raises(DataError, match=words):
        convert(ConversionOptions(edited(plain, tmp_path / "x.gguf", note=note), tmp_path / "out.gguf"))


def test_another_window_changes_two_keys_and_no_tensor(tmp_path: Path) -> None:
    narrow = made(V01, tmp_path / "narrow.gguf", "Q8_0")
    wide = made(narrow, tmp_path / "wide.gguf", window="128")
    assert wide.read_bytes() == made(V01, tmp_path / "direct.gguf", "Q8_0", window="128").read_bytes()


def test_the_layers_that_have_a_window_keep_it_alone(tmp_path: Path) -> None:
    folder = make_checkpoint(
        tmp_path / "model", Sizes(layers=4, window=64), layer_types=["sliding_attention", "full_attention"] * 2
    )
    source = made(folder, tmp_path / "source.gguf", "Q8_0")
    changed = read_gguf(made(source, tmp_path / "out.gguf", window="32"))
    assert changed.key("attention.sliding_window") == 32
    assert changed.key("attention.sliding_window_pattern") == (True, False, True, False)


@pytest.mark.parametrize("experts", [0, 4])
def test_a_file_of_llama_cpps_own_gets_a_window(experts: int, tmp_path: Path) -> None:
    """Foreign: no keys of ours, tensors in the converter's order, keys that only the windowed architecture obeys."""
    folder = make_checkpoint(tmp_path / "model", Sizes(experts=experts, window=96))
    plain = made(folder, tmp_path / "plain.gguf", "Q4_0", window="off")
    lacking = {f"mistral_chat.{name}": None for name in ("prompt_format", "sliding_window", "source", "source_sha256")}
    traps = [
        KeyValue("llama.residual_scale", "f32", 0.5),
        KeyValue("llama.attention.scale", "f32", 9.0),
        KeyValue("llama.attention.sliding_window", "u32", 7),
        KeyValue("general.alignment", "u32", 32),
        KeyValue("someone.else", "u64", (1, 2**63)),
        KeyValue("someone.text", "str", ("a\0b", "ü")),
        KeyValue("someone.small", "i8", -3),
        KeyValue("someone.double", "f64", 0.1),
        KeyValue("someone.flag", "bool", True),
        KeyValue("someone.nothing", "str", ()),
    ]
    foreign = edited(plain, tmp_path / "foreign.gguf", **lacking, **{key.key: key for key in traps})
    windowed = made(foreign, tmp_path / "windowed.gguf", window="96")
    check_model(read_gguf(windowed))
    file, expected = read_gguf(windowed), read_gguf(made(folder, tmp_path / "direct.gguf", "Q4_0"))
    own = {key: value for key, value in file.metadata.items() if not key.startswith(("someone.", "mistral_chat."))}
    assert own == {key: value for key, value in expected.metadata.items() if not key.startswith("mistral_chat.")}
    assert {key: file.metadata[key] for key in file.metadata if key.startswith("someone.")} == {
        key.key: key.value for key in traps if key.key.startswith("someone.")
    }
    assert [file.types[f"someone.{name}"] for name in ("else", "small", "double", "nothing")] == [
        *("[u64]", "i8", "f64", "[str]"),
    ]
    assert file.metadata["mistral_chat.sliding_window"] == 96
    assert tensor_bytes(windowed)[1] == tensor_bytes(tmp_path / "direct.gguf")[1]
    back = read_gguf(made(windowed, tmp_path / "back.gguf", window="off"))
    assert {**back.metadata} == {
        **{
            key: value
            for key, value in read_gguf(foreign).metadata.items()
            if key not in {each.key for each in traps[:4]}
        },
        "mistral_chat.sliding_window": 96,
    }
    assert tensor_bytes(tmp_path / "back.gguf")[1] == tensor_bytes(foreign)[1]


def test_types_that_convert_does_not_write_are_copied_too(tmp_path: Path) -> None:
    full = made(V01, tmp_path / "full.gguf", "F32", window="off")
    run_llama_quantize(
        full, {tmp_path / "q2.gguf": "Q4_0"}, overrides=[("ffn_up", ALL_TYPES["Q3_K"].ggml_id), ("attn_q", 10)]
    )
    windowed = made(tmp_path / "q2.gguf", tmp_path / "windowed.gguf", window="64")
    types = {info.type for info in read_gguf(windowed).tensors.values()}
    assert types == {"F32", "Q4_0", "Q3_K", "Q2_K", "Q6_K"}
    before, after = tensor_bytes(tmp_path / "q2.gguf")[1], tensor_bytes(windowed)[1]
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("full", ["F32", "BF16"])
@pytest.mark.parametrize("sizes", [Sizes(layers=9, window=64), Sizes(experts=8), Sizes(is_tied=True)])
@pytest.mark.slow
def test_a_full_file_becomes_what_the_checkpoint_becomes(full: str, sizes: Sizes, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model", sizes, with_few_rows(hugging_face_tensors(sizes)))
    source = made(folder, tmp_path / "full.gguf", full)
    direct = made(folder, tmp_path / "direct.gguf", "Q4_K_M")
    report = convert(ConversionOptions(source, tmp_path / "out.gguf", "Q4_K_M"))
    assert (tmp_path / "out.gguf").read_bytes() == direct.read_bytes()
    assert (report.warnings, report.verified, report.type) == ((), True, "Q4_K_M")


@pytest.mark.slow
def test_a_full_file_with_a_matrix_becomes_what_llama_quantize_makes_of_it(tmp_path: Path) -> None:
    source = made(V03, tmp_path / "full.gguf", "F16")
    measured = measure(source)
    imatrix = write_gguf(tmp_path / "i.gguf", measured)
    made(source, tmp_path / "ours.gguf", "Q4_K_M", imatrix=imatrix, tensor_types=("attn_q=Q5_K",))
    run_llama_quantize(
        source, {tmp_path / "theirs.gguf": "Q4_K_M"}, importance=plain_means(measured), overrides=[("attn_q", 13)]
    )
    assert_same(tmp_path / "ours.gguf", tmp_path / "theirs.gguf")
    keys = read_gguf(tmp_path / "ours.gguf").metadata
    assert keys["quantize.imatrix.chunks_count"] == 12
    again = read_gguf(made(tmp_path / "ours.gguf", tmp_path / "again.gguf", "Q8_0")).metadata
    assert [key for key in again if key.startswith("quantize.")] == []


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "BF16"] + (["Q6_K", "Q5_K_M", "IQ4_XS", "F32"] if FULL else []))
@pytest.mark.slow
def test_quantizing_again_gives_llama_quantizes_bytes_and_a_warning(kind: str, tmp_path: Path) -> None:
    source = made(V03, tmp_path / "source.gguf", "Q4_K_M")
    report = convert(ConversionOptions(source, tmp_path / "ours.gguf", kind))
    run_llama_quantize(source, {tmp_path / "theirs.gguf": kind})
    assert_same(tmp_path / "ours.gguf", tmp_path / "theirs.gguf")
    assert len(report.warnings) == 1
    assert "tensors of Q4_K_M are quantized a second time, which costs quality" in report.warnings[0]
    assert dict(read_gguf(tmp_path / "ours.gguf").metadata) == dict(read_gguf(tmp_path / "theirs.gguf").metadata)


def test_what_has_the_type_already_is_not_quantized_again(tmp_path: Path) -> None:
    source = made(V03, tmp_path / "source.gguf", "Q4_K_M")
    report = convert(ConversionOptions(source, tmp_path / "out.gguf", "Q4_K_M"))
    assert (tmp_path / "out.gguf").read_bytes() == source.read_bytes()
    assert report.warnings == ()


def test_a_type_and_a_window_change_together(tmp_path: Path) -> None:
    source = made(V01, tmp_path / "plain.gguf", "BF16", window="off")
    out = made(source, tmp_path / "out.gguf", "Q8_0", window="64")
    assert out.read_bytes() == made(V01, tmp_path / "direct.gguf", "Q8_0").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"window": "64"}, "my-v0.1.Q4_K_M-window-64.gguf"),
        ({"type": "Q8_0"}, "my-v0.1-Q8_0.gguf"),
        ({"type": "F16", "window": "64"}, "my-v0.1-F16-window-64.gguf"),
    ],
)
def test_the_default_name_says_what_changed(arguments: dict[str, Any], name: str, tmp_path: Path) -> None:
    source = made(V03, tmp_path / "my-v0.1.Q4_K_M.gguf", "Q4_K_M")
    assert make_draft(ConversionOptions(source, **arguments)).path == Path(name)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({}, "x-Q8_0-window-64.gguf"),
        ({"window": "32"}, "x-Q8_0-window-32.gguf"),
        ({"type": "F16"}, "x-F16-window-64.gguf"),
        ({"type": "F16", "window": "off"}, "x-F16-no-window.gguf"),
    ],
)
def test_the_default_name_does_not_say_what_was(arguments: dict[str, Any], name: str, tmp_path: Path) -> None:
    source = made(V01, tmp_path / "x-Q8_0-no-window.gguf", "Q8_0", window="off")
    assert make_draft(ConversionOptions(source, **arguments)).path == Path(name)


@pytest.mark.parametrize("sizes", [Sizes(window=64), Sizes(experts=4)])
@pytest.mark.slow
def test_an_adapter_is_merged_into_a_full_file_as_into_its_checkpoint(sizes: Sizes, tmp_path: Path) -> None:
    tensors = with_few_rows(hugging_face_tensors(sizes))
    folder = make_checkpoint(tmp_path / "model", sizes, tensors)
    parts = ("q_proj", "v_proj", "down_proj", "w2", "lm_head")
    poet = write_peft(tmp_path / "poet", pairs_for(tensors, linear_modules(tensors, parts)))
    adapters = ((poet, 0.5),)
    full = made(folder, tmp_path / "full.gguf", "F32")
    for kind in ("F32", "Q4_K_M"):
        direct = made(folder, tmp_path / f"direct-{kind}.gguf", kind, adapters=adapters)
        report = convert(ConversionOptions(full, tmp_path / f"out-{kind}.gguf", kind, adapters=adapters))
        assert (tmp_path / f"out-{kind}.gguf").read_bytes() == direct.read_bytes()
        assert report.warnings == ()
    kept = made(full, tmp_path / "kept.gguf", adapters=adapters)
    assert kept.read_bytes() == (tmp_path / "direct-F32.gguf").read_bytes()
    assert read_gguf(kept).metadata["general.name"] == "model+poet"


def test_an_adapter_of_an_end_unties_a_full_file_as_its_checkpoint(tmp_path: Path) -> None:
    """A GGUF without an output layer was refused, with the hint to merge; a whole embedding changed both ends."""
    sizes = Sizes(layers=1, is_tied=True)
    tensors = with_few_rows(hugging_face_tensors(sizes))
    folder = make_checkpoint(tmp_path / "model", sizes, tensors)
    full = made(folder, tmp_path / "full.gguf", "F32")
    embedding = tensors["model.embed_tokens.weight"]
    head = write_peft(tmp_path / "head", pairs_for({"lm_head.weight": embedding}, ["lm_head"]))
    half = bfloat16(np.full(embedding.shape, 0.5, np.float32))
    whole = write_peft(tmp_path / "whole", {}, {"model.embed_tokens.weight": half})
    for adapter in (head, whole):
        for kind in ("F32", "Q4_K_M", None):
            merge: dict[str, Any] = {"adapters": ((adapter, 1.0),), "overwrite": True}
            direct = convert(ConversionOptions(folder, tmp_path / "direct.gguf", kind or "F32", **merge))
            report = convert(ConversionOptions(full, tmp_path / "out.gguf", kind, **merge))
            (file, tensors_made), (other, expected) = map(
                tensor_bytes, (tmp_path / "out.gguf", tmp_path / "direct.gguf")
            )
            assert tensors_made == expected
            assert "output.weight" in expected
            label = {"general.size_label": file.metadata["general.size_label"]}  # stays that of the source
            assert dict(file.metadata) == {**other.metadata, **label}
            assert report.warnings == direct.warnings
            assert len(report.warnings) == 1


def test_the_output_layer_that_an_adapter_unties_has_the_embeddings_type(tmp_path: Path) -> None:
    sizes = Sizes(layers=1, is_tied=True)
    tensors = with_few_rows(hugging_face_tensors(sizes))
    source = made(make_checkpoint(tmp_path / "model", sizes, tensors), tmp_path / "x.gguf", "Q4_K_M")
    pairs = pairs_for({"lm_head.weight": tensors["model.embed_tokens.weight"]}, ["lm_head"])
    adapters = ((write_peft(tmp_path / "head", pairs), 1.0),)
    report = convert(ConversionOptions(source, tmp_path / "out.gguf", adapters=adapters))
    before, before_bytes = tensor_bytes(source)
    after, after_bytes = tensor_bytes(tmp_path / "out.gguf")
    assert after.tensors["output.weight"].type == before.tensors["token_embd.weight"].type == "Q6_K"
    assert {name: after_bytes[name] for name in before_bytes} == before_bytes
    assert after_bytes["output.weight"] != before_bytes["token_embd.weight"]
    assert [warning.partition(": ")[0] for warning in report.warnings] == [
        "1 tensors of Q4_K_M are quantized a second time, which costs quality",
        f"{tmp_path}/head/adapter_model.safetensors",
    ]


def test_an_adapter_in_a_quantized_file_is_quantized_again_where_it_changes_something(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model", Sizes())
    tensors = hugging_face_tensors(Sizes())
    poet = write_peft(tmp_path / "poet", pairs_for(tensors, ["model.layers.1.self_attn.q_proj", "lm_head"]))
    source = made(folder, tmp_path / "x-Q8_0.gguf", "Q8_0")
    report = convert(ConversionOptions(source, tmp_path / "out.gguf", adapters=((poet, 1.0),)))
    assert len(report.warnings) == 1
    assert report.warnings[0].startswith("2 tensors of Q8_0 are quantized a second time, which costs quality")
    file, after = tensor_bytes(tmp_path / "out.gguf")
    before = tensor_bytes(source)[1]
    assert {name for name in before if after[name] != before[name]} == {"blk.1.attn_q.weight", "output.weight"}
    merged_there = tensor_bytes(made(folder, tmp_path / "direct.gguf", "F32", adapters=((poet, 1.0),)))[1]
    for name in ("blk.1.attn_q.weight", "output.weight"):
        info = file.tensors[name]
        ours = dequantize(after[name], ALL_TYPES[info.type], info.shape[1], info.shape[0])
        wanted = np.frombuffer(merged_there[name], "<f4").reshape(ours.shape)
        assert np.linalg.norm(ours - wanted) < 0.02 * np.linalg.norm(wanted)
    assert make_draft(ConversionOptions(source, adapters=((poet, 1.0),))).path == Path("x+poet-Q8_0.gguf")


def test_an_adapter_changes_no_tensor_whose_type_cannot_be_written(tmp_path: Path) -> None:
    full = made(V03, tmp_path / "full.gguf", "F32")
    run_llama_quantize(full, {tmp_path / "q3.gguf": "Q4_0"}, overrides=[("attn_q", ALL_TYPES["Q3_K"].ggml_id)])
    tensors = {name: array for path in V03.glob("*.safetensors") for name, array in read_safetensors(path).items()}
    module = "model.layers.0.self_attn.{}_proj"
    adapter = write_peft(tmp_path / "q", pairs_for(tensors, [module.format("q")]))
    with pytest.raises(UsageError, match=r"`blk\.0\.attn_q\.weight` is Q3_K, which convert does not write") as error:
        convert(ConversionOptions(tmp_path / "q3.gguf", tmp_path / "out.gguf", adapters=((adapter, 1.0),)))
    assert error.value.hint == "choose a type with `-t`"
    made(tmp_path / "q3.gguf", tmp_path / "q4.gguf", "Q4_0", adapters=((adapter, 1.0),))
    other = write_peft(tmp_path / "o", pairs_for(tensors, [module.format("o")]))
    made(tmp_path / "q3.gguf", tmp_path / "out.gguf", adapters=((other, 1.0),))


def test_a_base_models_file_does_not_learn_a_prompt_format(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "Mistral-7B-v0.1")
    tensors = hugging_face_tensors(Sizes())
    poet = write_peft(tmp_path / "poet", pairs_for(tensors, ["lm_head"]))
    source = made(folder, tmp_path / "x.gguf", "F32")
    report = convert(ConversionOptions(source, tmp_path / "out.gguf", adapters=((poet, 1.0),)))
    assert (len(report.warnings), report.to_json()["prompt_format"]) == (1, "raw")
    assert report.warnings[0].startswith("the file is a base model's, which continues text: if an adapter taught it")


def test_a_file_may_replace_itself(tmp_path: Path) -> None:
    path = made(V01, tmp_path / "x.gguf", "Q8_0", window="off")
    expected = made(V01, tmp_path / "direct.gguf", "Q8_0").read_bytes()
    with pytest.raises(FileError, match="exists already"):
        convert(ConversionOptions(path, path, window="64"))
    convert(ConversionOptions(path, path, window="64", overwrite=True))
    assert path.read_bytes() == expected


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, UsageError, "is Q8_0 and has no window already: nothing to change"),
        ({"window": "off"}, UsageError, "is Q8_0 and has no window already: nothing to change"),
        ({"window": "99999"}, UsageError, "is Q8_0 and has no window already: nothing to change"),
        ({"window": "wide"}, UsageError, "must be `auto`, `off` or a number of tokens"),
        ({"type": "Q3_K"}, UsageError, "unknown type `Q3_K`"),
        ({"tensor_types": ("a=Q8_0",)}, UsageError, "`--tensor-type` needs a type for the rest of a GGUF"),
        ({"imatrix": Path("x")}, UsageError, "`--imatrix` needs a type for the rest of a GGUF"),
        ({"adapters": ((Path("no-adapter"), 1.0),)}, ModelError, "no-adapter: no such adapter"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: dict[str, Any], error: type[ChatError], words: str, tmp_path: Path
) -> None:
    source = made(V03, tmp_path / "source.gguf", "Q8_0")
    with pytest.raises(error, match=words):
        convert(ConversionOptions(source, tmp_path / "out.gguf", **options))
    assert not (tmp_path / "out.gguf").exists()


def test_other_architectures_are_refused_by_name(tmp_path: Path) -> None:
    source = made(V03, tmp_path / "source.gguf", "Q8_0")
    other = edited(source, tmp_path / "x.gguf", architecture=KeyValue("general.architecture", "str", "gemma3"))
    with pytest.raises(ModelError, match=r"the architecture 'gemma3' cannot be changed"):
        convert(ConversionOptions(other, tmp_path / "out.gguf", window="64"))


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (KeyValue("granite_swa.logit_scale", "f32", 8.0), "its `logit_scale` is 8.0"),
        (KeyValue("granite_swa.residual_scale", "f32", 0.25), "its `residual_scale` is 0.25"),
        (KeyValue("granite_swa.embedding_scale", "f32", 12.0), "its `embedding_scale` is 12.0"),
        (KeyValue("granite_swa.attention.scale", "f32", 0.5), "its `attention.scale` is 0.5"),
        (KeyValue("granite_swa.attention.rope_pattern", "bool", (True, False, True)), "layers without rotary"),
    ],
)
def test_a_model_of_granites_own_keeps_its_window(key: KeyValue, reason: str, tmp_path: Path) -> None:
    granite = edited(made(V01, tmp_path / "source.gguf", "Q8_0"), tmp_path / "x.gguf", key=key)
    with pytest.raises(ModelError, match=f"its window cannot be removed, because .*{reason}"):
        convert(ConversionOptions(granite, tmp_path / "out.gguf", window="off"))
    kept = read_gguf(made(granite, tmp_path / "out.gguf", window="32")).metadata
    assert kept[key.key] == key.value


def test_a_sink_that_takes_attention_is_not_thrown_away(tmp_path: Path) -> None:
    source = made(V01, tmp_path / "source.gguf", "Q8_0")
    raw = bytearray(source.read_bytes())
    at = read_gguf(source).tensors["blk.1.attn_sinks.weight"].offset
    raw[at : at + 4] = np.float32(-2).tobytes()
    source.write_bytes(raw)
    with pytest.raises(ModelError, match=r"because `blk\.1\.attn_sinks\.weight` takes attention"):
        convert(ConversionOptions(source, tmp_path / "out.gguf", window="off"))
    changed = tensor_bytes(made(source, tmp_path / "out.gguf", window="32"))[1]
    assert np.frombuffer(changed["blk.1.attn_sinks.weight"], "<f4")[0] == -2


def test_damaged_files_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    source = made(V03, tmp_path / "source.gguf", "Q8_0")
    raw = source.read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in (0, 3, 100, len(raw) // 2, len(raw) - 100):
        cut.write_bytes(raw[:length])
        with pytest.raises(ChatError):
            convert(ConversionOptions(cut, tmp_path / "out.gguf", window="64"))
    lacking = edited(source, tmp_path / "x.gguf", **{"llama.attention.head_count": None})
    with pytest.raises(DataError, match=r"key 'llama\.attention\.head_count' is missing"):
        convert(ConversionOptions(lacking, tmp_path / "out.gguf", window="64"))
    assert not (tmp_path / "out.gguf").exists()


def test_a_nan_is_named_when_it_would_be_quantized(tmp_path: Path) -> None:
    source = made(V03, tmp_path / "source.gguf", "F32")
    raw = bytearray(source.read_bytes())
    at = read_gguf(source).tensors["blk.1.attn_q.weight"].offset
    raw[at : at + 4] = np.float32("nan").tobytes()
    source.write_bytes(raw)
    with pytest.raises(DataError, match=r"blk\.1\.attn_q\.weight: nan in row 0, column 0"):
        convert(ConversionOptions(source, tmp_path / "out.gguf", "Q8_0"))
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize("kind", sorted(set(ALL_TYPES) & {"Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_XS", "Q5_1"}))
def test_llama_cpps_unpacking_agrees_with_the_python_decoders(kind: str) -> None:
    import gguf

    rows = np.random.default_rng(5).standard_normal((3, 512), dtype=np.float32)
    packed = quantize(Numbers("F32", rows), ALL_TYPES[kind], "x")
    ours = dequantize(packed.tobytes(), ALL_TYPES[kind], 3, 512)
    theirs = gguf.dequantize(packed, gguf.GGMLQuantizationType[kind])
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    with pytest.raises(DataError, match="cannot unpack Q8_1"):
        dequantize(b"", ALL_TYPES["Q8_1"], 0, 512)


def test_the_command_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = made(V01, tmp_path / "plain.gguf", "Q4_K_M", window="off")
    out = tmp_path / "out.gguf"
    assert run(["convert", str(source), "--window", "64", "--dry-run", "-o", str(out)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 33 + 1
    assert not out.exists()
    assert run(["convert", str(source), "--window", "64", "-o", str(out)]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{out}\n"
    assert shown.err.startswith("Q4_K_M, 1.94 million weights, 1 MB, window 64, prompt format v1, ")
    assert run(["convert", str(out), "-t", "q8_0", "-o", str(tmp_path / "again.gguf")]) == 0
    assert capsys.readouterr().err.startswith("warning: ")


def test_the_report_is_that_of_the_checkpoint(tmp_path: Path) -> None:
    plain = made(V01, tmp_path / "plain.gguf", "Q4_K_M", window="off")
    direct = convert(ConversionOptions(V01, tmp_path / "direct.gguf"))
    report = convert(ConversionOptions(plain, tmp_path / "out.gguf", window="64"))
    assert replace(report, seconds={}) == replace(
        direct,
        output=str(tmp_path / "out.gguf"),
        source="plain.gguf",
        details=replace(direct.details, source_bytes=plain.stat().st_size),
        seconds={},
    )


@pytest.mark.slow
def test_kill_at_any_moment_leaves_no_half_file(tmp_path: Path) -> None:
    source = made(V01, tmp_path / "plain.gguf", "Q8_0", window="off")
    folder = tmp_path / "made"
    folder.mkdir()
    code = (
        "import os, signal, sys; from pathlib import Path; from convert.output import gguf_writer; "
        "from convert.draft import ConversionOptions; from convert.pipeline import convert\n"
        "left = int(sys.argv[3]); real = os.pwrite\n"
        "def pwrite(*arguments):\n"
        "    global left; left -= 1\n"
        "    if left == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*arguments)\n"
        "os.pwrite = pwrite\n"
        "convert(ConversionOptions(Path(sys.argv[1]), Path(sys.argv[2]), window='64', show_progress=False))"
    )
    for left in (1, 2, 17):
        command = [sys.executable, "-c", code, str(source), str(folder / "out.gguf"), str(left)]
        assert subprocess.run(command, env={**os.environ, "PYTHONPATH": "."}).returncode == -9
        assert {path.name for path in folder.iterdir()} == {".out.gguf.partial"}
    convert(ConversionOptions(source, folder / "out.gguf", window="64"))
    assert [path.name for path in folder.iterdir()] == ["out.gguf"]
