"""A converted file computes what its checkpoint means: windows of single layers, stretched positions, wide heads.

The reference is a plain forward pass; llama.cpp is compared with it through the chat's own context.
"""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat.core.request import EngineOptions
from chat.gguf.reader import read_gguf
from chat.gguf.validate_model import check_model
from chat.llama.context import LlamaContext
from chat.llama.context_settings import ContextSettings
from chat.llama.hardware import HostResources
from chat.llama.memory_estimate import cache_bytes, sizes_of
from chat.llama.memory_plan import plan_memory
from chat.llama.model import LoadSettings, Model
from chat.llama.sliding_window import choose_window
from convert.draft import ConversionOptions
from convert.pipeline import convert
from convert.tensors.layout import rotary_order
from tests.convert.plain_model import forward
from tests.convert.samples import (
    V01,
    Array,
    Sizes,
    bfloat16,
    hugging_face_tensors,
    make_checkpoint,
    params_of,
    write_safetensors,
)
from tests.convert.tensors.test_experts import ORIGINAL_NAMES

SIZES = Sizes(layers=4, width=64, heads=4, kv_heads=2, head_dim=32, hidden=96)  # heads x head_dim = 128: wide heads
IDS = [int(token) for token in np.random.default_rng(8).integers(3, 500, 300)]
HOST = HostResources(free_bytes=8 << 30, threads=1)
NEAR = 1e-3


