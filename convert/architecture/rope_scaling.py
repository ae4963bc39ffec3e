"""Read how rotary positions are scaled, and how attention grows with the position; refuse what llama.cpp lacks."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, log, pi
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from chat.errors import DataError, ModelError
from convert.architecture.config_reader import told

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy.typing as npt

    from convert.architecture.config_reader import ConfigReader

BETA_FAST, BETA_SLOW = 32.0, 1.0  # YaRN's own, the only ones that llama.cpp's graph for `llama` knows
ORIGINAL = "original_max_position_embeddings"


def magnitude(factor: float, weight: float = 1.0) -> float:
    """YaRN's scale of attention for positions stretched by `factor`: `0.1 * weight * ln(factor) + 1`."""
    return 0.1 * weight * log(factor) + 1 if factor > 1 else 1.0


@dataclass(frozen=True)
class Slowing:
    """Which pairs of a head's columns Llama 3 slows: those that turn less than `high` times over `context` tokens.

    Those that turn less than `low` times are slowed by the whole factor, those between by less.
    """

    context: int
    low: float
    high: float

    def factors(self, factor: float, theta: float, head_dim: int) -> npt.NDArray[np.float32]:
        """What each pair's period is multiplied by, (head_dim / 2,) float32, as llama.cpp's converter rounds it."""
        steps = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
        speeds = np.float32(1) / np.float32(theta) ** steps
        return np.array([self._factor(factor, np.float32(2 * pi) / speed) for speed in speeds], dtype=np.float32)

    def _factor(self, factor: float, period: np.float32) -> np.float32 | float:
        if period < self.context / self.high:
            return 1.0
        if period > self.context / self.low:
            return factor
        one = np.float32(1)
        smooth = (np.float32(self.context) / period - np.float32(self.low)) / np.float32(self.high - self.low)
        return one / ((one - smooth) / np.float32(factor) + smooth)


@dataclass(frozen=True)
class RopeScaling:
    """How positions are stretched.

    Attributes:
        original_context: Tokens the model was trained with before; for yarn only.
        attention_factor: What sine and cosine are multiplied by, relative to YaRN's own `magnitude(factor)`.
        beta_fast: Turns over the original context from which a pair of columns keeps its speed; for yarn only.
        beta_slow: Turns up to which a pair is slowed down by the whole factor; for yarn only.
        all_dimensions: YaRN's `mscale_all_dim`, which latent attention also applies to the columns that do not turn;
            0 where it is not given.
        slowing: Which pairs of columns are slowed; for llama3 only.
    """

    kind: Literal["linear", "yarn", "llama3"]
    factor: float
    original_context: int | None = None
    attention_factor: float = 1.0
    beta_fast: float = BETA_FAST
    beta_slow: float = BETA_SLOW
    all_dimensions: float = 0.0
    slowing: Slowing | None = None

    @property
    def is_usual(self) -> bool:
        """Whether every graph computes it: YaRN with its own limits."""
        return (self.beta_fast, self.beta_slow) == (BETA_FAST, BETA_SLOW)


@dataclass(frozen=True)
class Temperature:
    """How queries grow with their position: by `1 + scale * ln(1 + floor(position / length))`; length in tokens."""

    scale: float
    length: int


def read_rope_scaling(path: Path, rope: Mapping[str, Any], context: int | None) -> RopeScaling | None:
    """Read Hugging Face's `rope_parameters` or `rope_scaling`; None where positions are as they are.

    Args:
        context: The model's context length, as stated; what YaRN stretches where it does not say.

    Raises:
        DataError: a value is impossible.
        ModelError: positions of another kind than llama.cpp computes.
    """
    nested = [name for name, value in rope.items() if isinstance(value, dict)]
    if nested:  # of Gemma 3 and others, by `layer_types`; the models converted here have one for all layers
        names = ", ".join(f"`{name[:40]}`" for name in nested[:2])
        raise ModelError(f"{path}: a model with rotary positions of their own for {names} cannot be converted")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling("linear", _positive(path, rope, "factor"))
    if kind == "llama3":
        return RopeScaling("llama3", _factor(path, rope), slowing=_slowing(path, rope, context))
    if kind != "yarn":
        raise ModelError(f"{path}: a model with {str(kind)[:40]} rotary positions cannot be converted")
    return _read_yarn(path, rope, context)


def read_temperature(path: Path, rope: Mapping[str, Any], context: int | None) -> Temperature | None:
    """Read `llama_4_scaling_beta` of Hugging Face's `rope_parameters`; None where the position changes nothing.

    Raises:
        DataError: a value is impossible.
    """
    if rope.get("llama_4_scaling_beta") is None:
        return None
    return Temperature(_number(path, rope, "llama_4_scaling_beta"), _original(path, rope, context))


