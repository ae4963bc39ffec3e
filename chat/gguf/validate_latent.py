"""Refuse models with latent attention whose sizes contradict each other or whose tensors do not fit.

Source: llama.cpp's models/deepseek2.cpp, which computes `deepseek2` and `mistral4`. Files are of two kinds: those since
April 2025 have keys and values of a latent vector apart, and a cache of one vector for each token (`key_length_mla` is
there); older ones have them as one tensor, and an ordinary cache. Both are run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat.gguf.keys import ModelKey, has_direct_queries
from chat.gguf.validate_layers import (
    KEYS,
    PLAIN,
    YARN_KEYS,
    RequiredTensor,
    check_numbers,
    check_tensors,
    count,
    matrix,
    scales,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chat.gguf.reader import GgufFile

PER_LAYER = ("u32", "[u32]", "[i32]")
LATENT_KEYS: dict[str, tuple[str, ...]] = {
    **KEYS,
    **YARN_KEYS,
    ModelKey.LEADING_DENSE_BLOCK_COUNT: ("u32",),
    ModelKey.Q_LORA_RANK: ("u32",),
    ModelKey.KV_LORA_RANK: ("u32",),
    ModelKey.KEY_LENGTH_MLA: ("u32",),
    ModelKey.VALUE_LENGTH_MLA: ("u32",),
    ModelKey.EXPERT_FEED_FORWARD_LENGTH: PER_LAYER,
    ModelKey.EXPERT_SHARED_COUNT: ("u32",),
    ModelKey.EXPERT_WEIGHTS_SCALE: ("f32",),
    ModelKey.EXPERT_WEIGHTS_NORM: ("bool",),
    ModelKey.EXPERT_GATING_FUNCTION: ("u32",),
    ModelKey.TEMPERATURE_LENGTH: ("u32",),
}
REQUIRED = (
    ModelKey.LAYER_NORM_RMS_EPSILON,
    ModelKey.KV_LORA_RANK,
    ModelKey.EXPERT_FEED_FORWARD_LENGTH,
    ModelKey.EXPERT_SHARED_COUNT,
)
LAST_GATING = 4  # LLAMA_EXPERT_GATING_FUNC_TYPE_SQRT_SOFTPLUS; 0 is taken for softmax
# beside those of an ordinary layer, in one that predicts further tokens; the graph that is run has no use for them
NEXTN = (
    *("nextn.eh_proj", "nextn.enorm", "nextn.hnorm"),
    *("nextn.embed_tokens", "nextn.shared_head_head", "nextn.shared_head_norm"),
)


@dataclass(frozen=True)
class LatentSizes:
    """The sizes that determine every shape; `is_split` where keys and values are apart."""

    layers: int
    width: int
    heads: int
    query_rank: int
    rank: int
    turned: int
    head_size: int
    value_size: int
    is_split: bool
    dense_layers: int
    feed_forward: int
    experts: int
    expert_hidden: int
    shared: int
    pieces: int


def check_latent_layers(file: GgufFile) -> None:
    """Refuse a model of one of `LATENT_ARCHITECTURES` that llama.cpp would abort on.

    Raises:
        DataError: a rule is broken.
        ModelError: each expert is a tensor of its own, which llama.cpp no longer reads.
    """
    check_numbers(file, LATENT_KEYS, REQUIRED)
    if file.key(ModelKey.CAUSAL, True) is not True:
        raise file.key_fault(ModelKey.CAUSAL, "is False, but the graph needs True")
    gating = file.key(ModelKey.EXPERT_GATING_FUNCTION, 0)
    if gating > LAST_GATING:  # llama.cpp aborts
        raise file.key_fault(ModelKey.EXPERT_GATING_FUNCTION, f"is {gating}, but must be 0 to {LAST_GATING}")
    if file.key(ModelKey.TEMPERATURE_SCALE, 0.0) and not file.key(ModelKey.TEMPERATURE_LENGTH, 0):  # llama.cpp asserts
        raise file.key_fault(ModelKey.TEMPERATURE_LENGTH, "is missing or 0, by which positions are divided")
    sizes = _sizes(file)
    check_tensors(file, _needs(file, sizes))


def _sizes(file: GgufFile) -> LatentSizes:
    width, heads = file.key(ModelKey.EMBEDDING_LENGTH), count(file, ModelKey.HEAD_COUNT)
    pieces, layers = file.vocabulary_size, file.key(ModelKey.BLOCK_COUNT) - file.key(ModelKey.NEXTN_PREDICT_LAYERS, 0)
    if layers < 1:
        raise file.key_fault(ModelKey.NEXTN_PREDICT_LAYERS, "leaves no layer")
    query_rank = file.key(ModelKey.Q_LORA_RANK)
    if has_direct_queries(layers, pieces):
        query_rank = 0
    elif query_rank is None:
        raise file.key_fault(ModelKey.Q_LORA_RANK, "is missing")
    key_size, value_size = (file.key(name, 0) for name in (ModelKey.KEY_LENGTH_MLA, ModelKey.VALUE_LENGTH_MLA))
    if bool(key_size) != bool(value_size):
        raise file.fault(f"the keys of a head have {key_size} columns, its values {value_size}: one of them is missing")
    if file.key(ModelKey.EMBEDDING_LENGTH_OUT, width) not in (0, width):
        raise file.key_fault(ModelKey.EMBEDDING_LENGTH_OUT, f"is not the {width} of embedding_length")
    usual = width // heads
    stored, kept = file.key(ModelKey.KEY_LENGTH, usual), file.key(ModelKey.VALUE_LENGTH, usual)
    turned, rank = file.key(ModelKey.ROPE_DIMENSION_COUNT, stored), count(file, ModelKey.KV_LORA_RANK)
    _check_cache(file, bool(key_size), (stored, kept), rank, turned)
    experts = file.key(ModelKey.EXPERT_COUNT, 0)
    if experts:
        count(file, ModelKey.EXPERT_USED_COUNT)
    sizes = LatentSizes(
        layers=layers,
        width=width,
        heads=heads,
        query_rank=query_rank,
        rank=rank,
        turned=turned,
        head_size=key_size or stored,
        value_size=value_size or kept,
        is_split=bool(key_size),
        dense_layers=file.key(ModelKey.LEADING_DENSE_BLOCK_COUNT, 0),
        feed_forward=count(file, ModelKey.FEED_FORWARD_LENGTH, 1),
        experts=experts,
        expert_hidden=count(file, ModelKey.EXPERT_FEED_FORWARD_LENGTH),
        shared=file.key(ModelKey.EXPERT_SHARED_COUNT),
        pieces=pieces,
    )
    if turned < 2 or turned % 2 or sizes.head_size <= turned:
        raise file.fault(f"{turned} columns of a head of {sizes.head_size} cannot turn with the position")
    return sizes


def _check_cache(file: GgufFile, is_split: bool, cell: tuple[int, int], rank: int, turned: int) -> None:
    """Refuse a cache of another shape than the graph writes."""
    heads, kv_heads = (
        count(file, ModelKey.HEAD_COUNT),
        count(file, ModelKey.HEAD_COUNT_KV, file.key(ModelKey.HEAD_COUNT)),
    )
    if kv_heads != (1 if is_split else heads):
        raise file.key_fault(ModelKey.HEAD_COUNT_KV, f"is {kv_heads}, but must be {1 if is_split else heads}")
    for name, found, wanted in (
        (ModelKey.KEY_LENGTH, cell[0], rank + turned),
        (ModelKey.VALUE_LENGTH, cell[1], rank),
    ):
        if is_split and found != wanted:
            raise file.key_fault(name, f"is {found}, but a latent vector has {wanted} columns")


def _needs(file: GgufFile, sizes: LatentSizes) -> Iterator[RequiredTensor]:
    """Every tensor that llama.cpp looks for."""
    yield matrix("token_embd", sizes.width, sizes.pieces)
    yield RequiredTensor("output_norm.weight", (sizes.width,), PLAIN)
    yield matrix("output", sizes.width, sizes.pieces, required=False)
    yield from scales("output", 1)
    for layer in range(sizes.layers):
        yield from _attention(sizes, f"blk.{layer}.")
        dense = layer < sizes.dense_layers
        yield from _feed_forward(sizes, f"blk.{layer}.") if dense else _experts(file, sizes, f"blk.{layer}.")
    for layer in range(sizes.layers, file.key(ModelKey.BLOCK_COUNT)):
        own = f"blk.{layer}."
        names = [name for name in file.tensors if name.startswith(own)]
        ordinary = [*_attention(sizes, own), *_experts(file, sizes, own)]
        yield from (need._replace(required=False) for need in ordinary)
        extra = [name for name in names if name.removeprefix(own).removesuffix(".weight") in NEXTN]
        yield from (
            RequiredTensor(name, file.tensors[name].shape, frozenset((file.tensors[name].type,))) for name in extra
        )


def _attention(sizes: LatentSizes, layer: str) -> Iterator[RequiredTensor]:
    yield RequiredTensor(f"{layer}attn_norm.weight", (sizes.width,), PLAIN)
    queries = sizes.heads * sizes.head_size
    if sizes.query_rank:
        yield RequiredTensor(f"{layer}attn_q_a_norm.weight", (sizes.query_rank,), PLAIN)
        yield matrix(f"{layer}attn_q_a", sizes.width, sizes.query_rank)
        yield matrix(f"{layer}attn_q_b", sizes.query_rank, queries)
    else:
        yield matrix(f"{layer}attn_q", sizes.width, queries)
        yield from scales(f"{layer}attn_q", 1)
    yield RequiredTensor(f"{layer}attn_kv_a_norm.weight", (sizes.rank,), PLAIN)
    yield matrix(f"{layer}attn_kv_a_mqa", sizes.width, sizes.rank + sizes.turned)
    plain = sizes.head_size - sizes.turned
    if sizes.is_split:
        yield matrix(f"{layer}attn_k_b", plain, sizes.rank, sizes.heads)
        yield matrix(f"{layer}attn_v_b", sizes.rank, sizes.value_size, sizes.heads)
    else:
        yield matrix(f"{layer}attn_kv_b", sizes.rank, sizes.heads * (plain + sizes.value_size))
    yield matrix(f"{layer}attn_output", sizes.heads * sizes.value_size, sizes.width)
    yield from scales(f"{layer}attn_output", 1)
    yield RequiredTensor(f"{layer}ffn_norm.weight", (sizes.width,), PLAIN)


def _feed_forward(sizes: LatentSizes, layer: str, suffix: str = "", hidden: int = 0) -> Iterator[RequiredTensor]:
    width, rows = sizes.width, hidden or sizes.feed_forward
    for part, shape in {"ffn_gate": (width, rows), "ffn_down": (rows, width), "ffn_up": (width, rows)}.items():
        yield matrix(f"{layer}{part}{suffix}", *shape)
        yield from scales(f"{layer}{part}{suffix}", 1)


def _experts(file: GgufFile, sizes: LatentSizes, layer: str) -> Iterator[RequiredTensor]:
    width, rows, experts = sizes.width, sizes.expert_hidden, sizes.experts
    if not experts:
        raise file.key_fault(ModelKey.EXPERT_COUNT, "is missing or 0, but there are layers with experts")
    if not sizes.shared:
        raise file.key_fault(ModelKey.EXPERT_SHARED_COUNT, "is 0, but the graph needs one at least")
    yield matrix(f"{layer}ffn_gate_inp", width, experts)
    yield RequiredTensor(f"{layer}exp_probs_b.bias", (experts,), PLAIN, required=False)
    parts = {"ffn_down_exps": (rows, width), "ffn_gate_exps": (width, rows), "ffn_up_exps": (width, rows)}
    if f"{layer}ffn_gate_up_exps.weight" in file.tensors:
        parts = {"ffn_down_exps": (rows, width), "ffn_gate_up_exps": (width, 2 * rows)}
    for part, shape in parts.items():
        yield matrix(layer + part, *shape, experts)
        if part != "ffn_gate_up_exps":
            yield from scales(layer + part, experts)
    yield from _feed_forward(sizes, layer, "_shexp", rows * sizes.shared)
