"""Read the scaling of rotary positions, and refuse what llama.cpp does not compute."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, log
from typing import TYPE_CHECKING, Any, Literal

from chat.errors import DataError, ModelError
from convert.architecture.config_reader import told

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# llama.cpp's own, which no key of the file changes for this architecture
BETA_FAST, BETA_SLOW = 32.0, 1.0


@dataclass(frozen=True)
class RopeScaling:
    """How positions are stretched."""

    kind: Literal["linear", "yarn"]
    factor: float
    original_context: int | None = None  # tokens the model was trained with before; for yarn only
    attention_factor: float = 1.0  # of sine and cosine, relative to YaRN's own 0.1 * ln(factor) + 1


def read_rope_scaling(path: Path, rope: Mapping[str, Any], context: int | None) -> RopeScaling | None:
    """Read Hugging Face's `rope_parameters` or `rope_scaling`; None where positions are as they are.

    Args:
        context: The model's context length, as stated; what YaRN stretches where it does not say.

    Raises:
        DataError: a value is impossible.
        ModelError: positions of another kind than llama.cpp computes.
    """
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling("linear", _positive(path, rope, "factor"))
    if kind != "yarn":
        raise ModelError(f"{path}: a model with {str(kind)[:40]} rotary positions cannot be run")
    return _read_yarn(path, rope, context)


def _read_yarn(path: Path, rope: Mapping[str, Any], context: int | None) -> RopeScaling:
    factor = _positive(path, rope, "factor")
    if factor < 1:
        raise DataError(f"{path}: `factor` of the rotary positions is {factor:g}, but must be 1 or more")
    for name, only in (("beta_fast", BETA_FAST), ("beta_slow", BETA_SLOW)):
        if rope.get(name) is not None and _positive(path, rope, name) != only:
            raise ModelError(
                f"{path}: yarn rotary positions with a `{name}` of {rope[name]} cannot be run, only {only:g}"
            )
    if rope.get("truncate") is False:
        raise ModelError(f"{path}: yarn rotary positions with `truncate` off cannot be run")
    original = rope.get("original_max_position_embeddings", context)
    if type(original) is not int or not 1 <= original < 1 << 31:
        raise DataError(
            f"{path}: `original_max_position_embeddings` is {told(original)}, but must be a whole number from 1"
        )
    return RopeScaling("yarn", factor, original, _attention_factor(path, rope, factor))


def _attention_factor(path: Path, rope: Mapping[str, Any], factor: float) -> float:
    """What the release multiplies sine and cosine by, relative to what llama.cpp does by itself."""

    def scale(weight: float = 1.0) -> float:
        return 0.1 * weight * log(factor) + 1 if factor > 1 else 1.0

    if rope.get("attention_factor") is not None:
        wanted = _positive(path, rope, "attention_factor")
    elif rope.get("mscale") and rope.get("mscale_all_dim"):
        wanted = scale(_positive(path, rope, "mscale")) / scale(_positive(path, rope, "mscale_all_dim"))
    else:
        return 1.0
    return wanted / scale()


def _positive(path: Path, rope: Mapping[str, Any], name: str) -> float:
    value = rope.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or not 0 < value < 1e6:
        raise DataError(f"{path}: `{name}` of the rotary positions is {told(value)}, but must be a positive number")
    return float(value)
