"""Tiny valid GGUF files of every kind that the checks distinguish, written by gguf-py. For tests only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gguf
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WIDTH, HEADS, KV_HEADS, FEED_FORWARD, LAYERS = 64, 4, 2, 96, 2
HEAD = WIDTH // HEADS
WINDOW = 16


def spm_pieces() -> tuple[list[bytes], list[float], list[int]]:
    """Pieces, scores and types of a SentencePiece vocabulary that can write every text."""
    words = ["▁", "▁the", "▁a", "e", "t", "he", "th", "▁t", "▁th", "é", "[INST]"]
    pieces = [b"<unk>", b"<s>", b"</s>", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    kinds = [2, 3, 3, *[6] * 256]
    pieces += [word.encode() for word in words]
    kinds += [1] * (len(words) - 1) + [3]
    return pieces, [-float(number) for number in range(len(pieces))], kinds


def tekken_pieces() -> tuple[list[str], list[str], list[int]]:
    """Pieces, merges and types of a byte-pair vocabulary that can write every text."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in plain}
    letters |= {byte: chr(256 + place) for place, byte in enumerate(b for b in range(256) if b not in letters)}
    pieces = ["<unk>", "<s>", "</s>", *(letters[byte] for byte in range(256)), "he", "th", "the"]
    return pieces, ["h e", "t h", "th e"], [3, 3, 3, *[1] * 259]


class Writer(gguf.GGUFWriter):
    """gguf-py's writer with the tensors' numbers drawn from one seed."""

    def __init__(self, path: Path, architecture: str) -> None:
        super().__init__(path, architecture)
        self.random = np.random.default_rng(7)

    def matrix(self, name: str, *shape: int, kind: str = "F32") -> None:
        """A tensor of `shape` in numpy's order, rows first."""
        values = self.random.normal(0, 0.05, shape).astype(np.float32)
        if kind == "F32":
            self.add_tensor(name, values)
        else:
            block = gguf.GGMLQuantizationType[kind]
            self.add_tensor(name, gguf.quants.quantize(values, block), raw_dtype=block)

    def save(self) -> None:
        """Write and close."""
        self.write_header_to_file()
        self.write_kv_data_to_file()
        self.write_tensors_to_file()
        self.close()


def _keys(writer: Writer) -> None:
    writer.add_type("model")
    writer.add_name("tiny")
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)


def _spm(writer: Writer) -> int:
    pieces, scores, kinds = spm_pieces()
    writer.add_vocab_size(len(pieces))
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    return len(pieces)


def _tekken(writer: Writer) -> int:
    pieces, merges, kinds = tekken_pieces()
    writer.add_vocab_size(len(pieces))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("tekken")
    writer.add_token_list(pieces)
    writer.add_token_merges(merges)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    return len(pieces)


def _layers(writer: Writer, pieces: int, *, experts: int = 0, sinks: bool = False, kind: str = "F32") -> None:
    writer.matrix("token_embd.weight", pieces, WIDTH, kind=kind)
    writer.matrix("output_norm.weight", WIDTH)
    writer.matrix("output.weight", pieces, WIDTH, kind=kind)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        writer.matrix(f"{block}attn_norm.weight", WIDTH)
        writer.matrix(f"{block}attn_q.weight", WIDTH, WIDTH, kind=kind)
        writer.matrix(f"{block}attn_k.weight", KV_HEADS * HEAD, WIDTH, kind=kind)
        writer.matrix(f"{block}attn_v.weight", KV_HEADS * HEAD, WIDTH, kind=kind)
        writer.matrix(f"{block}attn_output.weight", WIDTH, WIDTH, kind=kind)
        if sinks:
            writer.add_tensor(f"{block}attn_sinks.weight", np.full(HEADS, -1e30, np.float32))
        writer.matrix(f"{block}ffn_norm.weight", WIDTH)
        if experts:
            writer.matrix(f"{block}ffn_gate_inp.weight", experts, WIDTH)
        stack, suffix = ((experts,), "_exps.weight") if experts else ((), ".weight")
        writer.matrix(f"{block}ffn_gate{suffix}", *stack, FEED_FORWARD, WIDTH, kind=kind)
        writer.matrix(f"{block}ffn_down{suffix}", *stack, WIDTH, FEED_FORWARD, kind=kind)
        writer.matrix(f"{block}ffn_up{suffix}", *stack, FEED_FORWARD, WIDTH, kind=kind)


