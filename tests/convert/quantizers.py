"""Pack weights as GPTQ, AWQ and FP8 programs do, from their formulas, one row of numbers at a time. For tests only."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.convert.samples import Array, safetensors_bytes

DTYPES = {"int32": "I32", "int64": "I64", "uint16": "BF16", "float16": "F16", "float32": "F32", "uint8": "U8"}


def write_tensors(path: Path, tensors: Mapping[str, Array], dtypes: Mapping[str, str] | None = None) -> None:
    """A safetensors file; `dtypes` names other types than the arrays' own."""
    header: dict[str, Any] = {}
    parts, at = [], 0
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        kind = (dtypes or {}).get(name, DTYPES.get(array.dtype.name, ""))
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [at, at + len(raw)]}
        parts.append(raw)
        at += len(raw)
    path.write_bytes(safetensors_bytes(header, b"".join(parts)))


def write_json(path: Path, **values: Any) -> None:
    """A JSON object."""
    path.write_text(json.dumps(values))


def add_numbers(words: Array, place: int, bits: int, numbers: Array) -> None:
    """Put one number into each of the words."""
    assert ((numbers >= 0) & (numbers < 1 << bits)).all()
    words |= numbers.astype(np.uint32) << np.uint32(place * bits)


def no_words(*shape: int) -> Array:
    """32-bit words without a number in them."""
    return np.zeros(shape, np.uint32)


