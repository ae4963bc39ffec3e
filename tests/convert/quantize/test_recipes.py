"""Types and places are those of llama-quantize, run for every recipe and kind of model."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from chat.errors import UsageError
from convert.architecture.hyperparameters import Hyperparameters
from convert.draft import ConversionOptions
from convert.pipeline import convert
from convert.quantize.kernels import BLOCK_TYPES
from convert.quantize.recipes import RECIPES, Facts, Override, find_recipe, make_plan
from convert.tensors.layout import expected_shapes
from tests.convert.samples import Sizes, quantizable_checkpoint, tensor_bytes
from tests.grids import FULL
from tests.program import run_command

MODELS = {
    "nine layers, wide groups": Sizes(layers=9, width=256, heads=8, kv_heads=2, hidden=256, vocabulary=512),
    "eight layers, single heads": Sizes(layers=8, width=256, heads=2, kv_heads=2, hidden=256),
    "eight experts": Sizes(layers=2, hidden=256, experts=8),
    "four experts": Sizes(layers=2, hidden=256, experts=4),
    "tied": Sizes(layers=2, is_tied=True),
    "columns of 32 but not of 256": Sizes(layers=2, width=320, heads=4, kv_heads=2, hidden=352),
    "columns of nothing": Sizes(layers=2, width=336, heads=4, kv_heads=1, head_dim=32, hidden=368),
}
QUANTIZED = [name for name, recipe in RECIPES.items() if BLOCK_TYPES[recipe.base].is_quantized]
WITHOUT_OWN_RULES = {"four experts": "IQ4_XS", "tied": "IQ4_XS"}  # the slowest type, chosen there as in other models

# llama_model_quantize aborts or throws on what it does not like: a process of its own
LLAMA_QUANTIZE = """
import ctypes, sys, llama_cpp
quiet = llama_cpp.llama_log_callback(lambda *_: None)
llama_cpp.llama_log_set(quiet, None)
for source, target, file_type in zip(*[iter(sys.argv[1:])] * 3):
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread = int(file_type), 1
    if llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)):
        sys.exit(f"cannot quantize {source}")
"""


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.slow
def test_every_recipe_gives_the_bytes_of_llama_quantize(model: str, tmp_path: Path) -> None:
    """Our BF16 file, quantized by llama.cpp, equals our quantized file: types, order, every byte."""
    folder = quantizable_checkpoint(tmp_path / "model", MODELS[model])
    full = tmp_path / "full.gguf"
    convert(ConversionOptions(folder, full, "BF16", verify=False))
    arguments: list[str] = []
    names = [name for name in QUANTIZED if FULL or name != WITHOUT_OWN_RULES.get(model)]
    for name in names:
        convert(ConversionOptions(folder, tmp_path / f"ours-{name}.gguf", name, verify=False))
        arguments += [str(full), str(tmp_path / f"theirs-{name}.gguf"), str(RECIPES[name].file_type)]
    done = run_command([sys.executable, "-c", LLAMA_QUANTIZE, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    for name in names:
        ours, our_bytes = tensor_bytes(tmp_path / f"ours-{name}.gguf")
        theirs, their_bytes = tensor_bytes(tmp_path / f"theirs-{name}.gguf")
        types = {tensor: info.type for tensor, info in theirs.tensors.items()}
        assert {tensor: info.type for tensor, info in ours.tensors.items()} == types, name
        assert list(our_bytes) == list(their_bytes), name
        assert our_bytes == their_bytes, name
        assert ours.size == theirs.size, name
        assert dict(ours.metadata) == dict(theirs.metadata), name


def sizes_of(
    layers: int, width: int, hidden: int, vocabulary: int, kv_heads: int = 8, experts: int = 0
) -> Hyperparameters:
    windows = (None,) * layers
    return Hyperparameters(layers, width, 32, kv_heads, 128, hidden, vocabulary, 1e-5, 1e6, 32768, windows, experts, 2)


@pytest.mark.parametrize(
    ("hparams", "data_bytes"),
    [
        (sizes_of(32, 4096, 14336, 32000), 4_367_704_064),
        (sizes_of(32, 4096, 14336, 32768), 4_372_054_016),
        (sizes_of(32, 4096, 14336, 32000, experts=8), 28_447_727_616),
        (sizes_of(40, 5120, 14336, 131072), 7_469_322_240),
    ],
    ids=["7B v0.1", "7B v0.3", "Mixtral 8x7B", "Nemo"],
)
def test_releases_have_their_known_sizes(hparams: Hyperparameters, data_bytes: int) -> None:
    facts = Facts(hparams.layers, hparams.heads, hparams.kv_heads, hparams.experts)
    assert make_plan(find_recipe("Q4_K_M"), expected_shapes(hparams).items(), facts).data_bytes == data_bytes


def test_tensors_are_in_order_of_layer_then_bytes_and_padded_to_32() -> None:
    shapes = [("blk.10.a", (3,)), ("blk.2.b", (3,)), ("blk.2.B", (5,)), ("z", (1,)), ("a", (9,))]
    plan = make_plan(find_recipe("F32"), shapes, Facts(11, 1, 1))
    assert [(tensor.name, tensor.offset, tensor.nbytes) for tensor in plan.tensors] == [
        ("a", 0, 36),
        ("z", 64, 4),
        ("blk.2.B", 96, 20),
        ("blk.2.b", 128, 12),
        ("blk.10.a", 160, 12),
    ]
    assert plan.data_bytes == 192


def test_an_override_changes_what_it_matches_but_never_vectors_and_falls_back_like_a_recipe() -> None:
    shapes = [("blk.0.attn_q.weight", (64, 256)), ("blk.0.attn_k.weight", (64, 96)), ("blk.0.attn_norm.weight", (256,))]
    overrides = (Override(re.compile(r"attn_"), BLOCK_TYPES["Q6_K"]),)
    plan = make_plan(find_recipe("Q4_0"), shapes, Facts(1, 1, 1), overrides)
    assert {tensor.name: tensor.type.name for tensor in plan.tensors} == {
        "blk.0.attn_k.weight": "Q8_0",
        "blk.0.attn_norm.weight": "F32",
        "blk.0.attn_q.weight": "Q6_K",
    }


def test_an_importance_matrix_moves_the_first_eighth_of_q4_0_and_iq4_xs() -> None:
    shapes = [(f"blk.{layer}.ffn_down.weight", (64, 256)) for layer in range(16)]
    for recipe, without, given in (("Q4_0", "Q4_0", "Q4_1"), ("IQ4_XS", "Q5_K", "IQ4_XS")):
        for has_importance, first in ((False, without), (True, given)):
            plan = make_plan(find_recipe(recipe), shapes, Facts(16, 32, 8, has_importance=has_importance))
            assert [tensor.type.name for tensor in plan.tensors] == [first] * 2 + [recipe] * 14


def test_a_recipe_is_found_in_any_case_and_an_unknown_one_lists_all() -> None:
    assert find_recipe("q4_k_m") is RECIPES["Q4_K_M"]
    with pytest.raises(UsageError, match="unknown type `Q3_K`") as caught:
        find_recipe("Q3_K")
    assert caught.value.hint == "types are F32, F16, BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_K_S, Q4_0, IQ4_XS"
