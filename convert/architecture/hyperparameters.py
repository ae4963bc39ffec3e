"""Read the model's sizes from config.json or params.json, and report the defaults used."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chat.errors import DataError, ModelError
from chat.gguf.keys import (
    LATENT_ARCHITECTURE,
    ORIGINAL_LATENT_ARCHITECTURE,
    PLAIN_ARCHITECTURE,
    QWEN2_ARCHITECTURE,
    QWEN3_ARCHITECTURE,
    UNPERMUTED_ARCHITECTURES,
    YARN_ARCHITECTURE,
    has_direct_queries,
)
from convert.architecture.attention import AttentionConfig, FindRelease, config_reach, params_reach
from convert.architecture.config_reader import SIZE_LIMIT, ConfigReader, Defaults, told
from convert.architecture.latent import (
    CONFIG_NAMES,
    PARAMS_NAMES,
    LatentAttention,
    Mixture,
    read_latent,
    read_mixture,
)
from convert.architecture.releases import find_release

if TYPE_CHECKING:
    from pathlib import Path

    from convert.architecture.rope_scaling import RopeScaling, Temperature

Shape = tuple[int, ...]

ATTENTION_PARTS = ("attn_q", "attn_k", "attn_v", "attn_output")
FEED_FORWARD_PARTS = ("ffn_gate", "ffn_down", "ffn_up")

LAYER_LIMIT = 512
MINISTRAL3, MISTRAL4 = "Ministral3ForCausalLM", "Mistral4ForCausalLM"
LLAMA, QWEN2, QWEN3 = "LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"
QWEN: Mapping[str, str] = MappingProxyType({QWEN2: QWEN2_ARCHITECTURE, QWEN3: QWEN3_ARCHITECTURE})
ARCHITECTURES = ("MistralForCausalLM", "MixtralForCausalLM", MINISTRAL3, MISTRAL4, LLAMA, *QWEN)


@dataclass(frozen=True)
class Hyperparameters:
    """What the graph needs to know.

    `windows` has one entry per layer, None where a layer sees the whole context: a release's window that is no smaller
    than the context is none. `architecture` is the graph of llama.cpp that computes the model without its windows.
    With latent attention a head's size is that of its queries, and `mixture` has the experts.
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
    architecture: str = PLAIN_ARCHITECTURE
    temperature: Temperature | None = None
    latent: LatentAttention | None = None
    mixture: Mixture | None = None
    biases: tuple[str, ...] = ()  # the parts of a layer that have one: attn_q
    has_head_norms: bool = False  # queries and keys are normalized head by head
    filled_in: tuple[str, ...] = ()  # values the release does not give, as sentences' parts: "rope theta 10000"

    @property
    def window(self) -> int | None:
        """The sliding window in tokens; None when no layer has one."""
        return next((window for window in self.windows if window is not None), None)

    @property
    def needs_yarn_architecture(self) -> bool:
        """Whether only the graph for Ministral 3 computes it: attention grows, or YaRN has limits of its own."""
        grows = self.temperature is not None and self.temperature.scale != 0
        return grows or (self.scaling is not None and not self.scaling.is_usual)

    @property
    def has_half_split_rows(self) -> bool:
        """Whether rotary rows are two halves in Hugging Face's layout and pairs in the GGUF; else they stay."""
        return self.architecture not in UNPERMUTED_ARCHITECTURES

    @property
    def is_70b(self) -> bool:
        """Whether llama.cpp calls the model `70B`, as its rules of quantization ask."""
        if self.layers != 80 or self.experts or self.window is not None:
            return False
        is_shared = self.architecture == PLAIN_ARCHITECTURE and self.heads != self.kv_heads
        return is_shared or self.architecture == QWEN2_ARCHITECTURE

    def with_window(self, window: int | None) -> Hyperparameters:
        """The same model with another window on the layers that have one, or on all layers when none has."""
        if window is None:
            return replace(self, windows=(None,) * self.layers)
        if self.window is None:
            return replace(self, windows=(window,) * self.layers)
        return replace(self, windows=tuple(old and window for old in self.windows))


@dataclass(frozen=True)
class Names:
    """What one kind of file calls the sizes, and what it leaves out."""

    layers: str
    width: str
    heads: str
    kv_heads: str
    hidden: str
    experts: str
    epsilon: str
    tied: str
    usual_epsilon: float  # of a model without experts
    reach: Callable[[ConfigReader, Defaults, int, FindRelease], AttentionConfig]
    latent_architecture: str
    latent_mixture: Mapping[str, str]  # the names of what a mixture beside latent attention has
    mixture: tuple[str, ...] = ()  # the object that holds what is said of experts


