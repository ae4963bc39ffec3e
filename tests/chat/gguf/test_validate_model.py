"""GGUF files with values that llama.cpp would abort on: they are refused, and llama.cpp itself is run on them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chat.errors import ChatError, ModelError
from chat.gguf.reader import read_gguf
from chat.gguf.types import BLOCK_TYPES
from chat.gguf.validate_lora import check_adapter_fits
from chat.gguf.validate_model import check_model
from tests.chat.gguf import gguf_samples as samples
from tests.chat.gguf.gguf_sketch import ARRAY, STRING, Key, Sketch, Tensor, encode, sketch
from tests.chat.gguf.llama_child import results
from tests.chat.gguf.try_mutants import sample_bytes, try_mutants
from tests.grids import FULL

if TYPE_CHECKING:
    from collections.abc import Callable

U32, F32, BOOL, I32 = 4, 6, 7, 5


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every sample's bytes."""
    return sample_bytes(tmp_path_factory.mktemp("samples"))


def refusal(file: Sketch, path: Path) -> str:
    """The words in which a file is refused, after its name."""
    path.write_bytes(file.pack())
    read = read_gguf(path)  # its framing is right
    with pytest.raises(ChatError) as caught:
        check_model(read)
    assert caught.value.message.startswith(f"{path}: ")
    return caught.value.message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_every_sample_is_accepted(name: str, originals: dict[str, bytes], tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(originals[name])
    check_model(read_gguf(tmp_path / "m.gguf"))


def key(name: str, kind: int, value: Any) -> Callable[[Sketch], None]:
    """Set a key."""
    return lambda file: file.set(name, kind, value)


def without(name: str) -> Callable[[Sketch], None]:
    """Remove a key or a tensor."""
    return lambda file: file.drop(name)


def both(*changes: Callable[[Sketch], None]) -> Callable[[Sketch], None]:
    """Several changes."""
    return lambda file: [change(file) for change in changes] and None


def shape(name: str, *sizes: int) -> Callable[[Sketch], None]:
    """Give a tensor another shape, and as many bytes as it then needs."""

    def apply(file: Sketch) -> None:
        tensor = file.tensor(name)
        block = BLOCK_TYPES[tensor.kind]
        tensor.data = bytes(math.prod(sizes) // block.block_size * block.block_bytes)
        tensor.shape = list(sizes)

    return apply


def kind(name: str, number: int, item_bytes: int) -> Callable[[Sketch], None]:
    """Give a tensor another type."""

    def apply(file: Sketch) -> None:
        tensor = file.tensor(name)
        tensor.kind, tensor.data = number, bytes(math.prod(tensor.shape) * item_bytes)

    return apply


def added(name: str, *sizes: int) -> Callable[[Sketch], None]:
    """One tensor more."""
    return lambda file: file.tensors.append(Tensor(name.encode(), list(sizes), 0, bytes(4 * math.prod(sizes))))


def piece(place: int, text: str, name: str = "tokenizer.ggml.tokens") -> Callable[[Sketch], None]:
    """Change one piece of the vocabulary."""

    def apply(file: Sketch) -> None:
        pieces = file.key(name).value
        pieces[place] = text
        file.set(name, ARRAY, (STRING, pieces))

    return apply


def array(name: str, item: int, values: list[Any]) -> Callable[[Sketch], None]:
    """Set a key to an array."""
    return lambda file: file.set(name, ARRAY, (item, values))


# what is broken -> (sample, change, the words)
UNIVERSAL: dict[str, tuple[str, Callable[[Sketch], None], str]] = {
    "no architecture": ("llama", without("general.architecture"), "key 'general.architecture' is missing"),
    "architecture is a number": (
        "llama",
        key("general.architecture", U32, 1),
        "key 'general.architecture' is u32, but must be str",
    ),
    "name is a number": ("llama", key("general.name", F32, 1), "key 'general.name' is f32, but must be str"),
    "no block_count": ("llama", without("llama.block_count"), "key 'llama.block_count' is missing"),
    "block_count 0": ("llama", key("llama.block_count", U32, 0), "key 'llama.block_count' is 0, but must be 1 to 512"),
    "block_count 513": (
        "llama",
        key("llama.block_count", U32, 513),
        "key 'llama.block_count' is 513, but must be 1 to 512",
    ),
    "block_count is text": (
        "llama",
        key("llama.block_count", STRING, "2"),
        "key 'llama.block_count' is str, but must be u32",
    ),
    "context_length 0": (
        "llama",
        key("llama.context_length", U32, 0),
        "key 'llama.context_length' is 0, but must be 1 to 1073741824",
    ),
    "context_length beyond 32 bits when padded": (
        "llama",
        key("llama.context_length", U32, 2**32 - 1),
        "key 'llama.context_length' is 4294967295, but must be 1 to 1073741824",
    ),
    "too many experts": (
        "mixtral",
        both(key("llama.expert_count", U32, 1025)),
        "key 'llama.expert_count' is 1025, but the limit is 1024",
    ),
    "more experts used than there are": (
        "mixtral",
        key("llama.expert_used_count", U32, 5),
        "key 'llama.expert_used_count' is 5 of 4 experts",
    ),
    "no expert used": (
        "mixtral",
        key("llama.expert_used_count", U32, 0),
        "key 'llama.expert_used_count' is 0 of 4 experts",
    ),
    "experts used of none": (
        "llama",
        key("llama.expert_used_count", U32, 2),
        "key 'llama.expert_used_count' is 2 of 0 experts",
    ),
    "uneven groups of experts": (
        "mixtral",
        both(key("llama.expert_group_count", U32, 3), key("llama.expert_group_used_count", U32, 1)),
        "4 experts cannot form 3 groups of which 1 are used",
    ),
    "as many groups as experts": (
        "llama",
        key("llama.expert_group_count", U32, 1),
        "0 experts cannot form 1 groups",
    ),
    "unknown rope scaling": (
        "llama",
        key("llama.rope.scaling.type", STRING, "dynamic"),
        "key 'llama.rope.scaling.type' is 'dynamic', but must be one of none, linear, yarn, longrope",
    ),
    "rope scaling by infinity": (
        "llama",
        key("llama.rope.scaling.factor", F32, math.inf),
        "key 'llama.rope.scaling.factor' is inf, but must be a number from 0 on",
    ),
    "a per-layer list of another length": (
        "llama",
        array("llama.attention.head_count", U32, [4, 4, 4]),
        "key 'llama.attention.head_count' has 3 items for 2 layers",
    ),
    "a negative count in a list": (
        "llama",
        array("llama.feed_forward_length", I32, [96, -1]),
        "key 'llama.feed_forward_length' holds -1, but no count is negative",
    ),
    "more prediction layers than layers": (
        "llama",
        key("llama.nextn_predict_layers", U32, 3),
        "key 'llama.nextn_predict_layers' is more than the 2 layers",
    ),
    "a part of a split model": (
        "llama",
        key("split.count", 2, 3),
        "is one of 3 parts of a split model",
    ),
    "a picture encoder": (
        "llama",
        key("general.architecture", STRING, "clip"),
        "is a picture encoder, not a model that answers",
    ),
}

VOCABULARY: dict[str, tuple[str, Callable[[Sketch], None], str]] = {
    "no tokenizer": ("llama", without("tokenizer.ggml.model"), "key 'tokenizer.ggml.model' is missing"),
    "unknown tokenizer": (
        "llama",
        key("tokenizer.ggml.model", STRING, "bert"),
        "key 'tokenizer.ggml.model' is 'bert', but must be one of llama, gpt2",
    ),
    "no vocabulary": (
        "llama",
        key("tokenizer.ggml.model", STRING, "none"),
        "key 'tokenizer.ggml.model' is 'none', but must be one of llama, gpt2",
    ),
    "no pieces": ("llama", without("tokenizer.ggml.tokens"), "key 'tokenizer.ggml.tokens' is missing or empty"),
    "empty list of pieces": (
        "llama",
        array("tokenizer.ggml.tokens", STRING, []),
        "key 'tokenizer.ggml.tokens' is missing or empty",
    ),
    "pieces are numbers": (
        "llama",
        array("tokenizer.ggml.tokens", U32, [1, 2]),
        "key 'tokenizer.ggml.tokens' is [u32], but must be [str]",
    ),
    "a piece twice": (
        "llama",
        piece(260, "<s>"),
        "the vocabulary holds the piece '<s>' twice, as 1 and 260",
    ),
    "a piece twice up to a NUL, where C strings end": (
        "tekken",
        piece(260, "<s>\0x"),
        "the vocabulary holds the piece '<s>' twice, as 1 and 260",
    ),
    "an empty piece under the name llama.cpp gives it": (
        "tekken",
        both(piece(260, ""), piece(261, "[EMPTY_260]")),
        "the vocabulary holds the piece '[EMPTY_260]' twice, as 260 and 261",
    ),
    "a byte without a piece": (
        "llama",
        piece(3 + 0xE6, "odd"),
        "the vocabulary has no piece for the byte <0xE6>",
    ),
    "a piece of type byte that is no byte": (
        "llama",
        array("tokenizer.ggml.token_type", I32, [2, 3, 3, *[6] * 256, *[1] * 10, 6]),
        "piece 269, '[INST]', is of the type of bytes but is not like <0x0A>",
    ),
    "too few scores": (
        "llama",
        array("tokenizer.ggml.scores", F32, [0.0] * 269),
        "key 'tokenizer.ggml.scores' has 269 items for 270 pieces",
    ),
    "a score that is no number": (
        "llama",
        array("tokenizer.ggml.scores", F32, [0.0] * 269 + [math.nan]),
        "key 'tokenizer.ggml.scores' holds a NaN, by which no order can be made",
    ),
    "too few types": (
        "llama",
        array("tokenizer.ggml.token_type", I32, [1] * 269),
        "key 'tokenizer.ggml.token_type' has 269 items for 270 pieces",
    ),
    "an unknown type": (
        "llama",
        array("tokenizer.ggml.token_type", I32, [7] * 270),
        "key 'tokenizer.ggml.token_type' holds 7 to 7, but types are 0 to 6",
    ),
    "types are floats": (
        "llama",
        array("tokenizer.ggml.token_type", F32, [1.0] * 270),
        "key 'tokenizer.ggml.token_type' is [f32], but must be [i32]",
    ),
    "an end outside the vocabulary": (
        "llama",
        key("tokenizer.ggml.eos_token_id", U32, 270),
        "key 'tokenizer.ggml.eos_token_id' is 270, but the vocabulary has 270 pieces",
    ),
    "an id of the wrong type": (
        "llama",
        key("tokenizer.ggml.eot_token_id", I32, 2),
        "key 'tokenizer.ggml.eot_token_id' is i32, but must be u32",
    ),
    "byte pairs without merges": (
        "tekken",
        without("tokenizer.ggml.merges"),
        "key 'tokenizer.ggml.merges' is missing, which a gpt2 tokenizer needs",
    ),
}

LAYERS: dict[str, tuple[str, Callable[[Sketch], None], str]] = {
    "no epsilon": (
        "llama",
        without("llama.attention.layer_norm_rms_epsilon"),
        "key 'llama.attention.layer_norm_rms_epsilon' is missing",
    ),
    "a negative epsilon": (
        "llama",
        key("llama.attention.layer_norm_rms_epsilon", F32, -1.0),
        "key 'llama.attention.layer_norm_rms_epsilon' is -1.0, below 0",
    ),
    "an epsilon that is no number": (
        "llama",
        key("llama.attention.layer_norm_rms_epsilon", F32, math.nan),
        "key 'llama.attention.layer_norm_rms_epsilon' is nan, but must be a finite number",
    ),
    "no head count": ("llama", without("llama.attention.head_count"), "key 'llama.attention.head_count' is missing"),
    "no heads": (
        "llama",
        key("llama.attention.head_count", U32, 0),
        "key 'llama.attention.head_count' is 0, but must be at least 1",
    ),
    "no key-value heads": (
        "llama",
        key("llama.attention.head_count_kv", U32, 0),
        "key 'llama.attention.head_count_kv' is 0, but must be at least 1",
    ),
    "heads that cannot share": (
        "llama",
        key("llama.attention.head_count_kv", U32, 3),
        "4 heads cannot share 3 key-value heads evenly",
    ),
    "head counts that differ": (
        "llama",
        array("llama.attention.head_count", U32, [4, 2]),
        "key 'llama.attention.head_count' differs between layers, which the graph cannot do",
    ),
    "an odd head": (
        "llama",
        key("llama.attention.key_length", U32, 15),
        "a head has 15 columns, but rotating them by pairs needs an even number",
    ),
    "values of another length": (
        "llama",
        key("llama.attention.value_length", U32, 8),
        "key 'llama.attention.value_length' is 8, but a head has 16 columns",
    ),
    "a part of the head rotated": (
        "llama",
        key("llama.rope.dimension_count", U32, 8),
        "key 'llama.rope.dimension_count' is 8, but a head has 16 columns",
    ),
    "another head in the window": (
        "windowed",
        key("granite_swa.attention.key_length_swa", U32, 8),
        "key 'granite_swa.attention.key_length_swa' is 8, but a head has 16 columns",
    ),
    "attention both ways": (
        "llama",
        key("llama.attention.causal", BOOL, 0),
        "key 'llama.attention.causal' is False, but the graph needs True",
    ),
    "no window": (
        "windowed",
        without("granite_swa.attention.sliding_window"),
        "key 'granite_swa.attention.sliding_window' is missing",
    ),
    "a window of 0": (
        "windowed",
        key("granite_swa.attention.sliding_window", U32, 0),
        "key 'granite_swa.attention.sliding_window' is 0, but must be 1 to 1073741824",
    ),
    "a window that llama.cpp's sums overflow with": (
        "windowed",
        key("granite_swa.attention.sliding_window", U32, 2**32 - 1),
        "key 'granite_swa.attention.sliding_window' is 4294967295, but must be 1 to 1073741824",
    ),
    "no pattern": (
        "windowed",
        without("granite_swa.attention.sliding_window_pattern"),
        "key 'granite_swa.attention.sliding_window_pattern' is missing",
    ),
    "a pattern that is a number": (
        "windowed",
        key("granite_swa.attention.sliding_window_pattern", U32, 1),
        "key 'granite_swa.attention.sliding_window_pattern' is u32, but must be [bool] or [u32] or [i32]",
    ),
    "a pattern that is too short": (
        "windowed",
        array("granite_swa.attention.sliding_window_pattern", BOOL, [1]),
        "key 'granite_swa.attention.sliding_window_pattern' has 1 items for 2 layers",
    ),
    "a pattern without a window": (
        "windowed",
        array("granite_swa.attention.sliding_window_pattern", BOOL, [0, 0]),
        "key 'granite_swa.attention.sliding_window_pattern' gives no layer a window",
    ),
    "a rope pattern without a layer": (
        "windowed",
        array("granite_swa.attention.rope_pattern", BOOL, [0, 0]),
        "key 'granite_swa.attention.rope_pattern' rotates no layer",
    ),
    "logits divided by 0": (
        "windowed",
        key("granite_swa.logit_scale", F32, 0.0),
        "key 'granite_swa.logit_scale' is 0, by which the logits are divided",
    ),
    "layers that take pictures": (
        "windowed",
        array("granite_swa.deepstack_mapping", I32, [0, -1]),
        "key 'granite_swa.deepstack_mapping' asks for pictures, which this program does not read",
    ),
    "no sinks": ("windowed", without("blk.1.attn_sinks.weight"), "tensor 'blk.1.attn_sinks.weight' is missing"),
    "sinks of another type": (
        "windowed",
        kind("blk.1.attn_sinks.weight", 1, 2),
        "tensor 'blk.1.attn_sinks.weight' is F16, but must be F32",
    ),
    "sinks for other heads": (
        "windowed",
        shape("blk.0.attn_sinks.weight", 8),
        "tensor 'blk.0.attn_sinks.weight' has shape [8], but must have [4]",
    ),
    "no embedding": ("llama", without("token_embd.weight"), "tensor 'token_embd.weight' is missing"),
    "a row too few": (
        "llama",
        shape("token_embd.weight", 64, 269),
        "tensor 'token_embd.weight' has shape [64, 269], but must have [64, 270]",
    ),
    "a missing layer": (
        "llama",
        key("llama.block_count", U32, 3),
        "tensor 'blk.2.attn_norm.weight' is missing",
    ),
    "a layer too many": (
        "llama",
        key("llama.block_count", U32, 1),
        "tensor 'blk.1.attn_norm.weight' has no place in a llama model of these sizes",
    ),
    "a transposed matrix": (
        "llama",
        shape("blk.0.ffn_up.weight", 96, 64),
        "tensor 'blk.0.ffn_up.weight' has shape [96, 64], but must have [64, 96]",
    ),
    "experts that the keys do not mention": (
        "llama",
        both(key("llama.expert_count", U32, 4), key("llama.expert_used_count", U32, 2)),
        "tensor 'blk.0.ffn_gate_inp.weight' is missing",
    ),
    "a router for other experts": (
        "mixtral",
        shape("blk.1.ffn_gate_inp.weight", 64, 5),
        "tensor 'blk.1.ffn_gate_inp.weight' has shape [64, 5], but must have [64, 4]",
    ),
    "every expert a tensor": (
        "mixtral",
        added("blk.0.ffn_gate.0.weight", 64, 96),
        "holds every expert as a tensor of its own",
    ),
    "a matrix of integers": (
        "llama",
        kind("blk.0.attn_q.weight", 26, 4),
        "tensor 'blk.0.attn_q.weight' is I32, but must be a type that matrices are multiplied in",
    ),
    "a norm that is not float32": (
        "llama",
        kind("blk.0.ffn_norm.weight", 30, 2),
        "tensor 'blk.0.ffn_norm.weight' is BF16, but must be F32",
    ),
    "a bias of another length": (
        "llama",
        added("blk.0.attn_k.bias", 64),
        "tensor 'blk.0.attn_k.bias' has shape [64], but must have [32]",
    ),
    "a tensor that belongs nowhere": (
        "llama",
        added("v.blk.0.attn_q.weight", 64),
        "tensor 'v.blk.0.attn_q.weight' has no place in a llama model of these sizes",
    ),
}

ADAPTER: dict[str, tuple[str, Callable[[Sketch], None], str]] = {
    "no kind of adapter": ("adapter", without("adapter.type"), "key 'adapter.type' is 'None', but must be 'lora'"),
    "another kind of adapter": (
        "adapter",
        key("adapter.type", STRING, "control"),
        "key 'adapter.type' is 'control', but must be 'lora'",
    ),
    "alpha of the wrong type": (
        "adapter",
        key("adapter.lora.alpha", U32, 8),
        "key 'adapter.lora.alpha' is u32, but must be f32",
    ),
    "alpha that is no number": (
        "adapter",
        key("adapter.lora.alpha", F32, math.nan),
        "key 'adapter.lora.alpha' is nan, but must be a finite number",
    ),
    "half a pair": (
        "adapter",
        without("blk.1.attn_q.weight.lora_b"),
        "tensor 'blk.1.attn_q.weight' has only its lora_a",
    ),
    "neither a nor b": ("adapter", added("blk.0.attn_q.weight", 64, 64), "tensor 'blk.0.attn_q.weight' is neither a"),
    "ranks that differ": (
        "adapter",
        shape("blk.0.attn_q.weight.lora_a", 64, 8),
        "tensor 'blk.0.attn_q.weight' has rank 8 in lora_a, but 4 in lora_b",
    ),
    "no matrix": (
        "adapter",
        shape("blk.0.attn_q.weight.lora_a", 64),
        "tensor 'blk.0.attn_q.weight.lora_a' is F32 [64], but must be a matrix",
    ),
    "nothing in it": (
        "adapter",
        lambda file: file.tensors.clear(),
        "the adapter holds no pair of tensors",
    ),
}
LATENT: dict[str, tuple[str, Callable[[Sketch], None], str]] = {
    "a temperature without an original context": (
        "yarn",
        key("mistral3.rope.scaling.original_context_length", U32, 0),
        "key 'mistral3.rope.scaling.original_context_length' is 0, by which positions are divided",
    ),
    "a temperature without a length": (
        "latent",
        without("mistral4.attention.temperature_length"),
        "key 'mistral4.attention.temperature_length' is missing or 0, by which positions are divided",
    ),
    "a gating of an unknown kind": (
        "latent",
        key("mistral4.expert_gating_func", U32, 9),
        "key 'mistral4.expert_gating_func' is 9, but must be 0 to 4",
    ),
    "latent keys and values of several heads": (
        "latent",
        key("mistral4.attention.head_count_kv", U32, 4),
        "key 'mistral4.attention.head_count_kv' is 4, but must be 1",
    ),
    "a latent cache of another width": (
        "latent",
        key("mistral4.attention.key_length", U32, 64),
        "key 'mistral4.attention.key_length' is 64, but a latent vector has 40 columns",
    ),
    "latent keys without values": (
        "latent",
        without("mistral4.attention.value_length_mla"),
        "the keys of a head have 24 columns, its values 0: one of them is missing",
    ),
    "no rank of latent queries": (
        "latent",
        without("mistral4.attention.q_lora_rank"),
        "key 'mistral4.attention.q_lora_rank' is missing",
    ),
    "a head that turns as a whole": (
        "latent_joined",
        key("deepseek2.rope.dimension_count", U32, 24),
        "24 columns of a head of 24 cannot turn with the position",
    ),
    "no shared expert": (
        "latent",
        key("mistral4.expert_shared_count", U32, 0),
        "key 'mistral4.expert_shared_count' is 0, but the graph needs one at least",
    ),
    "a missing half of the keys and values": (
        "latent",
        without("blk.1.attn_v_b.weight"),
        "tensor 'blk.1.attn_v_b.weight' is missing",
    ),
}
EVERY_RULE = {**UNIVERSAL, **VOCABULARY, **LAYERS, **LATENT, **ADAPTER}


@pytest.mark.parametrize("name", EVERY_RULE)
def test_each_rule_has_its_words(name: str, originals: dict[str, bytes], tmp_path: Path) -> None:
    sample, change, words = EVERY_RULE[name]
    file = sketch(originals[sample])
    change(file)
    assert refusal(file, tmp_path / "m.gguf").startswith(words)


@pytest.mark.parametrize("name", ["a part of a split model", "a picture encoder", "every expert a tensor"])
def test_what_breaks_no_rule_but_cannot_run_is_a_model_error(
    name: str, originals: dict[str, bytes], tmp_path: Path
) -> None:
    sample, change, _ = EVERY_RULE[name]
    file = sketch(originals[sample])
    change(file)
    (tmp_path / "m.gguf").write_bytes(file.pack())
    with pytest.raises(ModelError):
        check_model(read_gguf(tmp_path / "m.gguf"))


ACCEPTED: dict[str, tuple[str, Callable[[Sketch], None]]] = {
    "output tied to the embedding": ("llama", without("output.weight")),
    "biases": ("llama", both(added("blk.0.attn_q.bias", 64), added("blk.1.ffn_down.bias", 64))),
    "one list item for each layer": ("llama", array("llama.attention.head_count_kv", U32, [2, 2])),
    "head sizes from the width": (
        "llama",
        both(*(without(f"llama.{name}") for name in ("attention.key_length", "attention.value_length"))),
    ),
    "rope factors": ("llama", added("rope_freqs.weight", 8)),
    "yarn": ("llama", both(key("llama.rope.scaling.type", STRING, "yarn"), key("llama.rope.scaling.factor", F32, 4))),
    "a window on every other layer": (
        "windowed",
        array("granite_swa.attention.sliding_window_pattern", BOOL, [1, 0]),
    ),
    "outer dimensions of one": ("windowed", lambda file: file.tensor("blk.0.attn_sinks.weight").shape.append(1)),
    "an empty piece": ("tekken", piece(261, "")),
    "a chat template that no one renders": (
        "llama",
        key("tokenizer.chat_template", STRING, "{% for x in range(10**9) %}{{ x.__class__ }}{% endfor %}"),
    ),
    "trailing bytes": ("llama", lambda file: setattr(file, "tail", b"more")),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_lawful_variants_are_accepted(name: str, originals: dict[str, bytes], tmp_path: Path) -> None:
    sample, change = ACCEPTED[name]
    file = sketch(originals[sample])
    change(file)
    (tmp_path / "m.gguf").write_bytes(file.pack())
    check_model(read_gguf(tmp_path / "m.gguf"))


def test_other_architectures_need_only_the_universal_rules(originals: dict[str, bytes], tmp_path: Path) -> None:
    file = sketch(originals["llama"])
    file.keys = [
        Key(each.name.replace(b"llama.", b"gemma."), each.kind, each.raw) if each.name.startswith(b"llama.") else each
        for each in file.keys
    ]
    file.set("general.architecture", STRING, "gemma")
    file.drop("token_embd.weight")
    file.drop("gemma.attention.layer_norm_rms_epsilon")
    file.set("tokenizer.ggml.model", STRING, "t5")
    (tmp_path / "m.gguf").write_bytes(file.pack())
    check_model(read_gguf(tmp_path / "m.gguf"))
    file.set("gemma.block_count", U32, 513)
    assert refusal(file, tmp_path / "m.gguf") == "key 'gemma.block_count' is 513, but must be 1 to 512"


def test_an_adapter_fits_its_base_only(originals: dict[str, bytes], tmp_path: Path) -> None:
    for name in ("llama", "windowed", "adapter"):
        (tmp_path / f"{name}.gguf").write_bytes(originals[name])
    adapter = read_gguf(tmp_path / "adapter.gguf")
    check_adapter_fits(adapter, read_gguf(tmp_path / "llama.gguf"))
    check_adapter_fits(adapter, read_gguf(tmp_path / "windowed.gguf"))  # the architecture is only a tag
    other = sketch(originals["adapter"])
    other.tensors[0].name = b"blk.7.attn_q.weight.lora_a"
    other.tensors[1].name = b"blk.7.attn_q.weight.lora_b"
    (tmp_path / "other.gguf").write_bytes(other.pack())
    with pytest.raises(ModelError, match=r"tensor 'blk.7.attn_q.weight' is not in the model") as caught:
        check_adapter_fits(read_gguf(tmp_path / "other.gguf"), read_gguf(tmp_path / "llama.gguf"))
    assert caught.value.hint == "the adapter was made for another model than llama.gguf"
    wide = sketch(originals["adapter"])
    shape("blk.0.attn_q.weight.lora_b", 4, 96)(wide)
    (tmp_path / "wide.gguf").write_bytes(wide.pack())
    words = r"tensor 'blk.0.attn_q.weight' changes \[64, 96\], but the model has \[64, 64\]"
    with pytest.raises(ModelError, match=words):
        check_adapter_fits(read_gguf(tmp_path / "wide.gguf"), read_gguf(tmp_path / "llama.gguf"))


def test_a_wrong_key_named_by_a_hostile_architecture_cannot_steer_a_terminal(
    originals: dict[str, bytes], tmp_path: Path
) -> None:
    file = sketch(originals["llama"])
    file.set("general.architecture", STRING, "\x1b[2J")
    assert refusal(file, tmp_path / "m.gguf").isprintable()


class TestWithLlamaCpp:
    """The rules are what llama.cpp dies on, no more than it must be: asked of llama.cpp itself, in a child."""

    @pytest.mark.slow
    def test_samples_and_lawful_variants_decode(self, originals: dict[str, bytes], tmp_path: Path) -> None:
        lines = []
        for place, (sample, change) in enumerate(
            [*((name, lambda _: None) for name in samples.MODELS), *ACCEPTED.values()]
        ):
            file = sketch(originals[sample])
            change(file)
            path = tmp_path / f"{place}.gguf"
            path.write_bytes(file.pack())
            lines.append(str(path))
        assert results(lines) == dict.fromkeys(lines, "decoded 0")

    @pytest.mark.slow
    def test_the_engine_would_have_died(self, originals: dict[str, bytes], tmp_path: Path) -> None:
        """Some of the refused files, shown to llama.cpp after all: the tests below could fail."""
        deadly = (
            "block_count 513",
            "no expert used",
            "unknown rope scaling",
            "a piece twice",
            "a byte without a piece",
            "a pattern without a window",
            "a rope pattern without a layer",
            "a negative epsilon",
            "a matrix of integers",
            "sinks of another type",
            "a temperature without a length",
            "a gating of an unknown kind",
            "a head that turns as a whole",
        )
        lines = []
        for place, name in enumerate(deadly):
            sample, change, _ = EVERY_RULE[name]
            file = sketch(originals[sample])
            change(file)
            path = tmp_path / f"{place}.gguf"
            path.write_bytes(file.pack())
            lines.append(str(path))
        outcomes = results(lines)
        assert {name: outcomes[line][:6] for name, line in zip(deadly, lines, strict=True)} == dict.fromkeys(
            deadly, "killed"
        )

    @pytest.mark.slow
    @pytest.mark.parametrize(("kind", "count"), [("models", 300), ("pictures", 100), ("embeddings", 100)])
    def test_a_mutant_is_refused_in_one_sentence_or_does_not_kill_it(
        self, kind: str, count: int, tmp_path: Path
    ) -> None:
        """Seeded mutants of every sample: no other exception, under two seconds each, and some of them are read."""
        trial = try_mutants(tmp_path, 20_000 if FULL else count, seed=21, kind=kind)
        print(trial)
        assert trial.faults == []
        assert trial.worst < 2
        assert trial.accepted > trial.refused / 10  # else the mutants are too wild to try the rules


def test_sketches_pack_to_the_bytes_they_were_read_from(originals: dict[str, bytes]) -> None:
    assert {name: sketch(raw).pack() == raw for name, raw in originals.items()} == dict.fromkeys(originals, True)
    assert encode(ARRAY, (STRING, ["a"])) == b"\x08\0\0\0" + b"\1" + bytes(7) + b"\1" + bytes(7) + b"a"
