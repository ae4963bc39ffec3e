"""The GGUF's keys: those llama.cpp needs, as its converter writes them, then ours. Knows no tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat.gguf.keys import NOTED_PATTERN, NOTED_WINDOW
from chat.gguf.writer import KeyValue

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from convert.architecture.hyperparameters import Hyperparameters
    from convert.quantize.recipes import Recipe
    from convert.tokenizer.vocabulary import GgufVocabulary

PLAIN = "llama"
# llama.cpp's graph for `llama` ignores a window. The one for `granite_swa` applies it where a layer has one, and is
# Mistral's if its scales are 1 and its attention sinks weigh nothing: tests/chat/llama/test_exactness.py proves it.
CARRIER = "granite_swa"
QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION


@dataclass(frozen=True)
class Origin:
    """Where the model comes from."""

    name: str  # repositories or folders, joined by `+` where adapters were merged
    sha256: str  # `fingerprint.fingerprint` of it
    parameters: int
    windows: tuple[int | None, ...]  # per layer, in tokens; those it was made with, whatever this file applies

    @property
    def short_name(self) -> str:
        """Without the owners."""
        return short_name(self.name)


def short_name(name: str) -> str:
    """The name of a model, or of a model and its adapters, without the owners of repositories."""
    return "+".join(part.rpartition("/")[2] for part in name.split("+"))


def architecture_of(hparams: Hyperparameters) -> str:
    """The architecture whose graph computes this model: the carrier where a window is smaller than the context."""
    return PLAIN if hparams.window is None or hparams.window >= hparams.context else CARRIER


def make_keys(
    hparams: Hyperparameters, vocabulary: GgufVocabulary, recipe: Recipe, origin: Origin
) -> tuple[KeyValue, ...]:
    """All keys in the order in which llama.cpp's converter and quantizer put them."""
    architecture = architecture_of(hparams)
    return (
        KeyValue("general.architecture", "str", architecture),
        KeyValue("general.type", "str", "model"),
        KeyValue("general.name", "str", origin.short_name),
        KeyValue("general.size_label", "str", size_label(origin.parameters, hparams)),
        *_model_keys(hparams, architecture),
        *_tokenizer_keys(vocabulary),
        *_own_keys(hparams, vocabulary, origin),
        KeyValue("general.quantization_version", "u32", QUANTIZATION_VERSION),
        KeyValue("general.file_type", "u32", recipe.file_type),
    )


def size_label(parameters: int, hparams: Hyperparameters) -> str:
    """How large the model is, in words people know: 7.2B, 8x7B."""
    each = parameters
    prefix = ""
    if hparams.experts:
        expert = 3 * hparams.layers * hparams.width * hparams.hidden
        each -= (hparams.experts - 1) * expert
        prefix = f"{hparams.experts}x"
    for unit, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if each >= scale:
            value = each / scale
            return f"{prefix}{value:.0f}{unit}" if value >= 10 else f"{prefix}{value:.1f}{unit}"
    return f"{prefix}{each}"


def _model_keys(h: Hyperparameters, architecture: str) -> Iterator[KeyValue]:
    def key(name: str) -> str:
        return f"{architecture}.{name}"

    yield KeyValue(key("block_count"), "u32", h.layers)
    yield KeyValue(key("context_length"), "u32", h.context)
    yield KeyValue(key("embedding_length"), "u32", h.width)
    yield KeyValue(key("feed_forward_length"), "u32", h.hidden)
    yield KeyValue(key("attention.head_count"), "u32", h.heads)
    yield KeyValue(key("attention.head_count_kv"), "u32", h.kv_heads)
    yield KeyValue(key("rope.freq_base"), "f32", h.rope_theta)
    yield KeyValue(key("attention.layer_norm_rms_epsilon"), "f32", h.norm_epsilon)
    if h.experts:
        yield KeyValue(key("expert_count"), "u32", h.experts)
        yield KeyValue(key("expert_used_count"), "u32", h.experts_used)
    yield KeyValue(key("attention.key_length"), "u32", h.head_dim)
    yield KeyValue(key("attention.value_length"), "u32", h.head_dim)
    yield KeyValue(key("vocab_size"), "u32", h.vocabulary)
    yield KeyValue(key("rope.dimension_count"), "u32", h.head_dim)
    if h.scaling is not None:
        yield KeyValue(key("rope.scaling.type"), "str", h.scaling.kind)
        yield KeyValue(key("rope.scaling.factor"), "f32", h.scaling.factor)
        if h.scaling.original_context is not None:
            yield KeyValue(key("rope.scaling.original_context_length"), "u32", h.scaling.original_context)
        if h.scaling.attention_factor != 1.0:
            yield KeyValue(key("rope.scaling.attn_factor"), "f32", h.scaling.attention_factor)
    if architecture == CARRIER:
        yield from window_keys(h)