CONFIG = Names(
    layers="num_hidden_layers",
    width="hidden_size",
    heads="num_attention_heads",
    kv_heads="num_key_value_heads",
    hidden="intermediate_size",
    experts="num_local_experts",
    epsilon="rms_norm_eps",
    tied="tie_word_embeddings",
    usual_epsilon=1e-6,  # transformers'
    reach=config_reach,
    latent_architecture=LATENT_ARCHITECTURE,
    latent_mixture=CONFIG_NAMES,
)
PARAMS = Names(
    layers="n_layers",
    width="dim",
    heads="n_heads",
    kv_heads="n_kv_heads",
    hidden="hidden_dim",
    experts="num_experts",
    epsilon="norm_eps",
    tied="tied_embeddings",
    usual_epsilon=1e-5,
    reach=params_reach,
    latent_architecture=ORIGINAL_LATENT_ARCHITECTURE,
    latent_mixture=PARAMS_NAMES,
    mixture=("moe",),
)


def read_hyperparameters(
    path: Path, values: Mapping[str, Any], find_shape: Callable[[str], Shape | None]
) -> Hyperparameters:
    """Read config.json (Hugging Face) or params.json (original), told apart by their keys.

    Args:
        path: For error messages.
        values: The parsed file.
        find_shape: The shape of a tensor of the checkpoint by its GGUF name, or None; fills what the file leaves out.

    Raises:
        DataError: a value is impossible, or missing and not to be found in the shapes.
        ModelError: an architecture that cannot be converted.
    """
    if "dim" in values or "n_layers" in values:
        return _read(ConfigReader(path, values), PARAMS, find_shape)
    inner = values.get("text_config")
    check_architecture(path, values)
    return _read(ConfigReader(path, {**values, **inner} if isinstance(inner, dict) else values), CONFIG, find_shape)


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
            f"{path}: the architecture {str(names[0])[:60]} cannot be converted here",
            hint="a GGUF of it may run: `-m hf:OWNER/REPO`",
        )
    activation = values.get("hidden_act", "silu")
    if activation != "silu":
        raise ModelError(f"{path}: the activation {str(activation)[:60]} cannot be converted; only silu can")


def _read(read: ConfigReader, names: Names, find_shape: Callable[[str], Shape | None]) -> Hyperparameters:
    fill = Defaults(read.path, find_shape, [])
    layers = _required(read, names.layers, LAYER_LIMIT)
    width = fill.from_shape(read.count(names.width), "width", "token_embd.weight", 1)
    heads = _required(read, names.heads)
    stated = None if read.get("vocab_size") == -1 else read.count("vocab_size")
    vocabulary = fill.from_shape(stated, "vocabulary", "token_embd.weight", 0)
    latent = read_latent(read)
    head_dim = latent.plain + latent.turned if latent else _head_dim(read, fill, heads, width)
    kv_heads = heads if latent else _kv_heads(read, fill, names.kv_heads, head_dim)
    hidden = _hidden(read, fill, names.hidden)
    inner = read.inner(*names.mixture) if names.mixture else read
    mixture = read_mixture(inner, names.latent_mixture, layers, hidden) if latent else None
    if mixture is None and inner.get("num_shared_experts", "n_shared_experts"):
        raise ModelError(f"{read.path}: shared experts without latent attention cannot be converted")
    experts = mixture.experts if mixture else inner.count(names.experts, limit=256) or 0
    reach = names.reach(read, fill, layers, partial(find_release, layers, width, hidden, vocabulary, experts))
    usual_epsilon = 1e-5 if experts or _stated_architecture(read) == MINISTRAL3 else names.usual_epsilon
    sizes = Hyperparameters(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        hidden=hidden,
        vocabulary=vocabulary,
        norm_epsilon=fill.number(read.number(names.epsilon), "norm epsilon", usual_epsilon),
        rope_theta=reach.theta,
        context=reach.context,
        windows=reach.windows,
        experts=experts,
        experts_used=mixture.used if mixture else _experts_used(inner, "num_experts_per_tok", experts),
        is_tied=bool(read.get(names.tied)),
        scaling=reach.scaling,
        temperature=reach.temperature,
        latent=latent,
        mixture=mixture,
        biases=_biases(read),
        has_head_norms=_stated_architecture(read) == QWEN3,
        filled_in=tuple(fill.said),
    )
    return replace(sizes, architecture=_architecture(read, names, sizes))


def _biases(read: ConfigReader) -> tuple[str, ...]:
    """The parts of a layer that have a bias, as transformers builds it."""
    stated = _stated_architecture(read)
    if stated == QWEN2:
        return ATTENTION_PARTS[:3]
    attention = ATTENTION_PARTS if stated in (LLAMA, QWEN3) and read.get("attention_bias") else ()
    if attention and stated == QWEN3:
        raise ModelError(f"{read.path}: Qwen 3 with `attention_bias` cannot be converted: llama.cpp's graph has none")
    return (*attention, *(FEED_FORWARD_PARTS if stated == LLAMA and read.get("mlp_bias") else ()))