def llama(path: Path) -> Path:
    """A plain Mistral with a SentencePiece vocabulary."""
    writer = Writer(path, "llama")
    _keys(writer)
    _layers(writer, _spm(writer))
    writer.add_file_type(0)
    writer.save()
    return path


def qwen2(path: Path) -> Path:
    """A Qwen 2, with biases."""
    writer = Writer(path, "qwen2")
    _keys(writer)
    _layers(writer, _spm(writer), kind="Q8_0")
    for layer in range(LAYERS):
        for part, rows in (("q", WIDTH), ("k", KV_HEADS * HEAD), ("v", KV_HEADS * HEAD)):
            writer.matrix(f"blk.{layer}.attn_{part}.bias", rows)
    writer.add_file_type(7)
    writer.save()
    return path


def qwen3(path: Path) -> Path:
    """A Qwen 3, whose heads have norms."""
    writer = Writer(path, "qwen3")
    _keys(writer)
    _layers(writer, _spm(writer), kind="Q8_0")
    for layer in range(LAYERS):
        for part in ("q", "k"):
            writer.matrix(f"blk.{layer}.attn_{part}_norm.weight", HEAD)
    writer.add_file_type(7)
    writer.save()
    return path


def windowed_experts(path: Path) -> Path:
    """A mixture of experts with a sliding window, on one of two layers, and positions on the other only."""
    writer = Writer(path, "granite_swa")
    _keys(writer)
    writer.add_logit_scale(1.0)
    writer.add_sliding_window(WINDOW)
    writer.add_sliding_window_pattern([True, False])
    writer.add_array("granite_swa.attention.rope_pattern", [False, True])
    writer.add_expert_count(4)
    writer.add_expert_used_count(2)
    _layers(writer, _spm(writer), experts=4, sinks=True, kind="Q8_0")
    writer.add_file_type(7)
    writer.save()
    return path


def windowed(path: Path) -> Path:
    """A Mistral with a sliding window, in the architecture `granite_swa`."""
    writer = Writer(path, "granite_swa")
    _keys(writer)
    writer.add_logit_scale(1.0)
    writer.add_sliding_window(WINDOW)
    writer.add_sliding_window_pattern([True] * LAYERS)
    _layers(writer, _spm(writer), sinks=True, kind="Q8_0")
    writer.add_file_type(7)
    writer.save()
    return path


def mixtral(path: Path) -> Path:
    """A mixture of four experts."""
    writer = Writer(path, "llama")
    _keys(writer)
    writer.add_expert_count(4)
    writer.add_expert_used_count(2)
    _layers(writer, _spm(writer), experts=4, kind="Q4_0")
    writer.add_file_type(2)
    writer.save()
    return path


def tekken(path: Path) -> Path:
    """A plain Mistral with a Tekken vocabulary."""
    writer = Writer(path, "llama")
    _keys(writer)
    _layers(writer, _tekken(writer), kind="F16")
    writer.add_file_type(1)
    writer.save()
    return path


def yarn(path: Path) -> Path:
    """A Ministral 3: YaRN, and attention that grows with the position."""
    writer = Writer(path, "mistral3")
    _keys(writer)
    _yarn(writer, 1.0)
    writer.add_attn_temperature_scale(0.1)
    _layers(writer, _spm(writer), kind="Q8_0")
    writer.add_file_type(7)
    writer.save()
    return path