def gptq(
    outputs: int, inputs: int, bits: int, group: int, seed: int, *, is_v2: bool, is_sorted: bool, is_symmetric: bool
) -> tuple[dict[str, Array], Array]:
    """A GPTQ layer's tensors, and the weight (outputs, inputs) that they mean, in float64."""
    generator = np.random.default_rng(seed)
    levels, each = 1 << bits, 32 // bits
    groups = inputs // group
    numbers = generator.integers(0, levels, (inputs, outputs))
    zeros = (
        np.full((groups, outputs), levels // 2) if is_symmetric else generator.integers(0, levels, (groups, outputs))
    )
    scales = (generator.random((groups, outputs)) * 0.02 + 0.001).astype(np.float16)
    order = np.arange(inputs) // group
    if is_sorted:  # groups follow the sizes of activations, not the inputs' places
        order = order[generator.permutation(inputs)]
    qweight = no_words(inputs // each, outputs)
    for i in range(inputs):
        add_numbers(qweight[i // each], i % each, bits, numbers[i])
    qzeros = no_words(groups, outputs // each)
    for o in range(outputs):
        add_numbers(qzeros[:, o // each], o % each, bits, zeros[:, o] if is_v2 else (zeros[:, o] - 1) % levels)
    weight = np.empty((outputs, inputs))
    for i in range(inputs):
        weight[:, i] = scales[order[i]].astype(np.float64) * (numbers[i] - zeros[order[i]])
    tensors = {
        "qweight": qweight.view(np.int32),
        "qzeros": qzeros.view(np.int32),
        "scales": scales,
        "g_idx": order.astype(np.int32),
    }
    return tensors, weight


def awq(outputs: int, inputs: int, group: int, seed: int) -> tuple[dict[str, Array], Array]:
    """An AWQ GEMM layer's tensors, and the weight (outputs, inputs) that they mean, in float64."""
    generator = np.random.default_rng(seed)
    numbers = generator.integers(0, 16, (inputs, outputs))
    zeros = generator.integers(0, 16, (inputs // group, outputs))
    scales = (generator.random((inputs // group, outputs)) * 0.02 + 0.001).astype(np.float16)
    places = [0, 2, 4, 6, 1, 3, 5, 7]  # AutoAWQ's order_map: nibble n of a word is the column with this number

    def pack(matrix: Array) -> Array:
        words = no_words(len(matrix), outputs // 8)
        for column in range(outputs // 8):
            for nibble in range(8):
                add_numbers(words[:, column], nibble, 4, matrix[:, column * 8 + places[nibble]])
        return words.view(np.int32)

    weight = np.empty((outputs, inputs))
    for i in range(inputs):
        weight[:, i] = scales[i // group].astype(np.float64) * (numbers[i] - zeros[i // group])
    return {"qweight": pack(numbers), "qzeros": pack(zeros), "scales": scales}, weight


def packed_integers(
    outputs: int, inputs: int, bits: int, group: int, seed: int, *, has_zeros: bool = False, is_sorted: bool = False
) -> tuple[dict[str, Array], Array]:
    """A layer as compressed-tensors packs integers, and the weight (outputs, inputs) that it means, in float64."""
    generator = np.random.default_rng(seed)
    levels, each, groups = 1 << bits, 32 // bits, inputs // group
    numbers = generator.integers(0, levels, (outputs, inputs))
    zeros = generator.integers(0, levels, (outputs, groups)) if has_zeros else np.full((outputs, groups), levels // 2)
    scales = (generator.random((outputs, groups)) * 0.02 + 0.001).astype(np.float16)
    order = np.arange(inputs) // group
    if is_sorted:
        order = order[generator.permutation(inputs)]
    words = no_words(outputs, -(-inputs // each))
    for i in range(inputs):
        add_numbers(words[:, i // each], i % each, bits, numbers[:, i])
    zero_words = no_words(-(-outputs // each), groups)
    for o in range(outputs):
        add_numbers(zero_words[o // each], o % each, bits, zeros[o])
    tensors = {
        "weight_packed": words.view(np.int32),
        "weight_scale": scales,
        "weight_shape": np.array([outputs, inputs], np.int64),
    }
    if has_zeros:
        tensors["weight_zero_point"] = zero_words.view(np.int32)
    if is_sorted:
        tensors["weight_g_idx"] = order.astype(np.int32)
    weight = np.empty((outputs, inputs))
    for i in range(inputs):
        weight[:, i] = scales[:, order[i]].astype(np.float64) * (numbers[:, i] - zeros[:, order[i]])
    return tensors, weight


def float4(outputs: int, inputs: int, seed: int, scheme: str) -> tuple[dict[str, Array], Array]:
    """A layer of 4-bit floats, and the weight (outputs, inputs) that it means, in float64.

    Args:
        scheme: "nvfp4" of compressed-tensors, "modelopt" or "mxfp4".
    """
    generator = np.random.default_rng(seed)
    size = 32 if scheme == "mxfp4" else 16
    codes = generator.integers(0, 16, (outputs, inputs))
    scales = generator.integers(110, 120, (outputs, inputs // size)).astype(np.uint8)
    factor = np.float32(generator.random() + 0.5)
    packed = (codes[:, ::2] | codes[:, 1::2] << 4).astype(np.uint8)
    values = []
    for code in range(16):
        exponent, fraction = code >> 1 & 3, code & 1
        value = fraction / 2 if exponent == 0 else (1 + fraction / 2) * 2.0 ** (exponent - 1)
        values.append(-value if code & 8 else value)
    if scheme == "mxfp4":
        steps = 2.0 ** (scales.astype(np.float64) - 127)
    else:
        float8s = np.array([e4m3(scale) for scale in range(256)], np.float32)[scales]
        steps = float8s / factor if scheme == "nvfp4" else float8s * factor
    weight = (np.array(values, np.float32)[codes] * np.repeat(steps, size, axis=1)).astype(np.float64)
    name = "weight" if scheme == "modelopt" else "weight_packed"
    tensors = {name: packed, "weight_scale": scales, "input_scale": np.ones(1, np.float32)}
    if scheme == "nvfp4":
        tensors["weight_global_scale"] = np.array([factor])
    elif scheme == "modelopt":
        tensors["weight_scale_2"] = np.array(factor)
    return tensors, weight


def e4m3(code: int) -> float:
    """What a byte of float8 e4m3fn means: sign, 4 bits of exponent (bias 7), 3 bits of fraction, no infinities."""
    sign = -1.0 if code & 0x80 else 1.0
    exponent, fraction = code >> 3 & 15, code & 7
    if exponent == 15 and fraction == 7:
        return float("nan")
    if exponent == 0:
        return sign * fraction / 8 * 2.0**-6
    return sign * (1 + fraction / 8) * 2.0 ** (exponent - 7)


def e5m2(code: int) -> float:
    """What a byte of float8 e5m2 means: the upper half of a float16."""
    return float(struct.unpack("<e", bytes([0, code]))[0])


def float8(outputs: int, inputs: int, seed: int) -> tuple[Array, Array]:
    """Bytes without NaN (outputs, inputs), and what they mean without a scale, in float64."""
    codes = np.random.default_rng(seed).integers(0, 256, (outputs, inputs))
    codes[codes & 127 == 127] = 0
    meanings = np.array([e4m3(code) for code in range(256)])
    return codes.astype(np.uint8), meanings[codes]