def _stated_architecture(read: ConfigReader) -> str:
    names = read.get("architectures") or [""]
    return str(names[0])


def _architecture(read: ConfigReader, names: Names, sizes: Hyperparameters) -> str:
    """The graph that computes a model of these sizes."""
    stated, latent = _stated_architecture(read), sizes.latent
    if stated in QWEN:
        return _qwen_architecture(read, QWEN[stated], sizes)
    if latent is None:
        if stated == MISTRAL4:
            raise DataError(f"{read.path}: `kv_lora_rank` is missing")
        _check_temperature(read, sizes)
        is_newer = stated == MINISTRAL3 or sizes.temperature is not None or sizes.needs_yarn_architecture
        return YARN_ARCHITECTURE if is_newer else PLAIN_ARCHITECTURE
    if sizes.window is not None:
        raise ModelError(f"{read.path}: latent attention with a sliding window cannot be converted")
    if latent.query_rank is not None and has_direct_queries(sizes.layers, sizes.vocabulary):
        raise ModelError(f"{read.path}: llama.cpp takes a model of {sizes.layers} layers for DeepSeek V2 Lite")
    return names.latent_architecture


def _qwen_architecture(read: ConfigReader, name: str, sizes: Hyperparameters) -> str:
    if sizes.latent is not None or sizes.experts or sizes.needs_yarn_architecture:
        raise ModelError(f"{read.path}: llama.cpp's {name} graph lacks this kind of attention or feed-forward network")
    if name == QWEN2_ARCHITECTURE and sizes.heads * sizes.head_dim != sizes.width:
        raise ModelError(
            f"{read.path}: {sizes.heads} heads of {sizes.head_dim} columns are not the width {sizes.width}, "
            f"which llama.cpp's {name} graph needs"
        )
    return name


def _check_temperature(read: ConfigReader, sizes: Hyperparameters) -> None:
    scaling, temperature = sizes.scaling, sizes.temperature
    if temperature is None or temperature.scale == 0 or scaling is None or scaling.original_context is None:
        return
    if scaling.original_context != temperature.length:
        raise ModelError(
            f"{read.path}: attention that grows every {temperature.length} tokens, with an original context of "
            f"{scaling.original_context}, cannot be converted: llama.cpp has one number for both"
        )


def _required(read: ConfigReader, name: str, limit: int = SIZE_LIMIT) -> int:
    value = read.count(name, limit=limit)
    if value is None:
        raise DataError(f"{read.path}: `{name}` is missing")
    return value


def _head_dim(read: ConfigReader, fill: Defaults, heads: int, width: int) -> int:
    head_dim = read.count("head_dim") or _head_dim_of_rows(read, fill, heads, width)
    if head_dim % 2:
        raise DataError(f"{read.path}: heads of {head_dim} columns cannot be turned by pairs, as rotary positions are")
    return head_dim


def _head_dim_of_rows(read: ConfigReader, fill: Defaults, heads: int, width: int) -> int:
    rows = fill.from_shape(None, "query rows", "blk.0.attn_q.weight", 0)
    fill.said.pop()
    if rows % heads:
        raise DataError(f"{read.path}: {rows} query rows do not divide into {heads} heads")
    if rows == width:  # as every reader of such a file takes it
        return rows // heads
    return fill.known(None, "head size", rows // heads)


def _kv_heads(read: ConfigReader, fill: Defaults, name: str, head_dim: int) -> int:
    stated = read.count(name)
    if stated is not None:
        return stated
    rows = fill.from_shape(None, "key rows", "blk.0.attn_k.weight", 0)
    fill.said.pop()
    if rows % head_dim:
        raise DataError(f"{read.path}: {rows} key rows do not divide into heads of {head_dim}")
    return fill.known(None, "key-value heads", rows // head_dim)


def _hidden(read: ConfigReader, fill: Defaults, name: str) -> int:
    stated = read.count(name)
    is_dense = fill.find_shape("blk.0.ffn_gate.weight") is not None
    tensor, axis = ("blk.0.ffn_gate.weight", 0) if is_dense else ("blk.0.ffn_gate_exps.weight", 1)
    return fill.from_shape(stated, "feed-forward width", tensor, axis)


def _experts_used(read: ConfigReader, name: str, experts: int | None) -> int:
    if not experts:
        return 0
    used = read.count(name)
    if used is None or used > experts:
        raise DataError(f"{read.path}: `{name}` is {told(used)}, but must be a whole number from 1 to {experts}")
    return used
