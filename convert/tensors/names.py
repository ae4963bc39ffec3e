"""Tables from every spelling of a tensor's name to its name in the GGUF."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from chat.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping

# How the rows of a tensor become rows of the GGUF's:
#   plain          as they are
#   rotary         undo Hugging Face's half-split order of query and key rows
#   experts        all experts of a layer one below the other
#   transposed     all experts one below the other, each with rows and columns exchanged
#   gate_and_up    all experts one below the other, each one's gate above its up
#   ignored        not part of the model's function
Form = Literal["plain", "rotary", "experts", "transposed", "gate_and_up", "ignored"]

# Of latent attention, what makes keys and values of the latent vector: a head's keys above its values. The GGUF has
# them apart: `attn_k_b`, each head transposed, and `attn_v_b`.
KEYS_AND_VALUES = "attn_kv_b"
BIAS = ".bias"


@dataclass(frozen=True)
class Meaning:
    """What one tensor of a checkpoint is; `expert` is None for what is not one expert's own.

    Of the form `gate_and_up`, `part` names the gate.
    """

    part: str  # the GGUF's name without `blk.N.` and `.weight`, but with `.bias`
    form: Form
    layer: int | None = None
    expert: int | None = None

    @property
    def gguf_name(self) -> str:
        """The tensor it becomes, or becomes a part of."""
        own = self.part if self.part.endswith(BIAS) else f"{self.part}.weight"
        return own if self.layer is None else f"blk.{self.layer}.{own}"


# `#` stands for the layer, `@` for the expert.
HUGGING_FACE: Mapping[str, tuple[str, Form]] = MappingProxyType(
    {
        "model.embed_tokens.weight": ("token_embd", "plain"),
        "model.norm.weight": ("output_norm", "plain"),
        "lm_head.weight": ("output", "plain"),
        "model.layers.#.input_layernorm.weight": ("attn_norm", "plain"),
        "model.layers.#.post_attention_layernorm.weight": ("ffn_norm", "plain"),
        "model.layers.#.self_attn.q_proj.weight": ("attn_q", "rotary"),
        "model.layers.#.self_attn.k_proj.weight": ("attn_k", "rotary"),
        "model.layers.#.self_attn.v_proj.weight": ("attn_v", "plain"),
        "model.layers.#.self_attn.o_proj.weight": ("attn_output", "plain"),
        "model.layers.#.self_attn.q_proj.bias": ("attn_q.bias", "rotary"),
        "model.layers.#.self_attn.k_proj.bias": ("attn_k.bias", "rotary"),
        "model.layers.#.self_attn.v_proj.bias": ("attn_v.bias", "plain"),
        "model.layers.#.self_attn.o_proj.bias": ("attn_output.bias", "plain"),
        "model.layers.#.self_attn.q_norm.weight": ("attn_q_norm", "plain"),
        "model.layers.#.self_attn.k_norm.weight": ("attn_k_norm", "plain"),
        "model.layers.#.self_attn.q_a_proj.weight": ("attn_q_a", "plain"),
        "model.layers.#.self_attn.q_a_layernorm.weight": ("attn_q_a_norm", "plain"),
        "model.layers.#.self_attn.q_b_proj.weight": ("attn_q_b", "plain"),
        "model.layers.#.self_attn.kv_a_proj_with_mqa.weight": ("attn_kv_a_mqa", "plain"),
        "model.layers.#.self_attn.kv_a_layernorm.weight": ("attn_kv_a_norm", "plain"),
        "model.layers.#.self_attn.kv_b_proj.weight": (KEYS_AND_VALUES, "plain"),
        "model.layers.#.mlp.gate_proj.weight": ("ffn_gate", "plain"),
        "model.layers.#.mlp.down_proj.weight": ("ffn_down", "plain"),
        "model.layers.#.mlp.up_proj.weight": ("ffn_up", "plain"),
        "model.layers.#.mlp.gate_proj.bias": ("ffn_gate.bias", "plain"),
        "model.layers.#.mlp.down_proj.bias": ("ffn_down.bias", "plain"),
        "model.layers.#.mlp.up_proj.bias": ("ffn_up.bias", "plain"),
        "model.layers.#.block_sparse_moe.gate.weight": ("ffn_gate_inp", "plain"),
        "model.layers.#.block_sparse_moe.experts.@.w1.weight": ("ffn_gate_exps", "plain"),
        "model.layers.#.block_sparse_moe.experts.@.w2.weight": ("ffn_down_exps", "plain"),
        "model.layers.#.block_sparse_moe.experts.@.w3.weight": ("ffn_up_exps", "plain"),
        "model.layers.#.mlp.shared_experts.gate_proj.weight": ("ffn_gate_shexp", "plain"),
        "model.layers.#.mlp.shared_experts.down_proj.weight": ("ffn_down_shexp", "plain"),
        "model.layers.#.mlp.shared_experts.up_proj.weight": ("ffn_up_shexp", "plain"),
        "model.layers.#.mlp.experts.@.gate_proj.weight": ("ffn_gate_exps", "plain"),
        "model.layers.#.mlp.experts.@.down_proj.weight": ("ffn_down_exps", "plain"),
        "model.layers.#.mlp.experts.@.up_proj.weight": ("ffn_up_exps", "plain"),
        # as transformers 5 keeps them in memory, and may save them
        "model.layers.#.mlp.gate.weight": ("ffn_gate_inp", "plain"),
        "model.layers.#.mlp.experts.gate_up_proj": ("ffn_gate_exps", "gate_and_up"),
        "model.layers.#.mlp.experts.down_proj": ("ffn_down_exps", "experts"),
    }
)
ORIGINAL: Mapping[str, tuple[str, Form]] = MappingProxyType(
    {
        "tok_embeddings.weight": ("token_embd", "plain"),
        "norm.weight": ("output_norm", "plain"),
        "output.weight": ("output", "plain"),
        "layers.#.attention_norm.weight": ("attn_norm", "plain"),
        "layers.#.ffn_norm.weight": ("ffn_norm", "plain"),
        "layers.#.attention.wq.weight": ("attn_q", "plain"),
        "layers.#.attention.wk.weight": ("attn_k", "plain"),
        "layers.#.attention.wv.weight": ("attn_v", "plain"),
        "layers.#.attention.wo.weight": ("attn_output", "plain"),
        "layers.#.attention.wq_a.weight": ("attn_q_a", "plain"),
        "layers.#.attention.q_a_norm.weight": ("attn_q_a_norm", "plain"),
        "layers.#.attention.wq_b.weight": ("attn_q_b", "plain"),
        "layers.#.attention.wkv_a_with_mqa.weight": ("attn_kv_a_mqa", "plain"),
        "layers.#.attention.kv_a_norm.weight": ("attn_kv_a_norm", "plain"),
        "layers.#.attention.wkv_b.weight": (KEYS_AND_VALUES, "plain"),
        "layers.#.feed_forward.w1.weight": ("ffn_gate", "plain"),
        "layers.#.feed_forward.w2.weight": ("ffn_down", "plain"),
        "layers.#.feed_forward.w3.weight": ("ffn_up", "plain"),
        "layers.#.feed_forward.gate.weight": ("ffn_gate_inp", "plain"),
        "layers.#.feed_forward.experts.@.w1.weight": ("ffn_gate_exps", "plain"),
        "layers.#.feed_forward.experts.@.w2.weight": ("ffn_down_exps", "plain"),
        "layers.#.feed_forward.experts.@.w3.weight": ("ffn_up_exps", "plain"),
        "layers.#.gate.weight": ("ffn_gate_inp", "plain"),
        "layers.#.experts.@.w1.weight": ("ffn_gate_exps", "plain"),
        "layers.#.experts.@.w2.weight": ("ffn_down_exps", "plain"),
        "layers.#.experts.@.w3.weight": ("ffn_up_exps", "plain"),
        "layers.#.shared_experts.w1.weight": ("ffn_gate_shexp", "plain"),
        "layers.#.shared_experts.w2.weight": ("ffn_down_shexp", "plain"),
        "layers.#.shared_experts.w3.weight": ("ffn_up_shexp", "plain"),
        "layers.#.block_sparse_moe.gate.weight": ("ffn_gate_inp", "plain"),
        "layers.#.block_sparse_moe.experts.@.w1.weight": ("ffn_gate_exps", "plain"),
        "layers.#.block_sparse_moe.experts.@.w2.weight": ("ffn_down_exps", "plain"),
        "layers.#.block_sparse_moe.experts.@.w3.weight": ("ffn_up_exps", "plain"),
        # the first Mixtral: every file has some of the layers, and an expert's rows are always its inner width
        "layers.#.block_sparse_moe.w1": ("ffn_gate_exps", "experts"),
        "layers.#.block_sparse_moe.w2": ("ffn_down_exps", "transposed"),
        "layers.#.block_sparse_moe.w3": ("ffn_up_exps", "experts"),
    }
)
SPELLINGS: Mapping[str, tuple[str, Form]] = MappingProxyType({**HUGGING_FACE, **ORIGINAL})

# what older versions of transformers and its relatives saved of the rotary positions, which follow from the settings
_ROTARY_BUFFERS = re.compile(
    r"(model\.)?(layers\.\d{1,4}\.(self_attn|attention)\.)?"
    r"(rotary_emb\.(inv_freq|original_inv_freq|cos_cached|sin_cached)|rope\.freqs)"
)
_UNMERGED = re.compile(r"\.(base_layer|lora_(embedding_)?[AB]|modules_to_save|original_module)\.")
MERGE_FIRST = "merge it with PEFT's `merge_and_unload()`, save the model and convert that"
_LAYER = re.compile(r"(^|\.)layers\.(\d{1,4})\.")
_EXPERT = re.compile(r"\.experts\.(\d{1,3})\.")


def is_known(name: str) -> bool:
    """Whether a tensor has a meaning."""
    try:
        meaning_of(name)
    except DataError:
        return False
    return True


def meaning_of(name: str) -> Meaning:
    """Say what a tensor is.

    Raises:
        DataError: no spelling matches.
    """
    if _ROTARY_BUFFERS.fullmatch(name):
        return Meaning("", "ignored")
    layer, expert = _LAYER.search(name), _EXPERT.search(name)
    template = _EXPERT.sub(".experts.@.", _LAYER.sub(r"\1layers.#.", name, count=1), count=1)
    if template not in SPELLINGS or "#" in name or "@" in name:
        if _UNMERGED.search(name):
            raise DataError(f"tensor `{name[:120]}` is of a model with an adapter in it", hint=MERGE_FIRST)
        raise DataError(
            f"unknown tensor `{name[:120]}`", hint="the checkpoint is of a model of another kind, or of a newer one"
        )
    part, form = SPELLINGS[template]
    return Meaning(part, form, int(layer[2]) if layer else None, int(expert[1]) if expert else None)
