"""Models since December 2025 are converted from both layouts as llama.cpp does, and answer as transformers does."""

from __future__ import annotations

import hashlib
import json
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat.errors import ModelError, UsageError
from chat.gguf.reader import read_gguf
from chat.gguf.validate_lora import check_adapter_fits
from chat.llama.context import LlamaContext
from chat.llama.context_settings import ContextSettings
from chat.llama.memory_estimate import cache_bytes, sizes_of
from chat.llama.model import LoadSettings, Model
from chat.llama.sliding_window import Window, choose_window
from convert.draft import ConversionOptions
from convert.pipeline import convert
from tests.conftest import Make
from tests.convert.adapters import merged, pairs_for, write_peft
from tests.convert.families import (
    FAMILIES,
    LAYERS,
    MISTRAL4,
    PROMPT,
    make_family,
    make_original_family,
    one_by_one,
    original_tensors,
    tensors_of,
)
from tests.convert.quantizers import write_tensors
from tests.convert.samples import Array, tensor_bytes, write_safetensors
from tests.convert.test_logits import close, open_decoder
from tests.folders import CHECKPOINTS

ORIGINALS = ("ministral3", "devstral", "mistral4")
LATENT = ("mistral4", "mistral4-odd")


@cache
def references() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CHECKPOINTS / "families.json").read_text())
    return found


def made_of(folder: Path, kind: str = "F32", **options: Any) -> Path:
    out = folder.parent / f"{folder.name}-{kind}.gguf"
    convert(ConversionOptions(folder, out, kind, show_progress=False, **options))
    return out


@pytest.fixture(scope="module")
def family(make_once: Make) -> Any:
    """The float32 GGUF of a family by its name, made once."""

    def make(name: str) -> Path:
        def write(path: Path) -> None:
            folder = make_family(path.parent / f"{name}-checkpoint", name)
            convert(ConversionOptions(folder, path, "F32", show_progress=False))

        return make_once(f"families/{name}.gguf", write)

    return make


def check_tensors(path: Path, expected: dict[str, Any]) -> None:
    """Compare with what llama.cpp's converter wrote: tensors by their sums, and keys, but for the ones it forgets."""
    file, tensors = tensor_bytes(path)
    made = {name: [list(file.tensors[name].shape), hashlib.sha256(raw).hexdigest()] for name, raw in tensors.items()}
    assert (file.architecture, made) == (expected["architecture"], expected["tensors"])
    for name, value in expected["keys"].items():
        assert file.key(name) == value, name


def greedy(decoder: LlamaContext, count: int = 48) -> list[int]:
    """The likeliest ids after what the context holds, an end of text among them."""
    found: list[int] = []
    while len(found) < count:
        found.append(int(np.argmax(decoder.logits())))
        assert decoder.feed(found[-1:])
    return found


def read(decoder: LlamaContext, ids: list[int]) -> None:
    for start in range(0, len(ids), 50):
        assert decoder.feed(ids[start : start + 50])


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_tensors_equal_llama_cpps(name: str, family: Any) -> None:
    expected = references()[name]["gguf"]
    if name.endswith("-odd") or name == "mistral-yarn":  # whose keys llama.cpp's converter does not write right
        expected = {**expected, "keys": {}, "architecture": read_gguf(family(name)).architecture}
    check_tensors(family(name), expected)


@pytest.mark.parametrize("name", ORIGINALS)
def test_tensors_of_the_original_layout_equal_llama_cpps(name: str, tmp_path: Path) -> None:
    check_tensors(made_of(make_original_family(tmp_path / "original", name)), references()[name]["original"])


@pytest.mark.engine
@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_ids_equal_those_of_transformers(name: str, family: Any) -> None:
    decoder = open_decoder(family(name))
    try:
        read(decoder, PROMPT)
        assert greedy(decoder) == references()[name]["greedy"]
    finally:
        close(decoder)


@pytest.mark.engine
@pytest.mark.parametrize("name", ["ministral3", "mistral4"])
def test_the_original_layout_answers_the_same(name: str, tmp_path: Path) -> None:
    decoder = open_decoder(made_of(make_original_family(tmp_path / "original", name)))
    try:
        read(decoder, PROMPT)
        assert greedy(decoder) == references()[name]["greedy"]
    finally:
        close(decoder)


