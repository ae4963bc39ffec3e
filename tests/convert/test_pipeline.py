"""The whole conversion of a checkpoint, compared with llama.cpp's own converter and quantizer."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat.errors import ChatError, DataError, FileError, ModelError, UsageError
from chat.gguf.reader import read_gguf
from convert.draft import ConversionOptions
from convert.drafting import make_draft
from convert.pipeline import convert
from tests.convert.samples import (
    V01,
    V03,
    Sizes,
    copy_checkpoint,
    float32,
    hugging_face_tensors,
    make_checkpoint,
    read_safetensors,
    tensor_bytes,
    write_safetensors,
)

REFERENCES = sorted(path for folder in (V01, V03) for path in folder.glob("gguf-*.json"))
NOT_WORTH_A_DAY = {"general.name", "general.basename", "general.version"}  # llama.cpp's heuristics on folder names


def without_sinks(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tensors.items() if "attn_sinks" not in name}


@pytest.mark.slow
@pytest.mark.parametrize("reference", REFERENCES, ids=lambda path: f"{path.parent.name}-{path.stem[5:]}")
def test_tensors_equal_llama_cpps_byte_for_byte(reference: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    convert(ConversionOptions(reference.parent, out, reference.stem[5:]))
    file, raw = tensor_bytes(out)
    made = {name: [file.tensors[name].type, list(file.tensors[name].shape), sha256(raw[name])] for name in raw}
    expected = json.loads(reference.read_text())["tensors"]
    assert without_sinks(made) == expected
    if reference.stem != "gguf-BF16":  # which llama.cpp's converter writes in the checkpoint's order
        assert list(without_sinks(made)) == list(expected)


def sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


@pytest.mark.parametrize("folder", [V01, V03], ids=lambda path: path.name)
def test_keys_are_those_of_llama_cpp_then_ours(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    convert(ConversionOptions(folder, out, "Q8_0", window="off"))
    made = read_gguf(out).metadata
    expected = json.loads((folder / "gguf-Q8_0.json").read_text())["metadata"]
    for key, value in expected.items():
        if key in NOT_WORTH_A_DAY or key.startswith("GGUF."):
            continue
        if isinstance(value, dict):
            listed = list(made[key])
            assert {"len": len(listed), "sha256": sha256(json.dumps(listed).encode())} == value, key
        else:
            assert made[key] == value, key
    ours = [key for key in made if key.startswith("mistral_chat.")]
    assert ours == [f"mistral_chat.{name}" for name in ("prompt_format", "sliding_window", "source", "source_sha256")]
    assert set(made) - set(ours) <= set(expected)
    assert list(made)[-2:] == ["general.quantization_version", "general.file_type"]


def test_a_windowed_file_attends_to_no_sink(tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    report = convert(ConversionOptions(V01, out, "F32"))
    file, raw = tensor_bytes(out)
    made = {key: value for key, value in file.metadata.items() if not key.startswith(("tokenizer.", "general."))}
    assert {key.partition(".")[0] for key in made} == {"granite_swa", "mistral_chat"}
    assert made["granite_swa.logit_scale"] == 1.0
    assert made["granite_swa.attention.sliding_window"] == 64
    assert made["granite_swa.attention.sliding_window_pattern"] == (True, True, True)
    assert made["mistral_chat.sliding_window"] == 64
    assert not [key for key in made if re.search("residual_scale|embedding_scale|attention.scale", key)]
    sinks = {name: np.frombuffer(raw[name], "<f4").tolist() for name in raw if "sinks" in name}
    assert sinks == {f"blk.{layer}.attn_sinks.weight": [float(np.float32(-1e30))] * 8 for layer in range(3)}
    assert [report.to_json()[name] for name in ("architecture", "window", "context")] == ["granite_swa", 64, 32768]


@pytest.mark.parametrize(
    ("folder", "asked", "architecture", "in_force", "stored"),
    [
        (V01, "auto", "granite_swa", 64, 64),
        (V01, "off", "llama", None, 64),
        (V01, "128", "granite_swa", 128, 128),
        (V01, "32768", "llama", None, 32768),
        (V03, "auto", "llama", None, 0),
        (V03, "off", "llama", None, 0),
        (V03, "4096", "granite_swa", 4096, 4096),
    ],
)
def test_the_window_asked_for_chooses_the_architecture(
    folder: Path, asked: str, architecture: str, in_force: int | None, stored: int, tmp_path: Path
) -> None:
    out = tmp_path / "out.gguf"
    report = convert(ConversionOptions(folder, out, "Q8_0", window=asked))
    file = read_gguf(out)
    assert (report.architecture, report.to_json()["window"]) == (architecture, in_force)
    assert (file.architecture, file.window, file.metadata["mistral_chat.sliding_window"]) == (
        architecture,
        in_force,
        stored,
    )


@pytest.mark.parametrize("asked", ["0", "-1", "on", "", "1e3", "²", "99999999999"])
def test_an_impossible_window_is_a_usage_error(asked: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be `auto`, `off` or a number of tokens"):
        make_draft(ConversionOptions(V01, tmp_path / "out.gguf", window=asked))


def test_unpermuted_rows_follow_the_formula_where_heads_are_wider_than_the_model(tmp_path: Path) -> None:
    sizes = Sizes(head_dim=64)  # 8 heads of 64 = 512, beside a width of 256, as in Nemo
    tensors = hugging_face_tensors(sizes)
    convert(ConversionOptions(make_checkpoint(tmp_path / "wide", sizes, tensors), tmp_path / "out.gguf", "F32"))
    _, raw = tensor_bytes(tmp_path / "out.gguf")
    for part, heads in (("q", 8), ("k", 2)):
        stored = float32(tensors[f"model.layers.1.self_attn.{part}_proj.weight"])
        expected = stored.reshape(heads, 2, 32, 256).swapaxes(1, 2).reshape(heads * 64, 256)
        assert raw[f"blk.1.attn_{part}.weight"] == expected.tobytes()
    assert raw["blk.1.attn_output.weight"] == float32(tensors["model.layers.1.self_attn.o_proj.weight"]).tobytes()


def test_experts_are_stacked_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    sizes = Sizes(experts=12, layers=1)  # 10 sorts before 2 as text
    tensors = hugging_face_tensors(sizes)
    report = convert(
        ConversionOptions(make_checkpoint(tmp_path / "moe", sizes, tensors), tmp_path / "out.gguf", "BF16")
    )
    file, raw = tensor_bytes(tmp_path / "out.gguf")
    at = "model.layers.0.block_sparse_moe."
    for part, name in (("gate", "w1"), ("down", "w2"), ("up", "w3")):
        stacked = b"".join(tensors[f"{at}experts.{expert}.{name}.weight"].tobytes() for expert in range(12))
        assert raw[f"blk.0.ffn_{part}_exps.weight"] == stacked
    assert raw["blk.0.ffn_gate_inp.weight"] == float32(tensors[at + "gate.weight"]).tobytes()
    assert file.tensors["blk.0.ffn_down_exps.weight"].shape == (512, 256, 12)
    assert (file.metadata["llama.expert_count"], file.metadata["llama.expert_used_count"]) == (12, 2)
    assert report.to_json()["parameters"] == sum(array.size for array in tensors.values())


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_other_floats_than_bfloat16_are_read(dtype: str, tmp_path: Path) -> None:
    tensors = {name: float32(bits).astype(dtype) for name, bits in hugging_face_tensors(Sizes()).items()}
    convert(ConversionOptions(make_checkpoint(tmp_path / "model", tensors=tensors), tmp_path / "out.gguf", "F32"))
    _, raw = tensor_bytes(tmp_path / "out.gguf")
    assert raw["output.weight"] == tensors["lm_head.weight"].astype(np.float32).tobytes()


def test_a_tied_model_has_no_output_tensor_even_if_the_checkpoint_repeats_it(tmp_path: Path) -> None:
    tensors = hugging_face_tensors(Sizes())
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    folder = make_checkpoint(tmp_path / "tied", Sizes(is_tied=True), tensors)
    convert(ConversionOptions(folder, tmp_path / "out.gguf", "Q4_K_M"))
    tensors_made = read_gguf(tmp_path / "out.gguf").tensors
    assert "output.weight" not in tensors_made
    assert tensors_made["token_embd.weight"].type == "Q6_K"


@pytest.mark.slow
def test_the_file_is_the_same_at_any_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convert.output.tensor_writer.CHUNK_NUMBERS", 4096)
    made = []
    for threads in (1, 5):
        monkeypatch.setattr("convert.pipeline.usable_cpus", lambda threads=threads: threads)
        out = tmp_path / f"{threads}.gguf"
        convert(ConversionOptions(V01, out))
        made.append(out.read_bytes())
    assert made[0] == made[1]


def test_the_report_says_what_was_made(tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    report = convert(ConversionOptions(V01, out)).to_json()
    sha256, seconds = report.pop("source_sha256"), report.pop("seconds")
    assert report == {
        "output": str(out),
        "size": out.stat().st_size,
        "type": "Q4_K_M",
        "architecture": "granite_swa",
        "window": 64,
        "context": 32768,
        "prompt_format": "v1",
        "parameters": 1935104,
        "tensors": 33,
        "tensor_bytes": sum(map(len, tensor_bytes(out)[1].values())),
        "source": "mistral-v0.1",
        "source_bytes": (V01 / "model.safetensors").stat().st_size,
        "filled_in": (),
        "warnings": (),
        "verified": True,
    }
    assert re.fullmatch("[0-9a-f]{64}", sha256)
    assert set(seconds) == {"write", "verify", "total"}


def test_the_fingerprint_changes_with_one_weight_of_a_row_and_not_with_the_place(tmp_path: Path) -> None:
    first = make_draft(ConversionOptions(V01, tmp_path / "a.gguf")).report().to_json()["source_sha256"]
    copied = copy_checkpoint(V01, tmp_path / "mistral-v0.1")
    assert make_draft(ConversionOptions(copied, tmp_path / "a.gguf")).report().to_json()["source_sha256"] == first
    raw = bytearray((copied / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (copied / "model.safetensors").write_bytes(raw)
    assert make_draft(ConversionOptions(copied, tmp_path / "a.gguf")).report().to_json()["source_sha256"] != first


# ---------------------------------------------------------------------------------------------------------------------
# Bad input: one sentence, the right class, nothing written
# ---------------------------------------------------------------------------------------------------------------------


def spoil_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def remove_shard(folder: Path) -> None:
    (folder / "model-00002-of-00002.safetensors").unlink()


def cut_shard(folder: Path) -> None:
    path = folder / "model-00001-of-00002.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def add_tensor(folder: Path) -> None:
    path, index = folder / "model-00002-of-00002.safetensors", folder / "model.safetensors.index.json"
    write_safetensors(path, {**read_safetensors(path), "model.layers.0.bias": np.zeros(4, np.float32)})
    listed = json.loads(index.read_text())
    listed["weight_map"]["model.layers.0.bias"] = path.name
    index.write_text(json.dumps(listed))


def remove_tensor(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    listed = json.loads(index.read_text())
    shard = folder / listed["weight_map"].pop("model.norm.weight")
    index.write_text(json.dumps(listed))
    tensors = read_safetensors(shard)
    del tensors["model.norm.weight"]
    write_safetensors(shard, tensors)


def remove_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer.model*"):
        path.unlink()


def put_nan(folder: Path) -> None:
    path = folder / "model-00001-of-00002.safetensors"
    tensors = {name: array.copy() for name, array in read_safetensors(path).items()}
    tensors["model.layers.0.mlp.up_proj.weight"][300, 7] = 0x7FC0
    write_safetensors(path, tensors)


FAULTS = [
    (remove_shard, DataError, "the shard `model-00002-of-00002.safetensors` is missing"),
    (cut_shard, DataError, "model-00001-of-00002.safetensors: tensor `.*`: ends at byte .* but the file holds"),
    (add_tensor, DataError, "unknown tensor `model.layers.0.bias`"),
    (remove_tensor, DataError, "the checkpoint lacks what becomes `output_norm.weight`"),
    (remove_tokenizer, DataError, "no tokenizer"),
    (put_nan, DataError, "blk.0.ffn_up.weight: nan in row 300, column 7"),
    (lambda folder: (folder / "config.json").unlink(), DataError, "neither `config.json` nor `params.json` is there"),
    (lambda folder: spoil_config(folder, hidden_size=320), DataError, r"has shape .* but the model's sizes say"),
    (lambda folder: spoil_config(folder, num_hidden_layers=4), DataError, r"lacks what becomes `blk.3.* and 8 more"),
    (lambda folder: spoil_config(folder, num_hidden_layers=2), DataError, r"has no place in a model of 2 layers"),
    (
        lambda folder: spoil_config(folder, vocab_size=519),
        DataError,
        r"has shape \[520, 256\], but the model's sizes say \[519, 256\]",
    ),
    (lambda folder: spoil_config(folder, architectures=["GPT2LMHeadModel"]), ModelError, "GPT2LMHeadModel cannot be"),
    (lambda folder: (folder / "config.json").write_text("{"), DataError, "config.json is not JSON"),
]


@pytest.mark.parametrize(("spoil", "kind", "words"), FAULTS, ids=[str(number) for number in range(len(FAULTS))])
def test_a_bad_checkpoint_is_one_sentence_and_leaves_nothing(
    spoil: Any, kind: type[ChatError], words: str, tmp_path: Path
) -> None:
    folder = copy_checkpoint(V03, tmp_path / "model")
    spoil(folder)
    target = tmp_path / "made"
    target.mkdir()
    with pytest.raises(kind, match=words) as caught:
        convert(ConversionOptions(folder, target / "out.gguf"))
    assert type(caught.value) is kind
    assert "\n" not in caught.value.message
    assert not caught.value.message.endswith(".")
    assert list(target.iterdir()) == []


def test_a_number_too_large_for_the_type_is_named_and_fits_a_larger_type(tmp_path: Path) -> None:
    tensors = hugging_face_tensors(Sizes())
    large = tensors["lm_head.weight"].copy()
    large[3, 5] = 0x7F00  # 1.7e38
    folder = make_checkpoint(tmp_path / "model", tensors={**tensors, "lm_head.weight": large})
    with pytest.raises(DataError, match=r"output.weight: 1.70141e\+38 in row 3 is too large for Q6_K"):
        convert(ConversionOptions(folder, tmp_path / "out.gguf"))
    convert(ConversionOptions(folder, tmp_path / "out.gguf", "BF16"))
    assert tensor_bytes(tmp_path / "out.gguf")[1]["output.weight"] == large.tobytes()


def test_missing_folder_and_folder_without_weights_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing: no such folder"):
        convert(ConversionOptions(tmp_path / "nothing", tmp_path / "out.gguf"))
    with pytest.raises(ModelError, match="no checkpoint there"):
        convert(ConversionOptions(tmp_path, tmp_path / "out.gguf"))


def test_an_existing_file_is_replaced_only_when_asked_and_kept_when_the_source_is_bad(tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    out.write_bytes(b"old")
    with pytest.raises(FileError, match=r"out.gguf exists already") as caught:
        convert(ConversionOptions(V01, out))
    assert caught.value.hint is not None
    assert "--overwrite" in caught.value.hint
    bad = copy_checkpoint(V03, tmp_path / "model")
    put_nan(bad)
    with pytest.raises(DataError):
        convert(ConversionOptions(bad, out, overwrite=True))
    assert out.read_bytes() == b"old"
    convert(ConversionOptions(V01, out, overwrite=True))
    assert out.read_bytes()[:4] == b"GGUF"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "out.gguf"]


def test_a_full_disk_is_seen_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1_000_000})())
    words = f"{tmp_path}: 1 MB are needed, 181 kB more than are free"
    with pytest.raises(FileError, match=re.escape(words)):
        convert(ConversionOptions(V01, tmp_path / "out.gguf"))
    assert not list(tmp_path.glob("*.gguf")) + list(tmp_path.glob(".*partial"))
