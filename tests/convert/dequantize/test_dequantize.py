"""Quantized checkpoints, compared with packers written from the formulas of the schemes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat.errors import ChatError, DataError, ModelError
from convert.dequantize.float8 import table
from convert.draft import ConversionOptions
from convert.drafting import make_draft
from convert.pipeline import convert
from tests.convert.adapters import linear_modules, make_original, merged, original_name, pairs_for, write_peft
from tests.convert.quantizers import awq, e4m3, e5m2, float4, float8, gptq, packed_integers, write_json, write_tensors
from tests.convert.samples import (
    V01,
    Array,
    Sizes,
    config_of,
    float32,
    hugging_face_tensors,
    make_checkpoint,
    tensor_bytes,
)
from tests.grids import FULL

SIZES = Sizes(layers=1, width=128, heads=4, kv_heads=2, head_dim=32, hidden=256)
PLAIN = hugging_face_tensors(SIZES)
MODULES = linear_modules(PLAIN, ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"))
WARNING = "so this file is a requantization"
Layer = Callable[[int, int, int], tuple[dict[str, Array], Array]]


def quantized(layer: Layer) -> tuple[dict[str, Array], dict[str, Array]]:
    """A checkpoint's tensors with its linear layers packed, and the checkpoint that they mean, in float32."""
    packed: dict[str, Array] = {}
    plain: dict[str, Array] = {}
    for name, array in PLAIN.items():
        module = name.removesuffix(".weight")
        if module not in MODULES:
            packed[name], plain[name] = array, float32(array)
            continue
        parts, weight = layer(*array.shape, MODULES.index(module))
        packed |= {f"{module}.{part}": values for part, values in parts.items()}
        plain[name] = weight.astype(np.float32)
    return packed, plain


def folder_of(path: Path, tensors: dict[str, Array], dtypes: dict[str, str] | None = None, **config: Any) -> Path:
    path.mkdir(parents=True)
    write_tensors(path / "model.safetensors", tensors, dtypes)
    write_json(path / "config.json", **{**config_of(SIZES), **config})
    shutil.copy(V01 / "tokenizer.model", path)
    return path


def made_of(
    folder: Path, type_name: str = "F32", *adapters: Path, verify: bool = True
) -> tuple[dict[str, bytes], tuple[str, ...]]:
    out = folder.parent / f"{folder.name}.gguf"
    with_scales = tuple((adapter, 1.0) for adapter in adapters)
    options = ConversionOptions(
        folder, out, type_name, show_progress=False, adapters=with_scales, overwrite=True, verify=verify
    )
    report = convert(options)
    return tensor_bytes(out)[1], report.warnings


def wanted_of(tmp_path: Path, plain: dict[str, Array], type_name: str = "F32") -> dict[str, bytes]:
    """What the converter makes of the checkpoint in float32."""
    return made_of(make_checkpoint(tmp_path / "plain", SIZES, plain), type_name, verify=False)[0]


@pytest.mark.slow
@pytest.mark.parametrize("is_symmetric", [True, False], ids=["symmetric", "asymmetric"])
@pytest.mark.parametrize("is_sorted", [False, True], ids=["in-order", "desc-act"])
@pytest.mark.parametrize("is_v2", [False, True], ids=["v1", "v2"])
@pytest.mark.parametrize("bits", [4, 8])
def test_gptq_means_what_its_formula_says(
    bits: int, is_v2: bool, is_sorted: bool, is_symmetric: bool, tmp_path: Path
) -> None:
    packed, plain = quantized(
        lambda outputs, inputs, seed: gptq(
            outputs, inputs, bits, 32, seed, is_v2=is_v2, is_sorted=is_sorted, is_symmetric=is_symmetric
        )
    )
    folder = folder_of(tmp_path / "gptq", packed)
    write_json(
        folder / "quantize_config.json",
        bits=bits,
        group_size=32,
        desc_act=is_sorted,
        sym=is_symmetric,
        checkpoint_format="gptq_v2" if is_v2 else "gptq",
    )
    made, warnings = made_of(folder)
    assert made == wanted_of(tmp_path, plain)
    assert len(warnings) == 1
    assert warnings[0].startswith(f"the checkpoint is quantized already (GPTQ, {bits} bits), {WARNING}")


def without_order(layer: tuple[dict[str, Array], Array]) -> tuple[dict[str, Array], Array]:
    layer[0].pop("g_idx")
    return layer