def _yarn(writer: Writer, multiplier: float) -> None:
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(8.0)
    writer.add_rope_scaling_orig_ctx_len(4)
    writer.add_rope_scaling_yarn_beta_fast(32.0)
    writer.add_rope_scaling_yarn_beta_slow(1.0)
    writer.add_rope_scaling_yarn_log_mul(multiplier)


def _latent(path: Path, architecture: str, *, is_split: bool) -> Path:
    """Latent attention beside experts; the first layer is dense."""
    query_rank, rank, turned, plain, value, experts, hidden = 32, 32, 8, 16, 24, 4, 32
    writer = Writer(path, architecture)
    _keys(writer)
    _yarn(writer, 0.1)
    writer.add_attn_temperature_scale(0.1)
    writer.add_attn_temperature_length(4)
    writer.add_rope_dimension_count(turned)
    writer.add_q_lora_rank(query_rank)
    writer.add_kv_lora_rank(rank)
    writer.add_head_count_kv(1 if is_split else HEADS)
    writer.add_key_length(rank + turned if is_split else plain + turned)
    writer.add_value_length(rank if is_split else value)
    if is_split:
        writer.add_key_length_mla(plain + turned)
        writer.add_value_length_mla(value)
    writer.add_leading_dense_block_count(1)
    writer.add_expert_count(experts)
    writer.add_expert_used_count(2)
    writer.add_expert_feed_forward_length(hidden)
    writer.add_expert_shared_count(1)
    writer.add_expert_weights_scale(1.0)
    writer.add_expert_weights_norm(True)
    pieces = _spm(writer)
    writer.matrix("token_embd.weight", pieces, WIDTH)
    writer.matrix("output_norm.weight", WIDTH)
    writer.matrix("output.weight", pieces, WIDTH)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        writer.matrix(f"{block}attn_norm.weight", WIDTH)
        writer.matrix(f"{block}attn_q_a.weight", query_rank, WIDTH)
        writer.matrix(f"{block}attn_q_a_norm.weight", query_rank)
        writer.matrix(f"{block}attn_q_b.weight", HEADS * (plain + turned), query_rank)
        writer.matrix(f"{block}attn_kv_a_mqa.weight", rank + turned, WIDTH)
        writer.matrix(f"{block}attn_kv_a_norm.weight", rank)
        if is_split:
            writer.matrix(f"{block}attn_k_b.weight", HEADS, rank, plain)
            writer.matrix(f"{block}attn_v_b.weight", HEADS, value, rank)
        else:
            writer.matrix(f"{block}attn_kv_b.weight", HEADS * (plain + value), rank)
        writer.matrix(f"{block}attn_output.weight", WIDTH, HEADS * value)
        writer.matrix(f"{block}ffn_norm.weight", WIDTH)
        if layer == 0:
            parts: dict[str, tuple[tuple[int, ...], int]] = {"": ((), FEED_FORWARD)}
        else:
            writer.matrix(f"{block}ffn_gate_inp.weight", experts, WIDTH)
            parts = {"_exps": ((experts,), hidden), "_shexp": ((), hidden)}
        for suffix, (stack, rows) in parts.items():
            writer.matrix(f"{block}ffn_gate{suffix}.weight", *stack, rows, WIDTH)
            writer.matrix(f"{block}ffn_down{suffix}.weight", *stack, WIDTH, rows)
            writer.matrix(f"{block}ffn_up{suffix}.weight", *stack, rows, WIDTH)
    writer.add_file_type(0)
    writer.save()
    return path


def latent(path: Path) -> Path:
    """A Mistral Small 4 in miniature."""
    return _latent(path, "mistral4", is_split=True)


def latent_joined(path: Path) -> Path:
    """As files were before April 2025: keys and values of the latent vector in one tensor."""
    return _latent(path, "deepseek2", is_split=False)


