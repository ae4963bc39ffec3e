"""Detect how a checkpoint is quantized, and give all its tensors as float rows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chat.errors import DataError, ModelError
from convert.checkpoint.json_file import read_json_object
from convert.dequantize.awq import EACH, open_awq
from convert.dequantize.compressed import PARTS, open_floats, open_integers
from convert.dequantize.float8 import KINDS, open_float8
from convert.dequantize.gptq import open_gptq
from convert.dequantize.parts import Part, Weight, find_parts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convert.checkpoint.folder import Checkpoint
    from convert.checkpoint.mapped_file import TensorEntry, TensorFile

ADVICE = "convert the original checkpoint, in 16 bits"
READABLE = ("gptq", "awq", "fp8", "compressed-tensors", "modelopt", "modelopt_fp4")
READABLE_FORMS = (  # of compressed-tensors
    "float-quantized",
    "naive-quantized",
    "dense",
    "pack-quantized",
    "nvfp4-pack-quantized",
    "mxfp4-pack-quantized",
    "mixed-precision",
)
READABLE_ALGORITHMS = ("", "FP8", "NVFP4", "MIXED_PRECISION")  # of ModelOpt
# tensors that only a scheme which cannot be read has
FOREIGN: Mapping[re.Pattern[str], str] = MappingProxyType(
    {
        re.compile(r"\.(absmax|quant_map|nested_absmax|quant_state\..*|SCB|weight_format)$"): "bitsandbytes",
        re.compile(r"\.(q_weight|q_invperm|q_scale|trellis)$"): "exllama",
        re.compile(r"\.codebooks$"): "AQLM",
    }
)
# scales of activations and caches: arithmetic on floats has no use for them
UNUSED = re.compile(
    r"(\.|_)(input_scale|input_global_scale|activation_scale|qscale_act|k_scale|v_scale|kv_scale|output_scale)$"
)
OWN_SCALE = "qscale_weight"  # as in Mistral's own files: X.qscale_weight
RELEASED_IN_FP8 = ("ministral3", "mistral4")
SCALE_OF_WEIGHT = ("_scale_inv", "_scale")  # X.weight_scale_inv, X.weight_scale


@dataclass(frozen=True)
class Unpacked:
    """Every tensor of a checkpoint as floats, and what a person should know about it."""

    tensors: Mapping[str, Weight]
    warnings: tuple[str, ...] = ()


def unpack(checkpoint: Checkpoint) -> Unpacked:
    """Give a checkpoint's tensors as floats, whatever was done to them before.

    Raises:
        ModelError: they are quantized in a way that cannot be read.
        DataError: they do not fit each other.
    """
    settings = read_settings(checkpoint)
    _refuse_foreign(checkpoint, settings)
    if any(name.endswith(".qweight") for name in checkpoint.tensors):
        return _unpack_packed(checkpoint, settings)
    if packed := _packed_weights(checkpoint):
        return _unpack_compressed(checkpoint, settings, packed)
    if any(entry.dtype in KINDS for _, entry in checkpoint.tensors.values()):
        warnings = () if _is_released_so(checkpoint, settings) else (warning("FP8"),)
        return Unpacked(_floats_of_float8(checkpoint, checkpoint.tensors, settings), warnings)
    return Unpacked({name: Weight(*place) for name, place in checkpoint.tensors.items()})


def read_settings(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """What the checkpoint's files say about its quantization; empty where they say nothing.

    Raises:
        DataError: they say it in a form that cannot be understood.
    """
    config = checkpoint.config
    inner = config.get("text_config")
    found = config.get("quantization_config") or (isinstance(inner, dict) and inner.get("quantization_config"))
    if not found:
        for name in ("quantize_config.json", "quant_config.json"):
            path = checkpoint.folder / name
            if path.is_file() and path.resolve().is_relative_to(checkpoint.folder.resolve()):
                found = read_json_object(path)
                break
    found = found or config.get("quantization") or {}
    if not isinstance(found, dict):
        raise DataError(f"{checkpoint.config_path}: the quantization settings must be an object")
    return found


def _refuse_foreign(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> None:
    for name in checkpoint.tensors:
        for pattern, scheme in FOREIGN.items():
            if pattern.search(name):
                raise _unreadable(checkpoint, scheme)
    if any(entry.dtype == "U32" and name.endswith(".weight") for name, (_, entry) in checkpoint.tensors.items()):
        raise _unreadable(checkpoint, "MLX")
    method = str(settings.get("quant_method") or "").lower()
    if method and method not in READABLE:
        raise _unreadable(checkpoint, method[:40])
    form = str(settings.get("format") or "float-quantized")
    if method == "compressed-tensors" and form not in READABLE_FORMS:
        raise _unreadable(checkpoint, f"compressed-tensors in the form {form[:40]}")
    algorithm = str(settings.get("quant_algo") or "")
    if method.startswith("modelopt") and algorithm not in READABLE_ALGORITHMS:
        raise _unreadable(checkpoint, f"ModelOpt's {algorithm[:40]}")


def _unreadable(checkpoint: Checkpoint, scheme: str) -> ModelError:
    advice = ADVICE
    if scheme == "bitsandbytes":
        advice = "convert the original checkpoint, or save this one again after transformers' `model.dequantize()`"
    return ModelError(f"{checkpoint.folder}: is quantized with {scheme}, which cannot be read", hint=advice)


def _unpack_packed(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> Unpacked:
    """GPTQ and AWQ, told apart by the axis that is packed."""
    version = str(settings.get("checkpoint_format") or settings.get("version") or "").lower()
    if version not in ("", "gptq", "gptq_v2", "gemm"):
        raise _unreadable(checkpoint, f"the {version[:40]} form of GPTQ or AWQ")
    modules = [name.removesuffix(".qweight") for name in checkpoint.tensors if name.endswith(".qweight")]
    made: dict[str, Weight] = {}
    schemes = set()
    for module in modules:
        scheme, weight = _open_packed(checkpoint, module, settings, version)
        schemes.add(scheme)
        made[f"{module}.weight"] = weight
    packed = set(modules)
    for name, place in checkpoint.tensors.items():
        module, _, part = name.rpartition(".")
        if module in packed and part in ("qweight", "qzeros", "scales", "g_idx"):
            continue
        if name in made:
            raise Part(*place).fault("is there both quantized and not")
        made[name] = Weight(*place)
    return Unpacked(made, (warning(" and ".join(sorted(schemes))),))


def _open_packed(checkpoint: Checkpoint, module: str, settings: Mapping[str, Any], version: str) -> tuple[str, Weight]:
    qweight, scales = find_parts(checkpoint.tensors, module, "qweight", "scales")
    shape, outputs = qweight.entry.shape, scales.entry.shape[-1:]
    if len(shape) == 2 and outputs == (shape[1] * EACH,):
        return "AWQ, 4 bits", open_awq(checkpoint.tensors, module)
    bits = settings.get("bits", settings.get("w_bit"))
    size = settings.get("group_size", settings.get("q_group_size", -1))
    weight = open_gptq(
        checkpoint.tensors,
        module,
        bits if type(bits) is int else None,
        size if type(size) is int else -1,
        is_v2=version == "gptq_v2",
    )
    return f"GPTQ, {qweight.entry.shape[0] * 32 // weight.entry.shape[1]} bits", weight


def _packed_weights(checkpoint: Checkpoint) -> Mapping[str, str]:
    """The layers of packed integers and 4-bit floats: the name of each one's packed tensor, without the layer's."""
    tensors = checkpoint.tensors
    found = {}
    for name, (_, entry) in tensors.items():
        module, _, part = name.rpartition(".")
        is_float4 = entry.dtype == "U8" and f"{module}.weight_scale_2" in tensors
        if part == "weight_packed" or (part == "weight" and is_float4):
            found[module] = part
    return found


def _unpack_compressed(checkpoint: Checkpoint, settings: Mapping[str, Any], packed: Mapping[str, str]) -> Unpacked:
    """compressed-tensors and ModelOpt, whose other layers may be FP8."""
    tensors = checkpoint.tensors
    made: dict[str, Weight] = {}
    schemes = set()
    for module, part in packed.items():
        if f"{module}.weight" in tensors and part != "weight":
            raise Part(*tensors[f"{module}.weight"]).fault("is there both quantized and not")
        if tensors[f"{module}.{part}"][1].dtype == "U8":
            made[f"{module}.weight"] = open_floats(tensors, module, part)
            schemes.add("4-bit floats")
        else:
            made[f"{module}.weight"] = open_integers(tensors, module)
            schemes.add("packed integers")
    used = {f"{module}.weight_{part}" for module in packed for part in PARTS} | made.keys()
    rest = {name: place for name, place in tensors.items() if name not in used}
    return Unpacked(made | _floats_of_float8(checkpoint, rest, settings), (warning(" and ".join(sorted(schemes))),))


def _floats_of_float8(
    checkpoint: Checkpoint, tensors: Mapping[str, tuple[TensorFile, TensorEntry]], settings: Mapping[str, Any]
) -> dict[str, Weight]:
    """These tensors with those of FP8 as floats."""
    block = _block(checkpoint, settings)
    scales = {name: _scale_of(checkpoint, name) for name, (_, entry) in tensors.items() if entry.dtype in KINDS}
    left_out = set(scales.values())
    made: dict[str, Weight] = {}
    for name, place in tensors.items():
        if name in scales:
            made[name] = open_float8(Part(*place), Part(*tensors[scales[name]]), block)
        elif name not in left_out and not UNUSED.search(name):
            made[name] = Weight(*place)
    return made


def _is_released_so(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> bool:
    """Whether Mistral released the model in FP8: its own files, and its models since December 2025."""
    if any(name.endswith(OWN_SCALE) for name in checkpoint.tensors):
        return True
    inner = checkpoint.config.get("text_config")
    text = inner if isinstance(inner, dict) else checkpoint.config
    return text.get("model_type") in RELEASED_IN_FP8 and str(settings.get("quant_method")).lower() == "fp8"


def _scale_of(checkpoint: Checkpoint, weight: str) -> str:
    """The name of the scale of an FP8 weight."""
    own = re.sub(r"(^|\.)weight$", rf"\1{OWN_SCALE}", weight)
    for name in (*(weight + suffix for suffix in SCALE_OF_WEIGHT), own):
        if name != weight and name in checkpoint.tensors:
            return name
    raise Part(*checkpoint.tensors[weight]).fault("is FP8, but there is no scale for it")


def _block(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> tuple[int, int]:
    stated = settings.get("weight_block_size") or [128, 128]
    if not isinstance(stated, list) or len(stated) != 2 or not all(type(size) is int and size > 0 for size in stated):
        raise DataError(f"{checkpoint.config_path}: `weight_block_size` must be two whole numbers from 1")
    return stated[0], stated[1]


def warning(scheme: str) -> str:
    """What to tell about a model that was rounded before."""
    return (
        f"the checkpoint is quantized already ({scheme}), so this file is a requantization: what was lost before stays "
        "lost, and more is lost now; convert the original checkpoint where it can be had"
    )
