"""The model's sizes, from config.json or params.json; what is left out is filled in and said. Knows no tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chat.ground.errors import DataError, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Shape = tuple[int, ...]

LAYER_LIMIT = 512
SIZE_LIMIT = 1 << 24  # no axis of a model comes near it
ARCHITECTURES = ("MistralForCausalLM", "MixtralForCausalLM", "LlamaForCausalLM")


@dataclass(frozen=True)
class HParams:
    """What the graph needs to know. `windows` has one entry per layer, None where a layer sees the whole context."""

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


# What a release is known to have where its own files do not say: (layers, width, vocabulary) -> context in tokens.
KNOWN_CONTEXTS: Mapping[tuple[int, int, int], int] = MappingProxyType(
    {
        (32, 4096, 32000): 32768,  # 7B v0.1, v0.2; Mixtral 8x7B
        (32, 4096, 32768): 32768,  # 7B v0.3
        (56, 6144, 32000): 65536,  # Mixtral 8x22B
        (56, 6144, 32768): 65536,
        (40, 5120, 131072): 131072,  # Nemo; Small 3 says it itself
        (36, 4096, 131072): 131072,  # Ministral 8B
    }
)
DEFAULT_CONTEXT = 32768


class Reader:
    """Take checked values out of one JSON object, whichever of several names they have."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        self.path = path
        self.values = values

    def get(self, *names: str) -> Any:
        """The first value among `names` that is there and not null."""
        return next((self.values[name] for name in names if self.values.get(name) is not None), None)

    def count(self, *names: str, limit: int = SIZE_LIMIT) -> int | None:
        """A whole number from 1 to `limit`, or None when it is missing.

        Raises:
            DataError: it is something else.
        """
        value = self.get(*names)
        if value is None:
            return None
        if type(value) is not int or not 1 <= value <= limit:
            raise DataError(f"{self.path}: `{names[0]}` is {value!r}, but must be a whole number from 1 to {limit}")
        return value

    def number(self, *names: str) -> float | None:
        """A positive number, or None when it is missing.

        Raises:
            DataError: it is something else.
        """
        value = self.get(*names)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
            raise DataError(f"{self.path}: `{names[0]}` is {value!r}, but must be a positive number")
        return float(value)


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
    """
    names = values.get("architectures") or []
    known = [name for name in names if name in ARCHITECTURES] if isinstance(names, list) else []
    if names and not known:
        raise ModelError(
            f"{path}: the architecture {str(names[0])[:60]} cannot be run",
            hint=f"convert knows {', '.join(ARCHITECTURES)}",
        )
    activation = values.get("hidden_act", "silu")
    if activation != "silu":
        raise ModelError(f"{path}: the activation {str(activation)[:60]} cannot be run; Mistral models use silu")


@dataclass
class _Filler:
    """Fills missing values and remembers which."""

    path: Path
    find_shape: Callable[[str], Shape | None]
    said: list[str]

    def from_shape(self, value: int | None, what: str, tensor: str, axis: int) -> int:
        if value is not None:
            return value
        shape = self.find_shape(tensor)
        if shape is None or axis >= len(shape):
            raise DataError(f"{self.path}: does not give the {what}, and there is no tensor to tell it from")
        return self.known(None, what, shape[axis])

    def known(self, value: int | None, what: str, default: int) -> int:
        if value is not None:
            return value
        self.said.append(f"{what} {default}")
        return default


def _from_config(read: Reader, find_shape: Callable[[str], Shape | None]) -> HParams:
    fill = _Filler(read.path, find_shape, [])
    layers = _layers(read, "num_hidden_layers")
    width = fill.from_shape(read.count("hidden_size"), "width", "token_embd.weight", 1)
    heads = _required(read, "num_attention_heads")
    vocabulary = fill.from_shape(read.count("vocab_size"), "vocabulary", "token_embd.weight", 0)
    head_dim = _head_dim(read, fill, heads, width)
    rope = read.get("rope_parameters", "rope_scaling") or {}
    _check_rope(read.path, rope)
    theta = read.number("rope_theta") or Reader(read.path, rope).number("rope_theta")
    if theta is None:
        theta = float(fill.known(None, "rope theta", 10000))  # transformers' default
    context = read.count("max_position_embeddings")
    return HParams(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=_kv_heads(read, fill, "num_key_value_heads", head_dim),
        head_dim=head_dim,
        hidden=_hidden(read, fill, "intermediate_size"),
        vocabulary=vocabulary,
        norm_epsilon=read.number("rms_norm_eps") or 1e-6,  # transformers' default
        rope_theta=theta,
        context=fill.known(context, "context length", _known_context(layers, width, vocabulary)),
        windows=_config_windows(read, layers),
        experts=read.count("num_local_experts", limit=256) or 0,
        experts_used=_experts_used(read, "num_experts_per_tok", read.count("num_local_experts")),
        is_tied=bool(read.get("tie_word_embeddings")),
        filled_in=tuple(fill.said),
    )


def _from_params(read: Reader, find_shape: Callable[[str], Shape | None]) -> HParams:
    fill = _Filler(read.path, find_shape, [])
    if "llama_4_scaling" in read.values or read.get("yarn", "yarn_factor") is not None:
        raise ModelError(f"{read.path}: a model with scaled rotary positions cannot be run")
    layers = _layers(read, "n_layers")
    width = fill.from_shape(read.count("dim"), "width", "token_embd.weight", 1)
    heads = _required(read, "n_heads")
    stated = read.get("vocab_size")
    vocabulary = fill.from_shape(
        None if stated == -1 else read.count("vocab_size"), "vocabulary", "token_embd.weight", 0
    )
    head_dim = _head_dim(read, fill, heads, width)
    windows = _params_windows(read, layers)
    theta = read.number("rope_theta")
    if theta is None:  # mistral-inference's rule
        theta = float(fill.known(None, "rope theta", 1_000_000 if windows[0] is None else 10_000))
    moe = Reader(read.path, read.get("moe") or {})
    context = read.count("max_seq_len", "max_position_embeddings")
    return HParams(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=_kv_heads(read, fill, "n_kv_heads", head_dim),
        head_dim=head_dim,
        hidden=_hidden(read, fill, "hidden_dim"),
        vocabulary=vocabulary,
        norm_epsilon=read.number("norm_eps") or 1e-5,
        rope_theta=theta,
        context=fill.known(context, "context length", _known_context(layers, width, vocabulary)),
        windows=windows,
        experts=moe.count("num_experts", limit=256) or 0,
        experts_used=_experts_used(moe, "num_experts_per_tok", moe.count("num_experts")),
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


def _head_dim(read: Reader, fill: _Filler, heads: int, width: int) -> int:
    stated = read.count("head_dim")
    if stated is not None:
        return stated
    rows = fill.from_shape(None, "query rows", "blk.0.attn_q.weight", 0)
    fill.said.pop()
    if rows % heads:
        raise DataError(f"{read.path}: {rows} query rows do not divide into {heads} heads")
    if rows == width:  # as every reader of such a file takes it
        return rows // heads
    return fill.known(None, "head size", rows // heads)


def _kv_heads(read: Reader, fill: _Filler, name: str, head_dim: int) -> int:
    stated = read.count(name)
    if stated is not None:
        return stated
    rows = fill.from_shape(None, "key rows", "blk.0.attn_k.weight", 0)
    fill.said.pop()
    if rows % head_dim:
        raise DataError(f"{read.path}: {rows} key rows do not divide into heads of {head_dim}")
    return fill.known(None, "key-value heads", rows // head_dim)


def _hidden(read: Reader, fill: _Filler, name: str) -> int:
    stated = read.count(name)
    is_dense = fill.find_shape("blk.0.ffn_gate.weight") is not None
    tensor, axis = ("blk.0.ffn_gate.weight", 0) if is_dense else ("blk.0.ffn_gate_exps.weight", 1)
    return fill.from_shape(stated, "feed-forward width", tensor, axis)


def _known_context(layers: int, width: int, vocabulary: int) -> int:
    return KNOWN_CONTEXTS.get((layers, width, vocabulary), DEFAULT_CONTEXT)


def _experts_used(read: Reader, name: str, experts: int | None) -> int:
    if not experts:
        return 0
    used = read.count(name)
    if used is None or used > experts:
        raise DataError(f"{read.path}: `{name}` is {used!r}, but must be a whole number from 1 to {experts}")
    return used


def _check_rope(path: Path, rope: Any) -> None:
    if not isinstance(rope, dict):
        raise DataError(f"{path}: the rope parameters must be an object")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise ModelError(f"{path}: a model with {str(kind)[:40]} rotary positions cannot be run")


def _config_windows(read: Reader, layers: int) -> tuple[int | None, ...]:
    window = read.count("sliding_window")
    kinds = read.get("layer_types")
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
    if len(set(pattern) - {None}) > 1:
        raise ModelError(f"{read.path}: windows of different sizes in one model cannot be run")
    return pattern * (layers // len(pattern))
