"""Make the metadata of a model's GGUF: the keys that llama.cpp's converter writes, in its order, and our own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat.gguf.keys import (
    MODEL_FILE,
    ORIGINAL_LATENT_ARCHITECTURE,
    GeneralKey,
    MistralChatKey,
    ModelKey,
    TokenizerKey,
)
from chat.gguf.writer import KeyValue
from convert.output.rope_keys import rope_keys
from convert.output.sliding_window import TargetModel, window_keys, window_note

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from convert.architecture.hyperparameters import Hyperparameters
    from convert.architecture.latent import LatentAttention, Mixture
    from convert.checkpoint.folder import Checkpoint
    from convert.checkpoint.mapped_file import TensorEntry, TensorFile
    from convert.lora.adapter import Adapter
    from convert.quantize.recipes import Recipe
    from convert.tokenizer.vocabulary import GgufVocabulary

QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION
SAMPLE_BYTES = 4096
GATING_SOFTMAX = 1  # LLAMA_EXPERT_GATING_FUNC_TYPE_SOFTMAX


@dataclass(frozen=True)
class Origin:
    """Where the model comes from, as the file notes it."""

    name: str  # repositories or folders, joined by `+` where adapters were merged
    sha256: str  # of `fingerprint`, 64 hexadecimal digits
    parameters: int

    @property
    def short_name(self) -> str:
        """Without the owners."""
        return short_name(self.name)


def short_name(name: str) -> str:
    """The name of a model, or of a model and its adapters, without the owners of repositories."""
    return "+".join(part.rpartition("/")[2] for part in name.split("+"))


def make_keys(target: TargetModel, vocabulary: GgufVocabulary, recipe: Recipe, origin: Origin) -> tuple[KeyValue, ...]:
    """All keys in the order of llama.cpp's converter and quantizer."""
    return (
        KeyValue(GeneralKey.ARCHITECTURE, "str", target.architecture),
        KeyValue(GeneralKey.TYPE, "str", MODEL_FILE),
        KeyValue(GeneralKey.NAME, "str", origin.short_name),
        KeyValue(GeneralKey.SIZE_LABEL, "str", size_label(origin.parameters, target.sizes)),
        *_model_keys(target.sizes, target.architecture),
        *window_keys(target),
        *_tokenizer_keys(vocabulary),
        *_own_keys(target, vocabulary, origin),
        KeyValue(GeneralKey.QUANTIZATION_VERSION, "u32", QUANTIZATION_VERSION),
        KeyValue(GeneralKey.FILE_TYPE, "u32", recipe.file_type),
    )


def size_label(parameters: int, hparams: Hyperparameters) -> str:
    """The size of the model as its publishers name it: 7.2B, 8x7B."""
    each = parameters
    prefix = ""
    if hparams.experts:
        mixture = hparams.mixture
        layers, hidden = (hparams.layers, hparams.hidden)
        if mixture is not None:
            layers, hidden = hparams.layers - mixture.dense_layers, mixture.hidden
        expert = 3 * layers * hparams.width * hidden
        each -= (hparams.experts - 1) * expert
        prefix = f"{hparams.experts}x"
    return prefix + rounded_count(each)


def rounded_count(count: int) -> str:
    """A number of weights with two digits at least and its unit: 878M."""
    for unit, scale in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= scale:
            value = count / scale
            return f"{value:.0f}{unit}" if value >= 10 else f"{value:.1f}{unit}"
    return str(count)