@pytest.mark.engine
@pytest.mark.parametrize("name", ["ministral3-odd", "mistral4"])
def test_rewinds_and_saved_states_continue_exactly(name: str, family: Any) -> None:
    """The temperature grows with the position, so a cell that moved would change what follows."""
    decoder = open_decoder(family(name))
    try:
        read(decoder, PROMPT)
        saved = decoder.snapshot()
        assert greedy(decoder) == references()[name]["greedy"]
        assert decoder.rewind(70) == 70
        read(decoder, PROMPT[70:])
        assert greedy(decoder, 12) == references()[name]["greedy"][:12]
        assert decoder.restore(saved)
        assert decoder.rewind(len(PROMPT) - 1) == len(PROMPT) - 1
        read(decoder, PROMPT[-1:])
        assert greedy(decoder, 12) == references()[name]["greedy"][:12]
    finally:
        close(decoder)


@pytest.mark.engine
@pytest.mark.parametrize("name", ["ministral3-odd", "mistral4"])
def test_sequences_side_by_side_answer_like_single_ones(name: str, family: Any) -> None:
    """They stand at other positions, so that their temperatures differ within one batch."""
    answer = references()[name]["greedy"]
    model = Model(str(family(name)), LoadSettings())
    settings = ContextSettings(512, 64, 64, kv_type="f32", flash_attention="off", sequences=2)
    together = LlamaContext(model, settings)
    found: dict[int, list[int]] = {0: [], 1: []}
    last: dict[int, int] = {}
    try:
        for number, ids in {0: PROMPT, 1: PROMPT + answer[:20]}.items():
            for start in range(0, len(ids), 50):
                rows = together.feed_sequences([(number, ids[start : start + 50])])
                assert rows is not None
                last[number] = int(np.argmax(together.logits(rows[number])))
        for _ in range(12):
            for number, token in last.items():
                found[number].append(token)
            rows = together.feed_sequences([(number, [token]) for number, token in last.items()])
            assert rows is not None
            last = {number: int(np.argmax(together.logits(row))) for number, row in rows.items()}
    finally:
        together.close()
        model.close()
    assert found == {0: answer[:12], 1: answer[20:32]}


@pytest.mark.engine
@pytest.mark.parametrize("name", ["ministral3-odd", "mistral4"])
def test_drafts_checked_in_one_batch_answer_the_same(name: str, family: Any) -> None:
    """Rows of one batch stand at different positions, wrong drafts are rewound, and the answer is the reference's."""
    answer = references()[name]["greedy"]
    decoder = open_decoder(family(name))
    try:
        read(decoder, PROMPT)
        found = [int(np.argmax(decoder.logits()))]
        while len(found) < 24:
            right = answer[len(found) : len(found) + 2]
            rows = [found[-1], *right, 7]
            held = len(decoder.ids)
            assert decoder.feed(rows, len(rows))
            best = [int(np.argmax(decoder.logits(row))) for row in range(len(rows))]
            taken = next(place for place, token in enumerate([*rows[1:], -1]) if token != best[place])
            found += best[: taken + 1]
            assert decoder.rewind(held + taken + 1) == held + taken + 1
    finally:
        close(decoder)
    assert found[:24] == answer[:24]


def test_temperature_keys_are_written_that_llama_cpps_converter_forgets(family: Any) -> None:
    file = read_gguf(family("mistral4"))
    assert file.metadata["mistral4.attention.temperature_scale"] == pytest.approx(0.1)
    assert file.metadata["mistral4.attention.temperature_length"] == 32