def adapter(path: Path) -> Path:
    """A LoRA of rank 4 for `llama`."""
    writer = Writer(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    for layer in range(LAYERS):
        writer.matrix(f"blk.{layer}.attn_q.weight.lora_a", 4, WIDTH)
        writer.matrix(f"blk.{layer}.attn_q.weight.lora_b", WIDTH, 4)
    writer.save()
    return path


def large(path: Path, pieces: int, merges: int, long: int = 80) -> Path:
    """A file with the vocabulary of a real model and next to no tensors; some pieces end with `long` spaces."""
    writer = Writer(path, "llama")
    _keys(writer)
    writer.add_tokenizer_model("gpt2")
    spaces = "Ġ" * long  # real vocabularies hold runs of over 127 bytes
    writer.add_token_list([f"Ġpiece{number}" + (spaces if number % 5000 == 7 else "") for number in range(pieces)])
    writer.add_token_scores([-float(number) for number in range(pieces)])
    writer.add_token_types([1] * pieces)
    if merges:
        writer.add_token_merges([f"Ġpie{number} ce{number}" for number in range(merges)])
    writer.matrix("output_norm.weight", WIDTH)
    writer.save()
    return path


def _encoder_of_texts(path: Path, architecture: str, parts: dict[str, tuple[int, int]], *, is_biased: bool) -> Path:
    """An embedding model; `parts` are the rows and columns of each layer's matrices."""
    writer = Writer(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(32)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_uint32(f"{architecture}.pooling_type", 1)
    if not is_biased:
        writer.add_rope_freq_base(1000.0)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\u2581the", "\u2581a", "e", "\u00e9"]
    writer.add_tokenizer_model("bert")
    writer.add_token_list(pieces)
    writer.add_token_types([3] * 5 + [1] * (len(pieces) - 5))
    writer.add_token_type_count(2)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(3)
    writer.add_sep_token_id(3)
    writer.add_unk_token_id(1)
    writer.matrix("token_embd.weight", len(pieces), WIDTH)
    writer.matrix("token_types.weight", 2, WIDTH)
    if is_biased:
        writer.matrix("position_embd.weight", 32, WIDTH)
    norms = [f"blk.{layer}.{name}" for layer in range(LAYERS) for name in ("attn_output_norm", "layer_output_norm")]
    for name in ("token_embd_norm", *norms):
        writer.matrix(f"{name}.weight", WIDTH)
        writer.matrix(f"{name}.bias", WIDTH)
    for layer in range(LAYERS):
        for name, (rows, columns) in parts.items():
            writer.matrix(f"blk.{layer}.{name}.weight", rows, columns)
            if is_biased:
                writer.matrix(f"blk.{layer}.{name}.bias", rows)
    writer.add_file_type(0)
    writer.save()
    return path


def bert(path: Path) -> Path:
    """An all-MiniLM in miniature."""
    parts = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (WIDTH, WIDTH))
    parts |= {"ffn_up": (FEED_FORWARD, WIDTH), "ffn_down": (WIDTH, FEED_FORWARD)}
    return _encoder_of_texts(path, "bert", parts, is_biased=True)


def nomic_bert(path: Path) -> Path:
    """A nomic-embed-text in miniature."""
    parts = {"attn_qkv": (3 * WIDTH, WIDTH), "attn_output": (WIDTH, WIDTH)}
    parts |= {"ffn_up": (FEED_FORWARD, WIDTH), "ffn_gate": (FEED_FORWARD, WIDTH), "ffn_down": (WIDTH, FEED_FORWARD)}
    return _encoder_of_texts(path, "nomic-bert", parts, is_biased=False)


MODELS: dict[str, Callable[[Any], Any]] = {
    "llama": llama,
    "windowed": windowed,
    "windowed_experts": windowed_experts,
    "mixtral": mixtral,
    "qwen2": qwen2,
    "qwen3": qwen3,
    "tekken": tekken,
    "yarn": yarn,
    "latent": latent,
    "latent_joined": latent_joined,
}
SAMPLES: dict[str, Callable[[Any], Any]] = {**MODELS, "adapter": adapter}
EMBEDDING_MODELS: dict[str, Callable[[Any], Any]] = {"bert": bert, "nomic_bert": nomic_bert}
