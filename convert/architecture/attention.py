"""Read rotary base and scaling, and the sliding windows, from config.json or params.json."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat.errors import DataError, ModelError
from convert.architecture.config_reader import ConfigReader, Defaults
from convert.architecture.releases import Release
from convert.architecture.rope_scaling import RopeScaling, read_rope_scaling

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DEFAULT_CONTEXT = 32768  # tokens, of a model that is like no release
FindRelease = Callable[[float | None, int | None], Release | None]  # by theta and window


@dataclass(frozen=True)
class AttentionConfig:
    """How positions turn, and how far a token sees."""

    theta: float
    context: int  # tokens
    windows: tuple[int | None, ...]  # of each layer, those that hide anything
    scaling: RopeScaling | None = None


def config_reach(read: ConfigReader, fill: Defaults, layers: int, find: FindRelease) -> AttentionConfig:
    """Read them from config.json, as transformers does.

    Raises:
        DataError: a value is impossible.
        ModelError: the graph cannot do what is asked.
    """
    is_mixtral = read.get("architectures") == ["MixtralForCausalLM"]
    rope = read.inner("rope_parameters", "rope_scaling")
    context = read.count("max_position_embeddings")
    scaling = read_rope_scaling(read.path, rope.values, context)
    theta = read.number("rope_theta") or rope.number("rope_theta")
    theta = fill.number(theta, "rope theta", 1_000_000 if is_mixtral else 10_000)  # transformers' defaults
    release = find(theta, None)
    windows = _config_windows(read, fill, layers, release)
    context = fill.known(_stretched(context, scaling), "context length", _known_context(release, windows))
    return AttentionConfig(theta, context, _effective(read.path, windows, context), scaling)


def params_reach(read: ConfigReader, fill: Defaults, layers: int, find: FindRelease) -> AttentionConfig:
    """Read them from params.json, as mistral-inference does.

    Raises:
        DataError: a value is impossible.
        ModelError: the graph cannot do what is asked.
    """
    if "llama_4_scaling" in read.values or read.get("yarn", "yarn_factor") is not None:
        raise ModelError(f"{read.path}: a model with scaled rotary positions cannot be run")
    windows = _params_windows(read, layers)
    theta = read.number("rope_theta")
    release = find(theta, windows[0])
    usual = 1_000_000 if windows[0] is None else 10_000  # mistral-inference's rule
    theta = fill.number(theta, "rope theta", round(release.theta) if release else usual)
    context = read.count("max_seq_len", "max_position_embeddings")
    context = fill.known(context, "context length", _known_context(release, windows))
    return AttentionConfig(theta, context, _effective(read.path, windows, context))


def _known_context(release: Release | None, windows: Sequence[int | None]) -> int:
    """The release's context; of an unknown one with windows of several sizes, the largest, as Ministral 8B says it."""
    if release is not None:
        return release.context
    sizes = {window for window in windows if window is not None}
    return max(sizes) if len(sizes) > 1 else max((DEFAULT_CONTEXT, *sizes))


def _stretched(context: int | None, scaling: RopeScaling | None) -> int | None:
    """What YaRN makes of the context: some releases state the length from before, others the one after."""
    if context is None or scaling is None or scaling.original_context is None:
        return context
    return max(context, round(scaling.original_context * scaling.factor))


def _config_windows(read: ConfigReader, fill: Defaults, layers: int, release: Release | None) -> tuple[int | None, ...]:
    window = read.count("sliding_window")
    kinds = read.get("layer_types")
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
            raise ModelError(f"{read.path}: layers of type {str(kind)[:40]} cannot be run")
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)


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
        raise ModelError(f"{path}: windows of different sizes in one model cannot be run")
    return smaller
