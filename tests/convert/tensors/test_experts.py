"""A Mixtral in any of its four spellings becomes the same GGUF, byte for byte, and is read expert by expert."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from chat.errors import DataError
from convert.checkpoint.rows import TransposedRows
from convert.checkpoint.safetensors_file import open_safetensors
from convert.draft import ConversionOptions
from convert.drafting import make_draft
from convert.pipeline import convert
from convert.tensors.layout import rotary_order
from convert.tensors.names import SPELLINGS, meaning_of
from tests.convert.samples import (
    V01,
    Array,
    Sizes,
    config_of,
    float32,
    hugging_face_tensors,
    make_checkpoint,
    params_of,
    tensor_bytes,
    with_few_rows,
    write_safetensors,
)
from tests.convert.torch_writer import Saved, checkpoint

SIZES = Sizes(layers=2, experts=8, hidden=288)
PARAMS = params_of(SIZES) | {"moe": {"num_experts_per_tok": 2, "num_experts": 8}}
ORIGINAL_NAMES = {  # besides the experts'
    "model.embed_tokens.": "tok_embeddings.",
    "model.norm.": "norm.",
    "lm_head.": "output.",
    "model.layers.": "layers.",
    ".input_layernorm.": ".attention_norm.",
    ".post_attention_layernorm.": ".ffn_norm.",
    ".self_attn.q_proj.": ".attention.wq.",
    ".self_attn.k_proj.": ".attention.wk.",
    ".self_attn.v_proj.": ".attention.wv.",
    ".self_attn.o_proj.": ".attention.wo.",
}

Tensors = dict[str, Array]


def original(tensors: Mapping[str, Array], block: str = "feed_forward") -> Tensors:
    """The names of the original release, and its order of query and key rows."""
    found = {}
    for name, array in tensors.items():
        if ".q_proj." in name or ".k_proj." in name:
            array = array[rotary_order(len(array), SIZES.head_dim)]
        for old, new in {**ORIGINAL_NAMES, ".block_sparse_moe.": f".{block}."}.items():
            name = name.replace(old, new)
        found[name] = array
    return found


def fused(tensors: Mapping[str, Array]) -> Tensors:
    """The first release's: w1, w2 and w3 of all experts, each expert with its inner width as rows."""
    found = original(tensors, "block_sparse_moe")
    for layer in range(SIZES.layers):
        at = f"layers.{layer}.block_sparse_moe."
        for name in ("w1", "w2", "w3"):
            parts = [found.pop(f"{at}experts.{expert}.{name}.weight") for expert in range(SIZES.experts)]
            found[at + name] = np.concatenate([part.T if name == "w2" else part for part in parts])
            assert found[at + name].shape == (SIZES.experts * SIZES.hidden, SIZES.width)
    return found


def in_memory(tensors: Mapping[str, Array]) -> Tensors:
    """What transformers 5 makes of it."""
    found = dict(tensors)
    for layer in range(SIZES.layers):
        old, new = f"model.layers.{layer}.block_sparse_moe.", f"model.layers.{layer}.mlp."
        w1, w2, w3 = (
            [found.pop(f"{old}experts.{expert}.{name}.weight") for expert in range(SIZES.experts)]
            for name in ("w1", "w2", "w3")
        )
        found[new + "experts.gate_up_proj"] = np.stack(
            [np.concatenate([gate, up]) for gate, up in zip(w1, w3, strict=True)]
        )
        found[new + "experts.down_proj"] = np.stack(w2)
        found[new + "gate.weight"] = found.pop(old + "gate.weight")
        assert found[new + "experts.gate_up_proj"].shape == (8, 2 * SIZES.hidden, SIZES.width)
    return found


def write_params(folder: Path) -> None:
    folder.mkdir()
    (folder / "params.json").write_text(json.dumps(PARAMS))
    shutil.copy(V01 / "tokenizer.model", folder / "tokenizer.model")


def torch_file(path: Path, tensors: Mapping[str, Array]) -> None:
    path.write_bytes(
        checkpoint(
            [
                Saved(name, "BFloat16", array.shape, array.tobytes(), key=str(key))
                for key, (name, array) in enumerate(tensors.items())
            ]
        )
    )


def write_consolidated(folder: Path, tensors: Mapping[str, Array], block: str) -> None:
    write_params(folder)
    write_safetensors(folder / "consolidated.safetensors", original(tensors, block))