@pytest.mark.parametrize("group_size", [64, -1])
def test_gptq_without_an_order_takes_groups_from_its_settings(group_size: int, tmp_path: Path) -> None:
    packed, plain = quantized(
        lambda outputs, inputs, seed: without_order(
            gptq(
                *(outputs, inputs, 4, group_size if group_size > 0 else inputs, seed),
                is_v2=False,
                is_sorted=False,
                is_symmetric=False,
            )
        )
    )
    settings = {"quant_method": "gptq", "bits": 4, "group_size": group_size}
    made, _ = made_of(folder_of(tmp_path / "gptq", packed, quantization_config=settings), "Q8_0")
    assert made == wanted_of(tmp_path, plain, "Q8_0")


def test_gptq_biases_of_nothing_are_passed_over_and_others_refused(tmp_path: Path) -> None:
    packed, plain = quantized(
        lambda *sizes: gptq(*sizes[:2], 4, 32, sizes[2], is_v2=False, is_sorted=False, is_symmetric=True)
    )
    bias = {f"{module}.bias": np.zeros(len(packed[f"{module}.g_idx"]), np.float16) for module in MODULES}
    folder = folder_of(tmp_path / "zero", {**packed, **bias})
    (folder / "model.safetensors").rename(folder / "gptq_model-4bit-32g.safetensors")
    assert made_of(folder)[0] == wanted_of(tmp_path, plain)
    bias[f"{MODULES[0]}.bias"] = np.ones_like(bias[f"{MODULES[0]}.bias"])
    with pytest.raises(
        DataError, match=r"self_attn.q_proj.bias` is a bias, which the model's configuration does not have"
    ):
        make_draft(ConversionOptions(folder_of(tmp_path / "one", {**packed, **bias})))


@pytest.mark.parametrize("type_name", ["F32", "Q4_K_M"])
def test_awq_means_what_its_formula_says(type_name: str, tmp_path: Path) -> None:
    packed, plain = quantized(lambda outputs, inputs, seed: awq(outputs, inputs, 32, seed))
    settings = {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True}
    made, warnings = made_of(folder_of(tmp_path / "awq", packed, quantization_config=settings), type_name)
    assert made == wanted_of(tmp_path, plain, type_name)
    assert warnings[0].startswith("the checkpoint is quantized already (AWQ, 4 bits), " + WARNING)