def window_keys(h: Hyperparameters) -> tuple[KeyValue, ...]:
    """What the carrier has beyond the plain architecture's keys; none for a model without a window."""
    if h.window is None:
        return ()
    return (
        KeyValue(f"{CARRIER}.logit_scale", "f32", 1.0),
        KeyValue(f"{CARRIER}.attention.sliding_window", "u32", h.window),
        KeyValue(
            f"{CARRIER}.attention.sliding_window_pattern", "bool", tuple(window is not None for window in h.windows)
        ),
    )


def window_note(windows: Sequence[int | None]) -> tuple[KeyValue, ...]:
    """What a file says of the window its model is to have, also where `--window off` leaves it out."""
    window = next((window for window in windows if window is not None), 0)
    noted = KeyValue(NOTED_WINDOW, "u32", window)
    if window == 0 or None not in windows:
        return (noted,)
    return (noted, KeyValue(NOTED_PATTERN, "bool", tuple(window is not None for window in windows)))


def _tokenizer_keys(v: GgufVocabulary) -> Iterator[KeyValue]:
    yield KeyValue("tokenizer.ggml.model", "str", v.model)
    yield KeyValue("tokenizer.ggml.pre", "str", v.pre)
    yield KeyValue("tokenizer.ggml.tokens", "str", tuple(piece.text for piece in v.pieces))
    if v.model == "llama":
        yield KeyValue("tokenizer.ggml.scores", "f32", tuple(piece.score for piece in v.pieces))
    yield KeyValue("tokenizer.ggml.token_type", "i32", tuple(int(piece.type) for piece in v.pieces))
    if v.merges:
        yield KeyValue("tokenizer.ggml.merges", "str", v.merges)
    yield KeyValue("tokenizer.ggml.bos_token_id", "u32", v.bos)
    yield KeyValue("tokenizer.ggml.eos_token_id", "u32", v.eos)
    if v.eot is not None:
        yield KeyValue("tokenizer.ggml.eot_token_id", "u32", v.eot)
    if v.add_bos is not None:
        yield KeyValue("tokenizer.ggml.add_bos_token", "bool", v.add_bos)
    if not v.adds_space:
        yield KeyValue("tokenizer.ggml.add_space_prefix", "bool", False)
    others = tuple(name for name in v.chat_templates if name != "default")
    if others:
        yield KeyValue("tokenizer.chat_templates", "str", others)
    for name, template in v.chat_templates.items():
        key = "tokenizer.chat_template" if name == "default" else f"tokenizer.chat_template.{name}"
        yield KeyValue(key, "str", template)


def _own_keys(h: Hyperparameters, v: GgufVocabulary, origin: Origin) -> Iterator[KeyValue]:
    if v.prompt_format is not None:
        yield KeyValue("mistral_chat.prompt_format", "str", v.prompt_format)
    yield from window_note(h.windows if h.window else origin.windows)
    yield KeyValue("mistral_chat.source", "str", origin.name)
    yield KeyValue("mistral_chat.source_sha256", "str", origin.sha256)