def write_torrent(folder: Path, tensors: Mapping[str, Array]) -> None:
    write_params(folder)
    torch_file(folder / "consolidated.00.pth", original(tensors))


def write_fused(folder: Path, tensors: Mapping[str, Array]) -> None:
    """Each file holds its own layers, the first one what comes before them, the last one what comes after."""
    write_params(folder)
    everything = fused(tensors)
    for number in range(SIZES.layers):
        own = {name: array for name, array in everything.items() if name.startswith(f"layers.{number}.")}
        if number == 0:
            own["tok_embeddings.weight"] = everything["tok_embeddings.weight"]
        if number == SIZES.layers - 1:
            own |= {name: everything[name] for name in ("norm.weight", "output.weight")}
        torch_file(folder / f"consolidated.{number:02}.pt", own)


def write_fused_safetensors(folder: Path, tensors: Mapping[str, Array]) -> None:
    write_params(folder)
    write_safetensors(folder / "consolidated.safetensors", fused(tensors))


SPELLED: dict[str, Callable[[Path, Mapping[str, Array]], object]] = {
    "original, feed_forward": lambda folder, tensors: write_consolidated(folder, tensors, "feed_forward"),
    "original, block_sparse_moe": lambda folder, tensors: write_consolidated(folder, tensors, "block_sparse_moe"),
    "original, .pth": write_torrent,
    "fused, .pt": write_fused,
    "fused, .safetensors": write_fused_safetensors,
    "transformers 5": lambda folder, tensors: make_checkpoint(folder, SIZES, in_memory(tensors)),
}


@pytest.fixture(scope="module")
def tensors() -> Tensors:
    return with_few_rows(hugging_face_tensors(SIZES, seed=5))


@pytest.fixture(scope="module")
def expected(tensors: Tensors, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("expert by expert")
    convert(ConversionOptions(make_checkpoint(folder / "model", SIZES, tensors), folder / "out.gguf", "Q4_K_M"))
    return tensor_bytes(folder / "out.gguf")[1]


@pytest.mark.parametrize("spelling", SPELLED)
@pytest.mark.slow
def test_all_spellings_give_equal_bytes(
    spelling: str, tensors: Tensors, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("convert.output.tensor_writer.CHUNK_NUMBERS", 5000)  # so that pieces end within experts
    SPELLED[spelling](tmp_path / "model", tensors)
    report = convert(ConversionOptions(tmp_path / "model", tmp_path / "out.gguf", "Q4_K_M"))
    file, made = tensor_bytes(tmp_path / "out.gguf")
    assert list(made) == list(expected)
    assert [name for name in made if made[name] != expected[name]] == []
    assert (file.metadata["llama.expert_count"], file.metadata["llama.expert_used_count"]) == (8, 2)
    assert report.to_json()["parameters"] == sum(array.size for array in tensors.values())


def test_experts_are_stacked_in_their_order_with_gate_and_up_apart(tensors: Tensors, tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "model", SIZES, in_memory(tensors))
    convert(ConversionOptions(tmp_path / "model", tmp_path / "out.gguf", "BF16"))
    made = tensor_bytes(tmp_path / "out.gguf")[1]
    for part, name in (("gate", "w1"), ("down", "w2"), ("up", "w3")):
        parts = [tensors[f"model.layers.1.block_sparse_moe.experts.{expert}.{name}.weight"] for expert in range(8)]
        assert made[f"blk.1.ffn_{part}_exps.weight"] == np.stack(parts).tobytes()


def test_sizes_that_are_missing_come_from_fused_tensors_too(tensors: Tensors, tmp_path: Path) -> None:
    write_fused(tmp_path / "model", tensors)
    given = {name: value for name, value in PARAMS.items() if name not in ("dim", "hidden_dim", "vocab_size")}
    (tmp_path / "model" / "params.json").write_text(json.dumps(given))
    draft = make_draft(ConversionOptions(tmp_path / "model", tmp_path / "out.gguf"))
    keys = {key.key: key.value for key in draft.keys}
    made = [keys[f"llama.{name}"] for name in ("embedding_length", "feed_forward_length", "vocab_size")]
    assert made == [SIZES.width, SIZES.hidden, SIZES.vocabulary]
    filled_in = draft.report().to_json()["filled_in"]
    assert {"width 256", "vocabulary 512", "feed-forward width 288"} <= set(filled_in)


def with_shape(name: str, *shape: int) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors[name] = np.zeros(shape, np.uint16)

    return change


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (with_shape("model.layers.0.mlp.experts.down_proj", 7, 256, 288), r"\[7, 256, 288\] cannot be divided among t"),
        (with_shape("model.layers.0.mlp.experts.down_proj", 8, 288, 256), r"down_proj\[0\]` has shape \[288, 256\]"),
        (with_shape("model.layers.0.mlp.experts.gate_up_proj", 8, 288, 256), r"gate_up_proj\[0\]` has shape \[144, "),
        (with_shape("model.layers.0.mlp.experts.gate_up_proj", 8, 3, 256), "cannot be divided among the 8 experts"),
        (with_shape("model.layers.0.mlp.experts.gate_up_proj", 0), r"gate_up_proj\[0\]` has shape \[0, 0\]"),
        (with_shape("model.layers.1.mlp.gate.weight", 4, 256), "cannot be divided among the 4 experts"),
        (lambda tensors: tensors.pop("model.layers.1.mlp.gate.weight"), "among the 0 experts that its layer's router"),
        (lambda tensors: tensors.pop("model.layers.1.mlp.experts.down_proj"), "lacks what becomes `blk.1.ffn_down_exp"),
        (with_shape("model.layers.0.block_sparse_moe.experts.3.w1.weight", 288, 256), "needs experts 0 to 7, each onc"),
    ],
)
def test_tensors_of_several_experts_that_do_not_fit_are_named(
    spoil: Callable[[Tensors], object], words: str, tensors: Tensors, tmp_path: Path
) -> None:
    changed = in_memory(tensors)
    spoil(changed)
    make_checkpoint(tmp_path / "model", SIZES, changed)
    with pytest.raises(DataError, match=words):
        make_draft(ConversionOptions(tmp_path / "model", tmp_path / "out.gguf"))


