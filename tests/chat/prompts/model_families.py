"""Tiny models of other families, as GGUF: their tensors, vocabularies and chat templates, and one answer they all give.

The weights make a chain: whatever comes last, the likeliest next tokens are `h`, `i` and the family's end of turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from tests.chat.tiny_models import pieces, write_out

Array = NDArray[np.float32]

SIZE, HEADS, HEAD, FFN, CONTEXT = 512, 8, 64, 64, 4096  # SIZE of the hidden state and of the vocabulary
NORMAL, CONTROL = 1, 3


@dataclass(frozen=True)
class Family:
    """What tells one family from others; `specials` are its first control pieces after BOS and EOS."""

    architecture: str
    tokenizer: str  # gpt2 | llama
    pre: str
    bos: str
    eos: str
    specials: tuple[str, ...]
    end: str  # of a turn
    template: str  # the family's own, or a short form of it
    prompt: str  # what becomes of the system prompt `{S}` and the question `{U}`


FAMILIES = {
    "llama 2": Family(
        "llama", "llama", "default", "<s>", "</s>", (), "</s>",
        "{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set system = messages[0]['content'] %}"
        "{% else %}{% set rest = messages %}{% set system = false %}{% endif %}{% for message in rest %}"
        "{% if loop.index0 == 0 and system != false %}"
        "{% set content = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + message['content'] %}"
        "{% else %}{% set content = message['content'] %}{% endif %}"
        "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
        "{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
        "<s> [INST] <<SYS>>\n{S}\n<</SYS>>\n\n{U} [/INST]",
    ),
    "llama 3": Family(
        "llama", "gpt2", "llama-bpe", "<|begin_of_text|>", "<|end_of_text|>",
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), "<|eot_id|>",
        "{% set loop_messages = messages %}{% for message in loop_messages %}"
        "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim"
        " + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
        "{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{S}<|eot_id|><|start_header_id|>user"
        "<|end_header_id|>\n\n{U}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "qwen 2": Family(
        "qwen2", "gpt2", "qwen2", "<|endoftext|>", "<|endoftext|>", ("<|im_start|>", "<|im_end|>"), "<|im_end|>",
        "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
        "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
        "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
        "<|im_start|>system\n{S}<|im_end|>\n<|im_start|>user\n{U}<|im_end|>\n<|im_start|>assistant\n",
    ),
    "qwen 3": Family(
        "qwen3", "gpt2", "qwen2", "<|endoftext|>", "<|im_end|>", ("<|im_start|>", "<|im_end|>"), "<|im_end|>",
        "{%- for message in messages %}\n"
        "    {%- set content = message.content.split('</think>')[-1].lstrip('\n') %}\n"
        "    {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}\n{%- endfor %}\n"
        "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\n' }}\n"
        "    {%- if enable_thinking is defined and enable_thinking is false %}\n"
        "        {{- '<think>\n\n</think>\n\n' }}\n    {%- endif %}\n{%- endif %}",
        "<|im_start|>system\n{S}<|im_end|>\n<|im_start|>user\n{U}<|im_end|>\n<|im_start|>assistant\n",
    ),
    "gemma 3": Family(
        "gemma3", "llama", "default", "<bos>", "<eos>", ("<start_of_turn>", "<end_of_turn>"), "<end_of_turn>",
        "{{ bos_token }}\n{%- if messages[0]['role'] == 'system' -%}\n"
        "    {%- set first = messages[0]['content'] + '\n\n' -%}\n    {%- set rest = messages[1:] -%}\n"
        "{%- else -%}\n    {%- set first = '' -%}\n    {%- set rest = messages -%}\n{%- endif -%}\n"
        "{%- for message in rest -%}\n    {%- set role = 'model' if message['role'] == 'assistant' else 'user' -%}\n"
        "    {{ '<start_of_turn>' + role + '\n' + (first if loop.first else '') }}\n"
        "    {%- if message['content'] is string -%}\n        {{ message['content'] | trim }}\n    {%- endif -%}\n"
        "    {{ '<end_of_turn>\n' }}\n{%- endfor -%}\n"
        "{%- if add_generation_prompt -%}\n    {{'<start_of_turn>model\n'}}\n{%- endif -%}",
        "<bos><start_of_turn>user\n{S}\n\n{U}<end_of_turn>\n<start_of_turn>model\n",
    ),
    "phi 3": Family(
        "phi3", "llama", "default", "<s>", "<|endoftext|>", ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        "<|end|>",
        "{{ bos_token }}{% for message in messages %}"
        "{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
        "<s><|system|>\n{S}<|end|>\n<|user|>\n{U}<|end|>\n<|assistant|>\n",
    ),
    "deepseek r1": Family(
        "qwen2", "gpt2", "deepseek-r1-qwen", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>",
        ("<｜User｜>", "<｜Assistant｜>"), "<｜end▁of▁sentence｜>",
        "{% set ns = namespace(system='') %}{% for message in messages %}{% if message['role'] == 'system' %}"
        "{% set ns.system = message['content'] %}{% endif %}{% endfor %}{{ bos_token }}{{ ns.system }}"
        "{% for message in messages %}{% if message['role'] == 'user' %}{{ '<｜User｜>' + message['content'] }}"
        "{% elif message['role'] == 'assistant' %}"
        "{{ '<｜Assistant｜>' + message['content'] + '<｜end▁of▁sentence｜>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}",
        "<｜begin▁of▁sentence｜>{S}<｜User｜>{U}<｜Assistant｜>",
    ),
}  # fmt: skip


def vocabulary(family: Family) -> tuple[list[bytes], list[float], list[int], list[str]]:
    """Pieces, scores, types and merges; the first three are unknown, BOS and EOS."""
    if family.tokenizer == "llama":
        names, scores, kinds = pieces(SIZE - len(family.specials))
        names[1:3] = [family.bos.encode(), family.eos.encode()]
        merges: list[str] = []
    else:
        letters = byte_letters()
        firsts = [each for each in dict.fromkeys(("<unk>", family.bos, family.eos)) if each not in family.specials]
        merges = ["h e", "l l", "Ġ t"]
        words = [*letters, *(merge.replace(" ", "") for merge in merges)]
        fillers = [f"zq{at}" for at in range(SIZE - len(firsts) - len(words) - len(family.specials))]
        names = [each.encode() for each in (*firsts, *words, *fillers)]
        scores = [0.0] * len(names)
        kinds = [CONTROL] * len(firsts) + [NORMAL] * (len(names) - len(firsts))
    names += [name.encode() for name in family.specials]
    scores += [0.0] * len(family.specials)
    kinds += [CONTROL] * len(family.specials)
    return names, scores, kinds, merges


def byte_letters() -> list[str]:
    """The letters that byte-level vocabularies write bytes with."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    moved = {byte: 256 + at for at, byte in enumerate(byte for byte in range(256) if byte not in plain)}
    return [chr(moved.get(byte, byte)) for byte in range(256)]