def read_params_scaling(read: ConfigReader) -> RopeScaling | None:
    """Read `yarn` of params.json; None where positions are as they are.

    Its `apply_scale` says whether sine and cosine are multiplied by YaRN's own magnitude. With latent attention they
    never are, and all products of queries and keys are multiplied by its square: so do transformers and llama.cpp.

    Raises:
        DataError: a value is impossible.
        ModelError: positions are scaled in another way than releases are.
    """
    if read.get("yarn_factor") is not None:
        raise ModelError(f"{read.path}: has `yarn_factor`, a form of scaled rotary positions that is not known")
    yarn, path = read.inner("yarn").values, read.path
    if not yarn:
        return None
    factor, is_scaled = _factor(path, yarn), yarn.get("apply_scale", True)
    if not isinstance(is_scaled, bool):
        raise DataError(f"{path}: `apply_scale` of `yarn` is {told(is_scaled)}, but must be true or false")
    is_scaled = is_scaled and read.get("kv_lora_rank") is None
    return RopeScaling(
        "yarn",
        factor,
        _original(path, yarn, None),
        attention_factor=1.0 if is_scaled else 1.0 / magnitude(factor),
        beta_fast=_positive(path, yarn, "beta") if yarn.get("beta") is not None else BETA_FAST,
        beta_slow=_positive(path, yarn, "alpha") if yarn.get("alpha") is not None else BETA_SLOW,
        all_dimensions=0.0 if is_scaled else 1.0,
    )


def read_params_temperature(read: ConfigReader) -> Temperature | None:
    """Read `llama_4_scaling` of params.json; None where the position changes nothing.

    Raises:
        DataError: a value is impossible.
    """
    scaling = read.inner("llama_4_scaling").values
    if not scaling:
        return None
    return Temperature(_number(read.path, scaling, "beta"), _original(read.path, scaling, None))


def _read_yarn(path: Path, rope: Mapping[str, Any], context: int | None) -> RopeScaling:
    if rope.get("truncate") is False:
        raise ModelError(
            f"{path}: YaRN with `truncate` off cannot be converted: llama.cpp rounds the limits to whole columns"
        )
    factor = _factor(path, rope)
    fast, slow = (_positive(path, rope, name) if rope.get(name) else None for name in ("beta_fast", "beta_slow"))
    return RopeScaling(
        "yarn",
        factor,
        _original(path, rope, context),
        attention_factor=_attention_factor(path, rope, factor),
        beta_fast=BETA_FAST if fast is None else fast,
        beta_slow=BETA_SLOW if slow is None else slow,
        all_dimensions=_positive(path, rope, "mscale_all_dim") if rope.get("mscale_all_dim") else 0.0,
    )


def _slowing(path: Path, rope: Mapping[str, Any], context: int | None) -> Slowing:
    low, high = (_positive(path, rope, name) for name in ("low_freq_factor", "high_freq_factor"))
    if low >= high:
        raise DataError(f"{path}: `low_freq_factor` is {low:g}, but must be below `high_freq_factor`, {high:g}")
    return Slowing(_original(path, rope, context), low, high)


def _factor(path: Path, rope: Mapping[str, Any]) -> float:
    factor = _positive(path, rope, "factor")
    if factor < 1:
        raise DataError(f"{path}: `factor` of the rotary positions is {factor:g}, but must be 1 or more")
    return factor


def _original(path: Path, rope: Mapping[str, Any], context: int | None) -> int:
    original = rope.get(ORIGINAL, context)
    if type(original) is not int or not 1 <= original < 1 << 31:
        raise DataError(f"{path}: `{ORIGINAL}` is {told(original)}, but must be a whole number from 1")
    return original


def _attention_factor(path: Path, rope: Mapping[str, Any], factor: float) -> float:
    """What sine and cosine are multiplied by as transformers has it, relative to YaRN's own magnitude."""
    if rope.get("attention_factor") is not None:
        wanted = _positive(path, rope, "attention_factor")
    elif rope.get("mscale") and rope.get("mscale_all_dim"):
        both = (magnitude(factor, _positive(path, rope, name)) for name in ("mscale", "mscale_all_dim"))
        wanted = next(both) / next(both)
    else:
        return 1.0
    return wanted / magnitude(factor)


def _positive(path: Path, rope: Mapping[str, Any], name: str) -> float:
    value = _number(path, rope, name)
    if value <= 0:
        raise DataError(f"{path}: `{name}` of the rotary positions is {told(rope.get(name))}, but must be positive")
    return value


def _number(path: Path, rope: Mapping[str, Any], name: str) -> float:
    value = rope.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or not 0 <= value < 1e6:
        raise DataError(f"{path}: `{name}` of the rotary positions is {told(value)}, but must be a positive number")
    return float(value)
