"""The model's sizes, from config.json or params.json; what is left out is filled in and said. Knows no tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from chat.ground.errors import DataError, ModelError
from convert.releases import Release, find_release
from convert.rope_scaling import RopeScaling, read_rope_scaling
from convert.stated import SIZE_LIMIT, Filler, Reader, told

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

Shape = tuple[int, ...]

LAYER_LIMIT = 512
ARCHITECTURES = ("MistralForCausalLM", "MixtralForCausalLM", "LlamaForCausalLM")


@dataclass(frozen=True)
class HParams:
    """What the graph needs to know.

    `windows` has one entry per layer, None where a layer sees the whole context: a release's window that is no smaller
    than the context is none.
    """

    layers: int
    width: int  # of the residual stream
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int  # of the feed-forward network, per expert
    vocabulary: int
    norm_epsilon: float
    rope_theta: float
    context: int  # tokens
    windows: tuple[int | None, ...]
    experts: int = 0
    experts_used: int = 0
    is_tied: bool = False
    scaling: RopeScaling | None = None
    filled_in: tuple[str, ...] = ()  # values the release does not give, as sentences' parts: "rope theta 10000"

    @property
    def window(self) -> int | None:
        """The sliding window in tokens; None when no layer has one."""
        return next((window for window in self.windows if window is not None), None)

    def with_window(self, window: int | None) -> HParams:
        """The same model with another window on the layers that have one, or on all layers when none has."""
        if window is None:
            return replace(self, windows=(None,) * self.layers)
        if self.window is None:
            return replace(self, windows=(window,) * self.layers)
        return replace(self, windows=tuple(old and window for old in self.windows))


DEFAULT_CONTEXT = 32768  # of a model that is like no release


def read_hparams(path: Path, values: Mapping[str, Any], find_shape: Callable[[str], Shape | None]) -> HParams:
    """Read config.json (Hugging Face) or params.json (original), told apart by their keys.

    Args:
        path: For error messages.
        values: The parsed file.
        find_shape: The shape of a tensor of the checkpoint by its GGUF name, or None; fills what the file leaves out.

    Raises:
        DataError: a value is impossible, or missing and not to be found in the shapes.
        ModelError: an architecture that cannot be run.
    """
    if "dim" in values or "n_layers" in values:
        return _from_params(Reader(path, values), find_shape)
    inner = values.get("text_config")
    check_architecture(path, values)
    return _from_config(Reader(path, {**values, **inner} if isinstance(inner, dict) else values), find_shape)


def check_architecture(path: Path, values: Mapping[str, Any]) -> None:
    """See that a config.json is of a kind whose graph is Mistral's.

    Raises:
        ModelError: it is not.
        DataError: it does not say so in the form of a configuration.
    """
    names = values.get("architectures") or []
    if not isinstance(names, list):
        raise DataError(f"{path}: `architectures` is {told(names)}, but must be a list")
    known = [name for name in names if name in ARCHITECTURES]
    if names and not known:
        raise ModelError(
            f"{path}: the architecture {str(names[0])[:60]} cannot be run",
            hint=f"convert knows {', '.join(ARCHITECTURES)}",
        )
    activation = values.get("hidden_act", "silu")
    if activation != "silu":
        raise ModelError(f"{path}: the activation {str(activation)[:60]} cannot be run; Mistral models use silu")


def _from_config(read: Reader, find_shape: Callable[[str], Shape | None]) -> HParams:
    fill = Filler(read.path, find_shape, [])
    is_mixtral = read.get("architectures") == ["MixtralForCausalLM"]
    layers = _layers(read, "num_hidden_layers")
    width = fill.from_shape(read.count("hidden_size"), "width", "token_embd.weight", 1)
    heads = _required(read, "num_attention_heads")
    vocabulary = fill.from_shape(read.count("vocab_size"), "vocabulary", "token_embd.weight", 0)
    head_dim = _head_dim(read, fill, heads, width)
    rope = read.inner("rope_parameters", "rope_scaling")
    context = read.count("max_position_embeddings")
    scaling = read_rope_scaling(read.path, rope.values, context)
    theta = read.number("rope_theta") or rope.number("rope_theta")
    theta = fill.number(theta, "rope theta", 1_000_000 if is_mixtral else 10_000)  # transformers' defaults
    kv_heads = _kv_heads(read, fill, "num_key_value_heads", head_dim)
    hidden = _hidden(read, fill, "intermediate_size")
    experts = read.count("num_local_experts", limit=256) or 0
    release = find_release(layers, width, hidden, vocabulary, experts, theta, None)
    windows = _config_windows(read, fill, layers, release)
    context = fill.known(_stretched(context, scaling), "context length", _known_context(release, windows))
    return HParams(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        hidden=hidden,
        vocabulary=vocabulary,
        norm_epsilon=fill.number(read.number("rms_norm_eps"), "norm epsilon", 1e-5 if is_mixtral else 1e-6),  # same
        rope_theta=theta,
        context=context,
        windows=_effective(read.path, windows, context),
        experts=experts,
        experts_used=_experts_used(read, "num_experts_per_tok", experts),
        is_tied=bool(read.get("tie_word_embeddings")),
        scaling=scaling,
        filled_in=tuple(fill.said),
    )


def _from_params(read: Reader, find_shape: Callable[[str], Shape | None]) -> HParams:
    fill = Filler(read.path, find_shape, [])
    if "llama_4_scaling" in read.values or read.get("yarn", "yarn_factor") is not None:
        raise ModelError(f"{read.path}: a model with scaled rotary positions cannot be run")
    layers = _layers(read, "n_layers")
    width = fill.from_shape(read.count("dim"), "width", "token_embd.weight", 1)
    heads = _required(read, "n_heads")
    stated = None if read.get("vocab_size") == -1 else read.count("vocab_size")
    vocabulary = fill.from_shape(stated, "vocabulary", "token_embd.weight", 0)
    head_dim = _head_dim(read, fill, heads, width)
    windows = _params_windows(read, layers)
    kv_heads = _kv_heads(read, fill, "n_kv_heads", head_dim)
    hidden = _hidden(read, fill, "hidden_dim")
    moe = read.inner("moe")
    experts = moe.count("num_experts", limit=256) or 0
    theta = read.number("rope_theta")
    release = find_release(layers, width, hidden, vocabulary, experts, theta, windows[0])
    usual = 1_000_000 if windows[0] is None else 10_000  # mistral-inference's rule
    theta = fill.number(theta, "rope theta", round(release.theta) if release else usual)
    context = read.count("max_seq_len", "max_position_embeddings")
    context = fill.known(context, "context length", _known_context(release, windows))
    return HParams(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        hidden=hidden,
        vocabulary=vocabulary,
        norm_epsilon=fill.number(read.number("norm_eps"), "norm epsilon", 1e-5),
        rope_theta=theta,
        context=context,
        windows=_effective(read.path, windows, context),
        experts=experts,
        experts_used=_experts_used(moe, "num_experts_per_tok", experts),
        is_tied=bool(read.get("tied_embeddings")),
        filled_in=tuple(fill.said),
    )


def _required(read: Reader, name: str, limit: int = SIZE_LIMIT) -> int:
    value = read.count(name, limit=limit)
    if value is None:
        raise DataError(f"{read.path}: `{name}` is missing")
    return value


def _layers(read: Reader, name: str) -> int:
    return _required(read, name, LAYER_LIMIT)


def _head_dim(read: Reader, fill: Filler, heads: int, width: int) -> int:
    head_dim = read.count("head_dim") or _head_dim_of_rows(read, fill, heads, width)
    if head_dim % 2:
        raise DataError(f"{read.path}: heads of {head_dim} columns cannot be turned by pairs, as rotary positions are")
    return head_dim


def _head_dim_of_rows(read: Reader, fill: Filler, heads: int, width: int) -> int:
    rows = fill.from_shape(None, "query rows", "blk.0.attn_q.weight", 0)
    fill.said.pop()
    if rows % heads:
        raise DataError(f"{read.path}: {rows} query rows do not divide into {heads} heads")
    if rows == width:  # as every reader of such a file takes it
        return rows // heads
    return fill.known(None, "head size", rows // heads)


def _kv_heads(read: Reader, fill: Filler, name: str, head_dim: int) -> int:
    stated = read.count(name)
    if stated is not None:
        return stated
    rows = fill.from_shape(None, "key rows", "blk.0.attn_k.weight", 0)
    fill.said.pop()
    if rows % head_dim:
        raise DataError(f"{read.path}: {rows} key rows do not divide into heads of {head_dim}")
    return fill.known(None, "key-value heads", rows // head_dim)


def _hidden(read: Reader, fill: Filler, name: str) -> int:
    stated = read.count(name)
    is_dense = fill.find_shape("blk.0.ffn_gate.weight") is not None
    tensor, axis = ("blk.0.ffn_gate.weight", 0) if is_dense else ("blk.0.ffn_gate_exps.weight", 1)
    return fill.from_shape(stated, "feed-forward width", tensor, axis)


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


def _experts_used(read: Reader, name: str, experts: int | None) -> int:
    if not experts:
        return 0
    used = read.count(name)
    if used is None or used > experts:
        raise DataError(f"{read.path}: `{name}` is {told(used)}, but must be a whole number from 1 to {experts}")
    return used


def _config_windows(read: Reader, fill: Filler, layers: int, release: Release | None) -> tuple[int | None, ...]:
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


def _params_windows(read: Reader, layers: int) -> tuple[int | None, ...]:
    value = read.get("sliding_window", "_sliding_window")
    if not isinstance(value, list):
        return (read.count("sliding_window", "_sliding_window"),) * layers
    if not value or layers % len(value):
        raise DataError(f"{read.path}: a list of {len(value)} windows cannot be repeated over {layers} layers")
    pattern = tuple(Reader(read.path, {"sliding_window": window}).count("sliding_window") for window in value)
    return pattern * (layers // len(pattern))


def _effective(path: Path, windows: Sequence[int | None], context: int) -> tuple[int | None, ...]:
    """The windows that hide anything. llama.cpp has one size for all layers that have one."""
    smaller = tuple(window if window is not None and window < context else None for window in windows)
    if len(set(smaller) - {None}) > 1:
        raise ModelError(f"{path}: windows of different sizes in one model cannot be run")
    return smaller