def test_magnitudes_are_written_for_each_graph(family: Any) -> None:
    """mistral3 takes mscale for 1; latent attention multiplies sine and cosine apart from the whole product."""

    def own(weight: float) -> float:
        return 0.1 * weight * math.log(16) + 1

    ministral = read_gguf(family("ministral3-odd")).metadata
    assert ministral["mistral3.rope.scaling.yarn_log_multiplier"] == pytest.approx(1.3)
    assert ministral["mistral3.rope.scaling.attn_factor"] == pytest.approx(own(0.7) / own(1))
    plain = read_gguf(family("mistral-yarn")).metadata
    assert plain["mistral3.rope.scaling.yarn_log_multiplier"] == 1.0
    assert plain["mistral3.rope.scaling.attn_factor"] == pytest.approx(1.1)
    latent = read_gguf(family("mistral4-odd")).metadata
    assert latent["mistral4.rope.scaling.attn_factor"] == pytest.approx(own(0.4) / own(1))
    turning = own(0.9) / own(0.4)
    assert own(latent["mistral4.rope.scaling.yarn_log_multiplier"] / 0.1) == pytest.approx(own(0.4) / turning)


@pytest.mark.parametrize("name", LATENT)
def test_experts_one_by_one_are_joined_in_their_order(name: str, family: Any, tmp_path: Path) -> None:
    folder = make_family(tmp_path / "single", name, one_by_one(tensors_of(FAMILIES[name])))
    assert tensor_bytes(made_of(folder))[1] == tensor_bytes(family(name))[1]


def packed(tensors: dict[str, Array], scale: str, static: str) -> tuple[dict[str, Array], dict[str, Array]]:
    """Matrices of attention and feed-forward layers as FP8 (int8 stands for it here), and what those bytes mean."""
    from convert.dequantize.float8 import table

    generator = np.random.default_rng(3)
    made, meant = dict(tensors), dict(tensors)
    for name, array in tensors.items():
        if array.ndim < 2 or "norm" in name or "embed" in name or name.startswith(("lm_head", "output", "tok_")):
            continue
        if ".gate.weight" in name:
            continue
        codes = (
            generator.integers(0, 120, array.shape, dtype=np.uint8)
            | generator.integers(0, 2, array.shape, np.uint8) << 7
        )
        factors = (generator.random((len(array), 1, 1) if array.ndim == 3 else ()) * 0.001).astype(np.float32)
        at = name.removesuffix("weight") if name.endswith("weight") and scale.startswith("q") else f"{name}_"
        made[name], meant[name] = codes.view(np.int8), (table("F8_E4M3")[codes] * factors).astype(np.float32)
        made[f"{at}{scale}"], made[f"{at}{static}"] = np.asarray(factors), np.ones((), np.float32)
    return made, meant


def write_packed(path: Path, tensors: dict[str, Array]) -> None:
    """A safetensors file whose int8 arrays are FP8."""
    write_tensors(path, tensors, {name: "F8_E4M3" for name, array in tensors.items() if array.dtype == np.int8})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ministral3", "mistral4"])