def _model_keys(h: Hyperparameters, architecture: str) -> Iterator[KeyValue]:
    def key(name: str) -> str:
        return f"{architecture}.{name}"

    yield KeyValue(key(ModelKey.BLOCK_COUNT), "u32", h.layers)
    yield KeyValue(key(ModelKey.CONTEXT_LENGTH), "u32", h.context)
    yield KeyValue(key(ModelKey.EMBEDDING_LENGTH), "u32", h.width)
    yield KeyValue(key(ModelKey.FEED_FORWARD_LENGTH), "u32", h.hidden)
    yield KeyValue(key(ModelKey.HEAD_COUNT), "u32", h.heads)
    yield KeyValue(key(ModelKey.HEAD_COUNT_KV), "u32", 1 if h.latent else h.kv_heads)
    yield KeyValue(key(ModelKey.ROPE_FREQ_BASE), "f32", h.rope_theta)
    yield KeyValue(key(ModelKey.LAYER_NORM_RMS_EPSILON), "f32", h.norm_epsilon)
    if h.experts:
        yield KeyValue(key(ModelKey.EXPERT_COUNT), "u32", h.experts)
        yield KeyValue(key(ModelKey.EXPERT_USED_COUNT), "u32", h.experts_used)
    if h.mixture is not None:
        yield from _mixture_keys(h.mixture, architecture)
    if h.latent is not None:
        yield from _latent_keys(h.latent, architecture)
    else:
        yield KeyValue(key(ModelKey.KEY_LENGTH), "u32", h.head_dim)
        yield KeyValue(key(ModelKey.VALUE_LENGTH), "u32", h.head_dim)
    yield KeyValue(key(ModelKey.VOCABULARY_SIZE), "u32", h.vocabulary)
    yield KeyValue(key(ModelKey.ROPE_DIMENSION_COUNT), "u32", h.latent.turned if h.latent else h.head_dim)
    yield from rope_keys(h, architecture)


def _mixture_keys(m: Mixture, architecture: str) -> Iterator[KeyValue]:
    def key(name: str) -> str:
        return f"{architecture}.{name}"

    if m.experts:
        yield KeyValue(key(ModelKey.EXPERT_GROUP_COUNT), "u32", m.groups)
        yield KeyValue(key(ModelKey.EXPERT_GROUP_USED_COUNT), "u32", m.groups_used)
        if architecture == ORIGINAL_LATENT_ARCHITECTURE:  # the other one knows no other
            yield KeyValue(key(ModelKey.EXPERT_GATING_FUNCTION), "u32", GATING_SOFTMAX)
    yield KeyValue(key(ModelKey.EXPERT_FEED_FORWARD_LENGTH), "u32", m.hidden)
    yield KeyValue(key(ModelKey.EXPERT_SHARED_COUNT), "u32", m.shared)
    yield KeyValue(key(ModelKey.EXPERT_WEIGHTS_SCALE), "f32", m.weights_scale)
    yield KeyValue(key(ModelKey.EXPERT_WEIGHTS_NORM), "bool", m.are_weights_normed)
    yield KeyValue(key(ModelKey.LEADING_DENSE_BLOCK_COUNT), "u32", m.dense_layers)


def _latent_keys(latent: LatentAttention, architecture: str) -> Iterator[KeyValue]:
    """The cache holds one key for all heads: the latent vector, then the columns that turn; it is the value, too."""
    sizes = {
        ModelKey.Q_LORA_RANK: latent.query_rank or 0,  # llama.cpp asks for it also where it is none
        ModelKey.KV_LORA_RANK: latent.rank,
        ModelKey.KEY_LENGTH: latent.rank + latent.turned,
        ModelKey.VALUE_LENGTH: latent.rank,
        ModelKey.KEY_LENGTH_MLA: latent.plain + latent.turned,
        ModelKey.VALUE_LENGTH_MLA: latent.value,
    }
    return (KeyValue(f"{architecture}.{name}", "u32", size) for name, size in sizes.items())