def loud_tensors(seed: int = 4) -> dict[str, Array]:
    """Weights large enough that what a token sees makes a visible difference."""
    tensors = hugging_face_tensors(SIZES, seed)
    for name, bits in tensors.items():
        numbers = (bits.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = bfloat16(numbers * 20 if "norm" in name else numbers * 4)
    return tensors


def open_decoder(path: Path, context: int = 512) -> LlamaContext:
    """As the chat opens a file, in the settings of exact arithmetic."""
    file = read_gguf(path)
    check_model(file)
    options = EngineOptions(
        model_path=str(path), context=context, kv_type="f32", flash_attention="off", repack="off", gpu_layers="0"
    )
    chosen = plan_memory(sizes_of(file), options, choose_window(file, "auto"), HOST)
    settings = ContextSettings(chosen.cells, 64, 64, chosen.rolling, "f32", "off", 1)
    return LlamaContext(Model(str(path), LoadSettings()), settings)


def logits_of(decoder: LlamaContext, ids: list[int]) -> Array:
    """Of every id, (n, vocabulary)."""
    rows = []
    for start in range(0, len(ids), 50):
        piece = ids[start : start + 50]
        assert decoder.feed(piece, len(piece))
        rows += [decoder.logits(row).copy() for row in range(len(piece))]
    return np.array(rows)


def close(decoder: LlamaContext) -> None:
    decoder.close()
    decoder.model.close()


def worst(made: Array, expected: Array) -> float:
    difference = float(np.abs(made - expected).max())
    print(f"worst difference {difference:.1e} of logits up to {np.abs(expected).max():.1f}")
    return difference


def make_ministral(folder: Path, tensors: dict[str, Array], **params: Any) -> Path:
    """params.json and consolidated.safetensors, the release's names and its order of rows."""
    folder.mkdir()
    (folder / "params.json").write_text(json.dumps(params_of(SIZES) | params))
    renamed = {}
    for name, array in tensors.items():
        if ".q_proj." in name or ".k_proj." in name:
            array = array[rotary_order(len(array), SIZES.head_dim)]
        for old, new in (
            *ORIGINAL_NAMES.items(),
            (".mlp.gate_proj.", ".feed_forward.w1."),
            (".mlp.down_proj.", ".feed_forward.w2."),
            (".mlp.up_proj.", ".feed_forward.w3."),
        ):
            name = name.replace(old, new)
        renamed[name] = array
    write_safetensors(folder / "consolidated.safetensors", renamed)
    shutil.copy(V01 / "tokenizer.model", folder / "tokenizer.model")
    return folder


@pytest.fixture(scope="module")
def interleaved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("interleaved")
    make_ministral(folder / "model", loud_tensors(), sliding_window=[512, 64, 64, 64])
    convert(ConversionOptions(folder / "model", folder / "out.gguf", "F32"))
    return folder / "out.gguf"


@pytest.mark.slow
def test_windows_of_single_layers_are_exact(interleaved: Path) -> None:
    file = read_gguf(interleaved)
    assert file.metadata["granite_swa.attention.sliding_window_pattern"] == (False, True, True, True)
    assert (file.metadata["granite_swa.context_length"], file.window) == (512, 64)
    expected = forward(SIZES, loud_tensors(), IDS, [None, 64, 64, 64])
    decoder = open_decoder(interleaved)
    try:
        assert worst(logits_of(decoder, IDS), expected) < NEAR
    finally:
        close(decoder)
    everywhere = forward(SIZES, loud_tensors(), IDS, [64] * 4)
    assert np.abs(everywhere - expected).max() > 0.1  # so that the figure above means something


def test_full_layers_have_cells_for_the_whole_context(interleaved: Path) -> None:
    """A rolling cache would lose what the layers without a window look back to."""
    file = read_gguf(interleaved)
    window = choose_window(file, "auto")
    options = EngineOptions(model_path=str(interleaved), kv_type="f32")
    chosen = plan_memory(sizes_of(file), options, window, HOST)
    assert (window.size, window.rolling, chosen.rolling, chosen.cells) == (64, False, False, 512)
    cell = 2 * SIZES.kv_heads * SIZES.head_dim * 4
    assert cache_bytes(sizes_of(file), "f32", 512, window, 64) == cell * (512 + 3 * 256)


@pytest.mark.slow
@pytest.mark.parametrize("kept", [290, 250, 100])
def test_going_back_where_windows_forgot_reads_again_and_is_exact(kept: int, interleaved: Path) -> None:
    other = [int(token) for token in np.random.default_rng(9).integers(3, 500, 60)]
    expected = forward(SIZES, loud_tensors(), IDS[:kept] + other, [None, 64, 64, 64])
    decoder = open_decoder(interleaved)
    try:
        logits_of(decoder, IDS)
        held = decoder.rewind(kept)
        assert held in (kept, 0)
        made = logits_of(decoder, (IDS[:kept] + other)[held:])
        assert worst(made, expected[held:]) < NEAR
    finally:
        close(decoder)


def test_a_saved_state_of_single_layers_windows_continues_exactly(interleaved: Path) -> None:
    expected = forward(SIZES, loud_tensors(), IDS, [None, 64, 64, 64])
    decoder = open_decoder(interleaved)
    try:
        logits_of(decoder, IDS[:200])
        saved = decoder.snapshot()
        logits_of(decoder, IDS[:90])
        assert decoder.restore(saved)
        assert worst(logits_of(decoder, IDS[200:]), expected[200:]) < NEAR
    finally:
        close(decoder)


@functools.cache
def unstretched(window: int | None) -> Array:
    return forward(SIZES, loud_tensors(), IDS, [window] * 4)


@pytest.mark.parametrize(
    ("window", "rope"),
    [
        (None, {"type": "linear", "factor": 4.0}),
        (None, {"type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64}),
        (None, {"type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64, "attention_factor": 1.0}),
        (64, {"type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64}),
        (64, {"type": "linear", "factor": 4.0}),
    ],
)
@pytest.mark.slow
def test_stretched_positions_are_exact(window: int | None, rope: dict[str, Any], tmp_path: Path) -> None:
    tensors = loud_tensors()
    make_checkpoint(
        tmp_path / "model", SIZES, tensors, rope_scaling=rope, sliding_window=window, max_position_embeddings=512
    )
    convert(ConversionOptions(tmp_path / "model", tmp_path / "out.gguf", "F32"))
    expected = forward(SIZES, tensors, IDS, [window] * 4, rope=rope)
    decoder = open_decoder(tmp_path / "out.gguf")
    try:
        assert worst(logits_of(decoder, IDS), expected) < NEAR
    finally:
        close(decoder)
    assert np.abs(unstretched(window) - expected).max() > 0.1