@pytest.mark.slow
def test_rows_are_the_same_however_they_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, layer in (
        ("awq", lambda outputs, inputs, seed: awq(outputs, inputs, 32, seed)),
        (
            "gptq",
            lambda *sizes: gptq(*sizes[:2], 4, 32, sizes[2], is_v2=False, is_sorted=True, is_symmetric=False),
        ),
    ):
        packed, _ = quantized(layer)
        folder = folder_of(tmp_path / name, packed)
        made = made_of(folder)[0]
        with monkeypatch.context() as patch:
            patch.setattr("convert.output.tensor_writer.CHUNK_NUMBERS", 128 * 3)  # 3 rows: no multiple of a word's 8
            assert made_of(folder)[0] == made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bits", "group", "has_zeros", "is_sorted"),
    [(4, 32, False, False), (4, 128, True, False), (8, 64, True, False), (2, 32, False, True), (4, 16, True, True)],
)
def test_packed_integers_mean_what_their_formula_says(
    bits: int, group: int, has_zeros: bool, is_sorted: bool, tmp_path: Path
) -> None:
    packed, plain = quantized(
        lambda outputs, inputs, seed: packed_integers(
            outputs, inputs, bits, group, seed, has_zeros=has_zeros, is_sorted=is_sorted
        )
    )
    settings = {"quant_method": "compressed-tensors", "format": "pack-quantized"}
    made, warnings = made_of(folder_of(tmp_path / "packed", packed, quantization_config=settings))
    assert made == wanted_of(tmp_path, plain)
    assert warnings[0].startswith("the checkpoint is quantized already (packed integers)")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "settings"),
    [
        ("nvfp4", {"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}),
        ("mxfp4", {"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized"}),
        ("modelopt", {"quant_method": "modelopt", "quant_algo": "NVFP4"}),
    ],
)
def test_floats_of_4_bits_mean_what_their_formula_says(scheme: str, settings: Any, tmp_path: Path) -> None:
    packed, plain = quantized(lambda outputs, inputs, seed: float4(outputs, inputs, seed, scheme))
    dtypes = {name: "F8_E4M3" for name in packed if name.endswith("weight_scale") and scheme != "mxfp4"}
    made, warnings = made_of(folder_of(tmp_path / "packed", packed, dtypes, quantization_config=settings))
    assert made == wanted_of(tmp_path, plain)
    assert warnings[0].startswith("the checkpoint is quantized already (4-bit floats)")


def test_layers_of_fp8_may_stand_beside_4_bit_floats(tmp_path: Path) -> None:
    """As in releases whose attention is FP8 and whose experts are NVFP4."""
    packed, plain = quantized(lambda outputs, inputs, seed: float4(outputs, inputs, seed, "modelopt"))
    dtypes = {name: "F8_E4M3" for name in packed if name.endswith("weight_scale")}
    for part in ("weight", "weight_scale", "weight_scale_2", "input_scale"):
        packed.pop(f"{UP}.{part}")
    packed[f"{UP}.weight"] = np.full((256, 128), 0x38, np.uint8)
    packed[f"{UP}.weight_scale"] = np.array(0.25, np.float32)
    plain[f"{UP}.weight"] = np.full((256, 128), 0.25, np.float32)
    dtypes = {**dtypes, f"{UP}.weight": "F8_E4M3", f"{UP}.weight_scale": "F32"}
    made, _ = made_of(folder_of(tmp_path / "mixed", packed, dtypes))
    assert made == wanted_of(tmp_path, plain)


def test_bytes_of_float8_are_what_the_format_says() -> None:
    for kind, meaning in (("F8_E4M3", e4m3), ("F8_E5M2", e5m2)):
        assert np.array_equal(table(kind), np.array([meaning(code) for code in range(256)], np.float32), equal_nan=True)
    assert table("F8_E4M3")[0x7E] == 448.0


def fp8_checkpoint(
    suffix: str, scales: Callable[[Array], Array]
) -> tuple[dict[str, Array], dict[str, Array], dict[str, str]]:
    """Tensors with FP8 layers, the checkpoint that they mean, and the names of types."""
    packed: dict[str, Array] = {}
    plain: dict[str, Array] = {}
    dtypes: dict[str, str] = {}
    for name, array in PLAIN.items():
        module = name.removesuffix(".weight")
        if module not in MODULES:
            packed[name], plain[name] = array, float32(array)
            continue
        codes, meaning = float8(*array.shape, MODULES.index(module))
        scale = scales(codes)
        packed[name], dtypes[name] = codes, "F8_E4M3"
        packed[f"{module}.{suffix}"] = scale
        factors = scale.astype(np.float64)
        if suffix == "weight_scale_inv" and factors.ndim:
            factors = np.repeat(np.repeat(factors, 64, 0), 64, 1)[: len(codes), : codes.shape[1]]
        plain[name] = (meaning * factors).astype(np.float32)
    return packed, plain, dtypes


def drawn(shape: Callable[[Array], tuple[int, ...]]) -> Callable[[Array], Array]:
    def scales(codes: Array) -> Array:
        generator = np.random.default_rng(codes.size)
        return (generator.random(shape(codes)) * 0.001 + 0.0001).astype(np.float32)

    return scales


FP8 = [
    ("weight_scale_inv", lambda codes: (len(codes) // 64, codes.shape[1] // 64), {"quant_method": "fp8"}),
    ("weight_scale_inv", lambda codes: (), {"quant_method": "fp8", "weight_block_size": None}),
    ("weight_scale", lambda codes: (1,), {"quant_method": "fp8", "activation_scheme": "static"}),
    (
        "weight_scale",
        lambda codes: (len(codes), 1),
        {"quant_method": "compressed-tensors", "format": "float-quantized"},
    ),
]


@pytest.mark.parametrize(("suffix", "shape", "settings"), FP8, ids=["blocks", "tensor-inv", "tensor", "channels"])
def test_fp8_of_hugging_face_is_bytes_times_scales(suffix: str, shape: Any, settings: Any, tmp_path: Path) -> None:
    packed, plain, dtypes = fp8_checkpoint(suffix, drawn(shape))
    if suffix == "weight_scale":
        packed |= {f"{module}.input_scale": np.ones(1, np.float32) for module in MODULES}
    settings = {"weight_block_size": [64, 64], **settings}
    folder = folder_of(tmp_path / "fp8", packed, dtypes, quantization_config=settings)
    made, warnings = made_of(folder)
    assert made == wanted_of(tmp_path, plain)
    assert warnings[0].startswith("the checkpoint is quantized already (FP8), " + WARNING)


def test_blocks_of_fp8_may_be_cut_at_the_edges(tmp_path: Path) -> None:
    """Blocks of 96 do not divide 128 or 256."""
    codes, meaning = float8(256, 128, 1)
    scale = (np.random.default_rng(2).random((3, 2)) * 0.001).astype(np.float32)
    tensors = {**PLAIN, "model.layers.0.mlp.up_proj.weight": codes}
    tensors["model.layers.0.mlp.up_proj.weight_scale_inv"] = scale
    factors = np.repeat(np.repeat(scale.astype(np.float64), 96, 0), 96, 1)[:256, :128]
    plain = {**PLAIN, "model.layers.0.mlp.up_proj.weight": (meaning * factors).astype(np.float32)}
    dtypes = {"model.layers.0.mlp.up_proj.weight": "F8_E4M3"}
    settings = {"quant_method": "fp8", "weight_block_size": [96, 96]}
    folder = folder_of(tmp_path / "fp8", tensors, dtypes, quantization_config=settings)
    wanted = {name: array if array.dtype == np.float32 else float32(array) for name, array in plain.items()}
    assert made_of(folder)[0] == wanted_of(tmp_path, wanted)


def test_fp8_of_mistral_is_bytes_times_qscale_weight(tmp_path: Path) -> None:
    packed, plain, dtypes = fp8_checkpoint("qscale_weight", drawn(lambda codes: ()))
    original: dict[str, Array] = {}
    kinds: dict[str, str] = {}
    for name, array in packed.items():
        module, _, part = name.rpartition(".")
        rows = array
        if part == "weight" and module.endswith(("q_proj", "k_proj")):
            rows = array.reshape(-1, 2, 16, 128).swapaxes(1, 2).reshape(array.shape)
        original[f"{original_name(module)}.{part}"] = rows
        if name in dtypes:
            kinds[f"{original_name(module)}.{part}"] = dtypes[name]
    original |= {f"{original_name(module)}.qscale_act": np.ones((), np.float32) for module in MODULES}
    params = {"dim": 128, "n_layers": 1, "n_heads": 4, "n_kv_heads": 2, "head_dim": 32, "hidden_dim": 256}
    params |= {"norm_eps": 1e-5, "vocab_size": 512, "rope_theta": 10000.0}
    quantization = {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"}
    folder = make_original(tmp_path / "original", {}, 32, {**params, "quantization": quantization})
    write_tensors(folder / "consolidated.safetensors", original, kinds)
    shutil.copy(V01 / "tokenizer.model", folder)
    made, warnings = made_of(folder)
    assert made == wanted_of(tmp_path, plain)
    assert warnings == ()  # the release's own form: there is no other to fetch


def test_an_adapter_is_merged_into_a_quantized_base(tmp_path: Path) -> None:
    packed, plain = quantized(lambda outputs, inputs, seed: awq(outputs, inputs, 64, seed))
    pairs = pairs_for(plain, MODULES)
    adapter = write_peft(tmp_path / "adapter", pairs)
    made, _ = made_of(folder_of(tmp_path / "awq", packed), "F32", adapter)
    assert made == wanted_of(tmp_path, merged(plain, pairs, 2.0))


def test_a_plain_checkpoint_is_converted_without_a_warning(tmp_path: Path) -> None:
    assert made_of(make_checkpoint(tmp_path / "plain", SIZES, PLAIN))[1] == ()


# ---------------------------------------------------------------------------------------------------------------------
# What cannot be read: one sentence with the tensor's name
# ---------------------------------------------------------------------------------------------------------------------

GPTQ = quantized(lambda *sizes: gptq(*sizes[:2], 4, 32, sizes[2], is_v2=False, is_sorted=False, is_symmetric=True))[0]
AWQ = quantized(lambda outputs, inputs, seed: awq(outputs, inputs, 32, seed))[0]
PACKED = quantized(lambda outputs, inputs, seed: packed_integers(outputs, inputs, 4, 32, seed))[0]
UP = "model.layers.0.mlp.up_proj"
WORDS = np.zeros((3, 5), np.int32)
HALVES = np.zeros((3, 5), np.float16)

Change = dict[str, Array | None]
FAULTS: list[tuple[dict[str, Array], Change, dict[str, Any], type[ChatError], str]] = [
    (GPTQ, {f"{UP}.scales": None}, {}, DataError, f"the quantized layer `{UP}` lacks its `scales`"),
    (GPTQ, {f"{UP}.qzeros": None}, {}, DataError, f"the quantized layer `{UP}` lacks its `qzeros`"),
    (GPTQ, {f"{UP}.qzeros": WORDS}, {}, DataError, rf"`{UP}.qzeros` has shape \[3, 5\], but must have \[4, 32\]"),
    (GPTQ, {f"{UP}.qweight": WORDS}, {}, DataError, rf"`{UP}.qweight` packs numbers of 0 bits"),
    (GPTQ, {f"{UP}.qweight": WORDS[0]}, {}, DataError, rf"`{UP}.qweight` has shape \[5\], but GPTQ packs matrices"),
    (GPTQ, {f"{UP}.qweight": HALVES}, {}, DataError, rf"`{UP}.qweight` "),
    (GPTQ, {f"{UP}.scales": HALVES}, {}, DataError, rf"`{UP}.qzeros` has shape \[4, 32\], but must have \[3, 32\]"),
    (GPTQ, {f"{UP}.g_idx": np.full(128, 4, np.int32)}, {}, DataError, rf"`{UP}.g_idx` names group 4 or 4, but there"),
    (GPTQ, {f"{UP}.g_idx": np.full(128, -1, np.int32)}, {}, DataError, rf"`{UP}.g_idx` names group -1"),
    (GPTQ, {f"{UP}.g_idx": np.zeros(128, np.float16)}, {}, DataError, rf"`{UP}.g_idx` holds F16, but must hold I32"),
    (GPTQ, {f"{UP}.weight": HALVES}, {}, DataError, rf"`{UP}.weight` is there both quantized and not"),
    (GPTQ, {}, {"bits": 4, "checkpoint_format": "marlin"}, ModelError, "is quantized with the marlin form of GPTQ"),
    (AWQ, {f"{UP}.qzeros": WORDS}, {}, DataError, rf"`{UP}.qzeros` has shape \[3, 5\], but must have \[4, 32\]"),
    (AWQ, {f"{UP}.scales": np.zeros((3, 256), np.float16)}, {}, DataError, rf"`{UP}.qzeros` has shape"),
    (AWQ, {}, {"quant_method": "awq", "version": "gemv"}, ModelError, "is quantized with the gemv form of GPTQ or AWQ"),
    (PLAIN, {f"{UP}.weight": np.zeros((256, 128), np.uint8)}, {}, DataError, rf"`{UP}.weight` is FP8, but there is no"),
    (PLAIN, {f"{UP}.SCB": HALVES}, {}, ModelError, "is quantized with bitsandbytes, which cannot be read"),
    (PLAIN, {f"{UP}.weight.absmax": HALVES}, {}, ModelError, "is quantized with bitsandbytes"),
    (PLAIN, {f"{UP}.weight.quant_state.bitsandbytes__nf4": HALVES}, {}, ModelError, "quantized with bitsandbytes"),
    (PLAIN, {}, {"quant_method": "bitsandbytes"}, ModelError, "is quantized with bitsandbytes"),
    (PLAIN, {}, {"quant_method": "hqq"}, ModelError, "is quantized with hqq, which cannot be read"),
    (PLAIN, {}, {"quant_method": "compressed-tensors", "format": "marlin-24"}, ModelError, "in the form marlin-24"),
    (PLAIN, {}, {"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}, ModelError, "with ModelOpt's W4A8_AWQ"),
    (PLAIN, {f"{UP}.weight_packed": WORDS}, {}, DataError, rf"`{UP}.weight` is there both quantized and not"),
    (PACKED, {f"{UP}.weight_scale": None}, {}, DataError, f"the quantized layer `{UP}` lacks its `weight_scale`"),
    (PACKED, {f"{UP}.weight_shape": None}, {}, DataError, f"the quantized layer `{UP}` lacks its `weight_shape`"),
    (PACKED, {f"{UP}.weight_packed": WORDS}, {}, DataError, rf"`{UP}.weight_packed` has shape \[3, 5\], but must have"),
    (PACKED, {f"{UP}.weight_shape": np.array([256, -1])}, {}, DataError, "no numbers of 2, 4 or 8 bits"),
    (PACKED, {f"{UP}.weight_shape": np.array([256, 500])}, {}, DataError, "no numbers of 2, 4 or 8 bits"),
    (PACKED, {f"{UP}.weight_scale": np.ones((256, 3), np.float16)}, {}, DataError, "has 3 groups, into which 128"),
    (PACKED, {f"{UP}.weight_g_idx": np.full(128, 4, np.int32)}, {}, DataError, "names groups from 4 to 4, but there"),
    (PACKED, {f"{UP}.weight_zero_point": WORDS}, {}, DataError, rf"`{UP}.weight_zero_point` has shape"),
    (PLAIN, {f"{UP}.q_weight": WORDS}, {}, ModelError, "is quantized with exllama"),
]


@pytest.mark.parametrize(
    ("tensors", "change", "settings", "kind", "words"), FAULTS, ids=[str(number) for number in range(len(FAULTS))]
)
def test_what_cannot_be_read_is_one_sentence(
    tensors: dict[str, Array], change: Change, settings: Any, kind: type[ChatError], words: str, tmp_path: Path
) -> None:
    changed = {name: array for name, array in {**tensors, **change}.items() if array is not None}
    dtypes = {name: "F8_E4M3" for name, array in changed.items() if array.dtype == np.uint8}
    folder = folder_of(tmp_path / "model", changed, dtypes, quantization_config=settings)
    with pytest.raises(kind, match=words) as caught:
        convert(ConversionOptions(folder, tmp_path / "out.gguf"))
    assert type(caught.value) is kind
    assert "\n" not in caught.value.message
    if kind is ModelError:
        assert caught.value.hint is not None
    assert not (tmp_path / "out.gguf").exists()


@pytest.mark.parametrize("shape", [(4, 3), (256, 2), (2,), (0,), (3, 1, 1)], ids=str)
def test_a_scale_that_fits_no_block_is_named(shape: tuple[int, ...], tmp_path: Path) -> None:
    tensors = {
        **PLAIN,
        f"{UP}.weight": np.zeros((256, 128), np.uint8),
        f"{UP}.weight_scale": np.ones(shape, np.float32),
    }
    folder = folder_of(tmp_path / "model", tensors, {f"{UP}.weight": "F8_E4M3"})
    with pytest.raises(
        DataError, match=rf"`{UP}.weight_scale` has shape .* which is not a scale for a weight of 256 x 128"
    ):
        make_draft(ConversionOptions(folder))


def test_a_nan_of_fp8_is_an_error_that_names_the_row(tmp_path: Path) -> None:
    codes = np.zeros((256, 128), np.uint8)
    codes[77, 5] = 0xFF
    tensors = {**PLAIN, f"{UP}.weight": codes, f"{UP}.weight_scale": np.ones(1, np.float32)}
    folder = folder_of(tmp_path / "model", tensors, {f"{UP}.weight": "F8_E4M3"})
    with pytest.raises(DataError, match=r"blk.0.ffn_up.weight: -?nan in row 77, column 5"):
        convert(ConversionOptions(folder, tmp_path / "out.gguf"))


def any_array(generator: np.random.Generator) -> Array:
    """Of a shape and type by chance, often empty."""
    shape = tuple(generator.choice([0, 1, 2, 4, 8, 32, 128, 256], generator.integers(0, 4)))
    kind = generator.choice(["int32", "int64", "float16", "float32", "uint8"])
    return np.zeros(shape, kind) if np.prod(shape) < 1 << 16 else np.zeros(shape[:1], kind)


@pytest.mark.parametrize("seed", range(3))
def test_any_shapes_of_any_types_are_refused_or_read_and_never_a_crash(seed: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(seed)
    count = 300 if FULL else 40
    parts = ("qweight", "qzeros", "scales", "g_idx", "weight", "weight_scale", "weight_scale_inv", "qscale_weight")
    refused = 0
    for number in range(count):
        tensors = dict((GPTQ, AWQ, PLAIN)[number % 3])
        for part in generator.choice(parts, generator.integers(1, 4), replace=False):
            tensors[f"{UP}.{part}"] = any_array(generator)
        dtypes = {name: "F8_E4M3" for name, array in tensors.items() if array.dtype == np.uint8}
        folder = folder_of(tmp_path / str(number), tensors, dtypes)
        try:
            made_of(folder)
        except ChatError as error:
            refused += 1
            assert UP in error.message or "blk.0.ffn_up" in error.message, error.message
        shutil.rmtree(folder)
    assert refused > count * 0.9