def _tokenizer_keys(v: GgufVocabulary) -> Iterator[KeyValue]:
    yield KeyValue(TokenizerKey.MODEL, "str", v.model)
    yield KeyValue(TokenizerKey.PRE, "str", v.pre)
    yield KeyValue(TokenizerKey.TOKENS, "str", tuple(piece.text for piece in v.pieces))
    if v.model == "llama":
        yield KeyValue(TokenizerKey.SCORES, "f32", tuple(piece.score for piece in v.pieces))
    yield KeyValue(TokenizerKey.TOKEN_TYPE, "i32", tuple(int(piece.type) for piece in v.pieces))
    if v.merges:
        yield KeyValue(TokenizerKey.MERGES, "str", v.merges)
    for key, named in ((TokenizerKey.BOS_ID, v.bos), (TokenizerKey.EOS_ID, v.eos)):
        if named is not None:
            yield KeyValue(key, "u32", named)
    for key, end in zip((TokenizerKey.EOT_ID, TokenizerKey.EOM_ID), v.further_ends, strict=False):
        yield KeyValue(key, "u32", end)
    if v.add_bos is not None:
        yield KeyValue(TokenizerKey.ADD_BOS, "bool", v.add_bos)
    if not v.adds_space:
        yield KeyValue(TokenizerKey.ADD_SPACE_PREFIX, "bool", False)
    others = tuple(name for name in v.chat_templates if name != "default")
    if others:
        yield KeyValue(TokenizerKey.CHAT_TEMPLATES, "str", others)
    for name, template in v.chat_templates.items():
        key = TokenizerKey.CHAT_TEMPLATE if name == "default" else f"{TokenizerKey.CHAT_TEMPLATE}.{name}"
        yield KeyValue(key, "str", template)


def _own_keys(target: TargetModel, v: GgufVocabulary, origin: Origin) -> Iterator[KeyValue]:
    if v.prompt_format is not None:
        yield KeyValue(MistralChatKey.PROMPT_FORMAT, "str", v.prompt_format)
    if len(v.further_ends) > 2 and v.eos is not None:  # llama.cpp has keys for two
        yield KeyValue(MistralChatKey.END_IDS, "u32", (v.eos, *v.further_ends))
    if v.space_prefix not in ("always", "none"):
        yield KeyValue(MistralChatKey.SPACE_PREFIX, "str", v.space_prefix)
    if v.normal_form:
        yield KeyValue(MistralChatKey.NORMAL_FORM, "str", v.normal_form)
    notes = {
        MistralChatKey.TOKENIZER_VERSION: v.unknown_version,
        MistralChatKey.MODEL_SETTINGS: v.model_settings,
        MistralChatKey.SYSTEM_PROMPT: v.system_prompt.replace("{name}", origin.short_name),
    }
    yield from (KeyValue(key, "str", text) for key, text in notes.items() if text)
    yield from window_note(target.noted_windows)
    yield KeyValue(MistralChatKey.SOURCE, "str", origin.name)
    yield KeyValue(MistralChatKey.SOURCE_SHA256, "str", origin.sha256)


def fingerprint(checkpoint: Checkpoint, tensors: Mapping[str, tuple[TensorFile, TensorEntry]] | None = None) -> str:
    """Hash a checkpoint, or some of its tensors, without reading all of it.

    SHA-256, in hexadecimal, over the file of sizes (config.json or params.json), and then for every tensor in the
    order of names: name, dtype, shape, and the first and last 4,096 bytes of its numbers. Two checkpoints that were
    trained differently differ in it; it does not prove that every byte between the samples is the same.
    """
    digest = hashlib.sha256(checkpoint.config_path.read_bytes())
    _add(digest, checkpoint.tensors if tensors is None else tensors)
    return digest.hexdigest()


def fingerprint_with(base: str, adapters: Sequence[tuple[Adapter, float]]) -> str:
    """Hash a base's fingerprint with the adapters that are merged into it; the base's own where there are none."""
    if not adapters:
        return base
    digest = hashlib.sha256(base.encode())
    for adapter, strength in adapters:
        digest.update(f"\0{strength!r}\0{[pair.scale for pair in adapter.pairs]}\0".encode())
        _add(digest, {part.entry.name: (part.file, part.entry) for part in adapter.parts})
    return digest.hexdigest()


def _add(digest: hashlib._Hash, tensors: Mapping[str, tuple[TensorFile, TensorEntry]]) -> None:
    for name in sorted(tensors):
        file, entry = tensors[name]
        digest.update(f"{name}\0{entry.dtype}\0{list(entry.shape)}\0".encode())
        size = min(SAMPLE_BYTES, entry.nbytes)
        for offset in (entry.offset, entry.offset + entry.nbytes - size):
            digest.update(file.file.view(offset, size))
            file.file.release(offset, size)