def test_fp8_as_shipped_is_bytes_times_scales_without_advice(name: str, tmp_path: Path) -> None:
    """Stacked experts have a scale each: (experts, 1, 1). FP8 is the release itself, so nothing is warned."""
    made, meant = packed(tensors_of(FAMILIES[name]), "scale_inv", "activation_scale")
    settings = {"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None}
    folder = make_family(tmp_path / "fp8", name, quantization_config=settings)
    write_packed(folder / "model.safetensors", made)
    report = convert(ConversionOptions(folder, tmp_path / "fp8.gguf", "F32", show_progress=False))
    assert report.warnings == ()
    wanted = tensor_bytes(made_of(make_family(tmp_path / "meant", name, meant)))[1]
    assert tensor_bytes(tmp_path / "fp8.gguf")[1] == wanted
    original, meant = packed(original_tensors(tensors_of(FAMILIES[name])), "qscale_weight", "qscale_act")
    folder = make_original_family(tmp_path / "own", name)
    write_packed(folder / "consolidated.safetensors", original)
    report = convert(ConversionOptions(folder, tmp_path / "own.gguf", "F32", show_progress=False))
    assert report.warnings == ()
    write_safetensors(folder / "consolidated.safetensors", meant)
    assert tensor_bytes(tmp_path / "own.gguf")[1] == tensor_bytes(made_of(folder))[1]


def test_the_latent_cache_holds_one_vector_for_each_token(family: Any) -> None:
    sizes = sizes_of(read_gguf(family("mistral4")))
    rank, turned = MISTRAL4["kv_lora_rank"], MISTRAL4["qk_rope_head_dim"]
    assert sizes.cell_numbers == rank + turned
    assert cache_bytes(sizes, "f16", 512, Window(), 64) == LAYERS * 512 * (rank + turned) * 2
    assert sizes.feed_forward == 512  # of the dense layer; experts in use have 3 x 64


def latent_modules(tensors: dict[str, Array]) -> list[str]:
    parts = ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj", "shared_experts.up_proj")
    return [name.removesuffix(".weight") for name in tensors if name.removesuffix(".weight").endswith(parts)]


def test_adapters_are_merged_into_latent_attention(family: Any, tmp_path: Path) -> None:
    """Keys lie transposed in the GGUF, head by head, and so does what is added to them."""
    tensors = tensors_of(MISTRAL4)
    pairs = pairs_for(tensors, latent_modules(tensors))
    adapter = write_peft(tmp_path / "adapter", pairs)
    wanted = tensor_bytes(made_of(make_family(tmp_path / "merged", "mistral4", merged(tensors, pairs, 2.0))))[1]
    folder = make_family(tmp_path / "base", "mistral4")
    assert tensor_bytes(made_of(folder, adapters=((adapter, 1.0),)))[1] == wanted
    out = tmp_path / "from-gguf.gguf"
    source = family("mistral4")
    convert(ConversionOptions(source, out, None, show_progress=False, adapters=((adapter, 1.0),)))
    assert tensor_bytes(out)[1] == wanted


def test_an_adapter_that_llama_cpp_would_ignore_is_refused(family: Any, tmp_path: Path) -> None:
    tensors = tensors_of(MISTRAL4)
    works = [name for name in latent_modules(tensors) if name.endswith(("o_proj", "up_proj"))]
    ignored = [name for name in latent_modules(tensors) if name.endswith("kv_b_proj")]
    base = family("mistral4")
    good = write_peft(tmp_path / "good", pairs_for(tensors, works))
    convert(ConversionOptions(good, tmp_path / "good.gguf", base=base, show_progress=False))
    check_adapter_fits(read_gguf(tmp_path / "good.gguf"), read_gguf(base))
    bad = write_peft(tmp_path / "bad", pairs_for(tensors, ignored))
    with pytest.raises(ModelError, match=r"kv_b_proj`, to which llama.cpp applies no adapter in this model") as caught:
        convert(ConversionOptions(bad, tmp_path / "bad.gguf", base=base, show_progress=False))
    assert "--lora" in str(caught.value.hint)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ministral3", "mistral4", "llama3-odd", "qwen2", "qwen3"])
def test_quantizing_a_gguf_again_equals_quantizing_the_checkpoint(name: str, family: Any, tmp_path: Path) -> None:
    direct = made_of(make_family(tmp_path / "checkpoint", name), "Q4_K_M")
    convert(ConversionOptions(family(name), tmp_path / "again.gguf", "Q4_K_M", show_progress=False))
    assert tensor_bytes(tmp_path / "again.gguf")[1] == tensor_bytes(direct)[1]


@pytest.mark.parametrize("name", ["ministral3", "mistral4"])
def test_a_window_is_neither_given_nor_promised(name: str, family: Any, tmp_path: Path) -> None:
    """`--window 64` named a command that then refused."""
    path = family(name)
    with pytest.raises(UsageError, match="has no sliding window, so it cannot be run with one of 64") as caught:
        choose_window(read_gguf(path), "64")
    assert caught.value.hint == "leave out `--window`"
    for source in (path, make_family(tmp_path / "checkpoint", name)):
        with pytest.raises(
            UsageError, match=f"llama.cpp runs {read_gguf(path).architecture} without a sliding window$"
        ):
            convert(ConversionOptions(source, tmp_path / "out.gguf", window="64", show_progress=False))


@pytest.mark.slow
@pytest.mark.usefixtures("tried_out")
@pytest.mark.parametrize("name", ["ministral3", "mistral4-odd"])
def test_the_engine_tries_out_a_written_file(name: str, tmp_path: Path) -> None:
    folder = make_family(tmp_path / "checkpoint", name)
    report = convert(ConversionOptions(folder, tmp_path / "out.gguf", "Q8_0", show_progress=False))
    assert (report.verified, report.warnings) == (True, ())