def weights(family: Family, names: list[bytes]) -> dict[str, Array]:
    """One layer that adds nothing, between one-hot embeddings and an output that says what follows each token."""
    first, second, end = (names.index(name.encode()) for name in ("h", "i", family.end))
    output = np.zeros((SIZE, SIZE), np.float32)
    output[first] = 1
    output[first, [first, second]] = 0
    output[second, first] = output[end, second] = 1
    random = np.random.default_rng(3)

    def matrix(rows: int, columns: int = SIZE) -> Array:
        return random.standard_normal((rows, columns), np.float32) / np.float32(columns)

    wide = HEADS * HEAD
    tensors = {"token_embd.weight": np.eye(SIZE, dtype=np.float32), "output.weight": output}
    tensors |= {"output_norm.weight": np.ones(SIZE, np.float32)}
    layer = {"attn_norm.weight": np.ones(SIZE, np.float32), "ffn_norm.weight": np.ones(SIZE, np.float32)}
    layer |= {"attn_output.weight": np.zeros((SIZE, wide), np.float32)}
    layer |= {"ffn_down.weight": np.zeros((SIZE, FFN), np.float32)}
    if family.architecture == "phi3":
        layer |= {"attn_qkv.weight": matrix(3 * wide), "ffn_up.weight": matrix(2 * FFN)}
    else:
        layer |= {f"attn_{each}.weight": matrix(wide) for each in "qkv"}
        layer |= {"ffn_gate.weight": matrix(FFN), "ffn_up.weight": matrix(FFN)}
    if family.architecture == "qwen2":
        layer |= {f"attn_{each}.bias": matrix(1, wide)[0] for each in "qkv"}
    if family.architecture in ("qwen3", "gemma3"):
        layer |= {f"attn_{each}_norm.weight": np.ones(HEAD, np.float32) for each in "qk"}
    if family.architecture == "gemma3":
        layer |= {f"post_{each}_norm.weight": np.ones(SIZE, np.float32) for each in ("attention", "ffw")}
    return tensors | {f"blk.0.{name}": data for name, data in layer.items()}


def write_family(path: Path, family: Family, template: str | None = None) -> Path:
    """Write a model of a family; `template` instead of its own chat template."""
    out = gguf.GGUFWriter(path, family.architecture)
    out.add_block_count(1)
    out.add_context_length(CONTEXT)
    out.add_embedding_length(SIZE)
    out.add_feed_forward_length(FFN)
    out.add_head_count(HEADS)
    out.add_head_count_kv(HEADS)
    out.add_key_length(HEAD)
    out.add_value_length(HEAD)
    out.add_rope_dimension_count(HEAD)
    out.add_rope_freq_base(1e4)
    out.add_layer_norm_rms_eps(1e-6)
    out.add_vocab_size(SIZE)
    names, scores, kinds, merges = vocabulary(family)
    out.add_tokenizer_model(family.tokenizer)
    out.add_tokenizer_pre(family.pre)
    out.add_token_list(names)
    out.add_token_scores(scores)
    out.add_token_types(kinds)
    if merges:
        out.add_token_merges(merges)
    out.add_bos_token_id(names.index(family.bos.encode()))
    out.add_eos_token_id(names.index(family.eos.encode()))
    if family.architecture in ("gemma3", "phi3"):
        out.add_add_space_prefix(False)
    if family.architecture.startswith("qwen"):
        out.add_add_bos_token("bos_token" in family.template)
    out.add_chat_template(family.template if template is None else template)
    out.add_file_type(0)
    return write_out(out, weights(family, names), path)
