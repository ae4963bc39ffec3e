"""Make the keys of scaled rotary positions and of the attention's temperature, as each graph of llama.cpp reads them.

Source: llama.cpp's src/llama-context.cpp (`yarn_attn_factor`), models/mistral3.cpp and models/deepseek2.cpp. With YaRN
it multiplies sine and cosine by `magnitude(factor)` or, where the file has a log multiplier m other than 0, by
`magnitude(factor) / magnitude(factor, m)`, in both cases times the file's `attn_factor`.
"""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

from chat.errors import ModelError
from chat.gguf.keys import LATENT_ARCHITECTURES, ORIGINAL_LATENT_ARCHITECTURE, YARN_ARCHITECTURE, ModelKey
from chat.gguf.writer import KeyValue, Kind
from convert.architecture.rope_scaling import magnitude

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.architecture.hyperparameters import Hyperparameters
    from convert.architecture.rope_scaling import RopeScaling

ROUNDING = 1e-9
LATENT_UNIT = 0.1  # the log multiplier of latent attention is stored times this (TAG_DEEPSEEK2_YARN_LOG_MUL_FIX)


def rope_keys(h: Hyperparameters, architecture: str) -> Iterator[KeyValue]:
    """The keys of `h.scaling` and `h.temperature`.

    Raises:
        ModelError: the graph computes no such combination.
    """

    def key(name: str, value: float | str, kind: Kind = "f32") -> KeyValue:
        return KeyValue(f"{architecture}.{name}", kind, value)

    scaling, temperature = h.scaling, h.temperature
    if scaling is not None and scaling.slowing is not None:  # is a tensor
        scaling = None
    is_newer = architecture == YARN_ARCHITECTURE or architecture in LATENT_ARCHITECTURES
    original = None if scaling is None else scaling.original_context
    if scaling is not None:
        yield key(ModelKey.ROPE_SCALING_TYPE, scaling.kind, "str")
        yield key(ModelKey.ROPE_SCALING_FACTOR, scaling.factor)
    if original is None and temperature is not None and architecture == YARN_ARCHITECTURE:
        original = temperature.length
    if original is not None:
        yield key(ModelKey.ROPE_SCALING_ORIGINAL_CONTEXT_LENGTH, original, "u32")
    if scaling is not None:
        if scaling.kind == "yarn" and is_newer:
            yield key(ModelKey.ROPE_SCALING_YARN_BETA_FAST, scaling.beta_fast)
            yield key(ModelKey.ROPE_SCALING_YARN_BETA_SLOW, scaling.beta_slow)
        multiplier, factor = _magnitudes(scaling, architecture)
        if scaling.kind == "yarn" and is_newer:
            yield key(ModelKey.ROPE_SCALING_YARN_LOG_MULTIPLIER, multiplier)
        if abs(factor - 1) > ROUNDING:
            yield key(ModelKey.ROPE_SCALING_ATTENTION_FACTOR, factor)
    if temperature is not None and is_newer:
        yield key(ModelKey.TEMPERATURE_SCALE, temperature.scale)
        if architecture in LATENT_ARCHITECTURES:
            yield key(ModelKey.TEMPERATURE_LENGTH, temperature.length, "u32")


def _magnitudes(scaling: RopeScaling, architecture: str) -> tuple[float, float]:
    """The log multiplier, as the file stores it, and the factor of sine and cosine beside it."""
    own, weight = magnitude(scaling.factor), scaling.all_dimensions
    if architecture == YARN_ARCHITECTURE:
        return weight, scaling.attention_factor * (magnitude(scaling.factor, weight) if weight else 1.0)
    if architecture not in LATENT_ARCHITECTURES:
        return 0.0, scaling.attention_factor
    # Sine and cosine are to be multiplied by `turning`, and all products of queries and keys by the square of `whole`;
    # the graph multiplies the products by the square of `own` times the factor.
    turning, whole = scaling.attention_factor * own, magnitude(scaling.factor, weight) if weight else 1.0
    if scaling.factor == 1.0:
        multiplier = 0.0 if abs(turning - whole) < ROUNDING else -1.0
    else:
        multiplier = (whole / turning - 1) / (0.1 * log(scaling.factor))
    multiplier = next((near for near in (0.0, weight) if abs(multiplier - near) < ROUNDING), multiplier)
    is_other = architecture == ORIGINAL_LATENT_ARCHITECTURE and multiplier not in (0.0, 1.0)
    if scaling.kind != "yarn" or is_other or (scaling.factor == 1.0 and multiplier):
        raise ModelError("these rotary positions cannot be converted: llama.cpp's latent attention lacks them")
    return LATENT_UNIT * multiplier, 1.0 if weight == 1.0 else whole / own
