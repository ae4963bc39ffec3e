"""Read rotary base and scaling, and the sliding windows, from config.json or params.json."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chat.errors import DataError, ModelError
from convert.architecture.config_reader import ConfigReader, Defaults
from convert.architecture.releases import Release
from convert.architecture.rope_scaling import (
    ORIGINAL,
    RopeScaling,
    Temperature,
    read_params_scaling,
    read_params_temperature,
    read_rope_scaling,
    read_temperature,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DEFAULT_CONTEXT = 32768  # tokens, of a model that is like no release
# what transformers takes where the configuration of these gives no rotary positions
_YARN = {"rope_type": "yarn", "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0}
DEFAULT_ROPE: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "ministral3": _YARN | {"rope_theta": 1e6, "factor": 16.0, ORIGINAL: 16384, "llama_4_scaling_beta": 0.1},
        "mistral4": _YARN | {"rope_theta": 1e4, "factor": 128.0, ORIGINAL: 8192, "llama_4_scaling_beta": 0.1},
    }
)
FindRelease = Callable[[float | None, int | None], Release | None]  # by theta and window


@dataclass(frozen=True)
class AttentionConfig:
    """How positions turn, and how far a token sees."""

    theta: float
    context: int  # tokens
    windows: tuple[int | None, ...]  # of each layer, those that hide anything
    scaling: RopeScaling | None = None
    temperature: Temperature | None = None


def config_reach(read: ConfigReader, fill: Defaults, layers: int, find: FindRelease) -> AttentionConfig:
    """Read them from config.json, as transformers does.

    Raises:
        DataError: a value is impossible.
        ModelError: no graph of llama.cpp does what is asked.
    """
    is_mixtral = read.get("architectures") == ["MixtralForCausalLM"]
    rope = _rope_of(read, fill)
    context = read.count("max_position_embeddings")
    scaling = read_rope_scaling(read.path, rope.values, context)
    temperature = read_temperature(read.path, rope.values, context)
    theta = rope.number("rope_theta") or read.number("rope_theta")
    theta = fill.number(theta, "rope theta", 1_000_000 if is_mixtral else 10_000)  # transformers' defaults
    release = find(theta, None)
    windows = _config_windows(read, fill, layers, release)
    if context is None or read.get("model_type") not in DEFAULT_ROPE:  # those state what YaRN makes of it
        context = fill.known(_stretched(context, scaling), "context length", _known_context(release, windows))
    return AttentionConfig(theta, context, _effective(read.path, windows, context), scaling, temperature)


def _rope_of(read: ConfigReader, fill: Defaults) -> ConfigReader:
    """What config.json says of rotary positions, in the order in which transformers 5 looks for it."""
    rope = read.inner("rope_scaling")
    if not rope.values:
        rope = read.inner("rope_parameters")
    usual = DEFAULT_ROPE.get(str(read.get("model_type")))
    if not rope.values and usual is not None:
        fill.said.append(f"yarn rotary positions with a factor of {usual['factor']:g}")
        return ConfigReader(read.path, usual)
    outer = read.get(ORIGINAL)
    return rope if outer is None else ConfigReader(read.path, {**rope.values, ORIGINAL: outer})


def params_reach(read: ConfigReader, fill: Defaults, layers: int, find: FindRelease) -> AttentionConfig:
    """Read them from params.json, as mistral-inference does.

    Raises:
        DataError: a value is impossible.
        ModelError: no graph of llama.cpp does what is asked.
    """
    scaling, temperature = read_params_scaling(read), read_params_temperature(read)
    windows = _params_windows(read, layers)
    theta = read.number("rope_theta")
    release = find(theta, windows[0])
    usual = 1_000_000 if windows[0] is None else 10_000  # mistral-inference's rule
    theta = fill.number(theta, "rope theta", round(release.theta) if release else usual)
    context = read.count("max_seq_len", "max_position_embeddings")
    stretched = _stretched(None, scaling) if context is None else context
    context = fill.known(stretched, "context length", _known_context(release, windows))
    return AttentionConfig(theta, context, _effective(read.path, windows, context), scaling, temperature)


def _known_context(release: Release | None, windows: Sequence[int | None]) -> int:
    """The release's context; of an unknown one with windows of several sizes, the largest, as Ministral 8B says it."""
    if release is not None:
        return release.context
    sizes = {window for window in windows if window is not None}
    return max(sizes) if len(sizes) > 1 else max((DEFAULT_CONTEXT, *sizes))


def _stretched(context: int | None, scaling: RopeScaling | None) -> int | None:
    """What YaRN makes of the context: some releases state the length from before, others the one after."""
    if scaling is None or scaling.original_context is None:
        return context
    return max(context or 0, round(scaling.original_context * scaling.factor))


def _config_windows(read: ConfigReader, fill: Defaults, layers: int, release: Release | None) -> tuple[int | None, ...]:
    window = read.count("sliding_window")
    kinds = read.get("layer_types")
    if _is_qwen(read):
        if not read.get("use_sliding_window"):
            return (None,) * layers
        if kinds is None:  # the first layers see everything
            full = read.get("max_window_layers")
            full = full if type(full) is int and full >= 0 else 28  # transformers' default
            return tuple(window if layer >= full else None for layer in range(layers))
    is_silent = "sliding_window" not in read.values and kinds is None
    has_windows = read.get("architectures") != ["LlamaForCausalLM"]
    if is_silent and has_windows and release is not None and release.window is not None:
        window = fill.known(None, "window", release.window)
    if kinds is None:
        return (window,) * layers
    if not isinstance(kinds, list) or len(kinds) != layers:
        raise DataError(f"{read.path}: `layer_types` must name each of the {layers} layers")
    for kind in kinds:
        if kind not in ("full_attention", "sliding_attention"):
            raise ModelError(f"{read.path}: layers of type {str(kind)[:40]} cannot be converted")
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


def _is_qwen(read: ConfigReader) -> bool:
    return str((read.get("architectures") or [""])[0]).startswith("Qwen")


def _params_windows(read: ConfigReader, layers: int) -> tuple[int | None, ...]:
    value = read.get("sliding_window", "_sliding_window")
    if not isinstance(value, list):
        return (read.count("sliding_window", "_sliding_window"),) * layers
    if not value or layers % len(value):
        raise DataError(f"{read.path}: a list of {len(value)} windows cannot be repeated over {layers} layers")
    pattern = tuple(ConfigReader(read.path, {"sliding_window": window}).count("sliding_window") for window in value)
    return pattern * (layers // len(pattern))


def _effective(path: Path, windows: Sequence[int | None], context: int) -> tuple[int | None, ...]:
    """The windows that hide anything. llama.cpp has one size for all layers that have one."""
    smaller = tuple(window if window is not None and window < context else None for window in windows)
    if len(set(smaller) - {None}) > 1:
        raise ModelError(f"{path}: windows of different sizes in one model cannot be converted")
    return smaller