@pytest.mark.parametrize("dtype", ["uint16", "float16", "float32", "float64"])
def test_a_transposed_matrix_reads_the_same_in_pieces(dtype: str, tmp_path: Path) -> None:
    numbers = np.random.default_rng(3).standard_normal((3 * 70, 36), dtype=np.float32)
    stored = (numbers.view(np.uint32) >> 16).astype(np.uint16) if dtype == "uint16" else numbers.astype(dtype)
    write_safetensors(tmp_path / "w2.safetensors", {"pad": np.zeros(8, np.int8), "w2": stored})
    file = open_safetensors(tmp_path / "w2.safetensors")
    rows = TransposedRows(file, file.tensors["w2"], 70, 70)
    assert (rows.count, rows.columns) == (36, 70)
    expected = (float32(stored) if dtype == "uint16" else stored.astype(np.float32))[70:140].T
    for height in (1, 5, 36):
        pieces = [rows.read(start, min(start + height, 36)) for start in range(0, 36, height)]
        assert np.array_equal(np.concatenate(pieces), expected)
        assert all(piece.dtype == np.float32 and piece.flags.c_contiguous for piece in pieces)


def test_no_piece_holds_more_than_one_expert(tensors: Tensors, tmp_path: Path) -> None:
    """Memory is one piece a thread, however many experts there are."""
    from convert.output.tensor_writer import CHUNK_NUMBERS, cut

    write_fused(tmp_path / "model", tensors)
    draft = make_draft(ConversionOptions(tmp_path / "model", tmp_path / "out.gguf"))
    jobs = draft.jobs
    for chunk in cut(jobs):
        tensor = chunk.jobs[0].tensor
        assert (chunk.stop - chunk.start) * tensor.columns <= max(CHUNK_NUMBERS, tensor.columns)
        assert chunk.start // tensor.rows_per_matrix == (chunk.stop - 1) // tensor.rows_per_matrix


def test_every_spelling_is_tried_here(tensors: Tensors) -> None:
    tried = [*tensors, *in_memory(tensors), *fused(tensors), *original(tensors), *original(tensors, "block_sparse_moe")]
    forms = {form for _, form in SPELLINGS.values()} - {"ignored"}
    assert {meaning_of(name).form for name in tried} == forms
    assert config_of(SIZES)["architectures"] == ["MixtralForCausalLM"]
