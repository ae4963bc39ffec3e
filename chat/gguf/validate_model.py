"""Refuse a well-framed GGUF whose values llama.cpp would abort on or misread. Knows keys and limits, not how files lie.

The rules here hold for every architecture: llama.cpp reads these keys for all of them, and an assertion of its that
fails ends the process (llama-model.cpp, `load_hparams`). Rules of single architectures stand in `gguf_layers`, of
vocabularies in `gguf_vocabulary`, of LoRA files in `gguf_adapter`.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from chat.errors import ModelError
from chat.gguf.cursor import shown
from chat.gguf.keys import NOTE_KEYS, check_note
from chat.gguf.validate_layers import LAYERED, check_layers
from chat.gguf.validate_lora import check_adapter
from chat.gguf.validate_vocabulary import check_vocabulary

if TYPE_CHECKING:
    from chat.gguf.reader import GgufFile

MAX_LAYERS = 512  # LLAMA_MAX_LAYERS
MAX_EXPERTS = 1024  # LLAMA_MAX_EXPERTS
MAX_CONTEXT = 1 << 30  # llama.cpp rounds it up in 32 bits
ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")
PER_LAYER = ("u32", "[u32]", "[i32]")

GENERAL_KEYS: dict[str, tuple[str, ...]] = {
    "general.architecture": ("str",),
    "general.type": ("str",),
    "general.name": ("str",),
    "general.file_type": ("u32",),
    "general.tensor_extra.name": ("[str]",),
    "general.tensor_extra.prec_a4": ("[bool]",),
    "split.no": ("u16",),
    "split.count": ("u16",),
    "split.tensors.count": ("i32",),
    "tokenizer.chat_template": ("str",),
    "mistral_chat.prompt_format": ("str",),
    "mistral_chat.source": ("str",),
    "mistral_chat.source_sha256": ("str",),
    **NOTE_KEYS,
}

# below `{architecture}.`
ARCHITECTURE_KEYS: dict[str, tuple[str, ...]] = {
    "vocab_size": ("u32",),
    "context_length": ("u32",),
    "embedding_length": ("u32",),
    "embedding_length_out": ("u32",),
    "block_count": ("u32",),
    "nextn_predict_layers": ("u32",),
    "feed_forward_length": PER_LAYER,
    "pooling_type": ("u32",),
    "classifier.pooling_type": ("u32",),
    "classifier.output_labels": ("[str]",),
    "expert_count": ("u32",),
    "expert_used_count": PER_LAYER,
    "expert_group_count": ("u32",),
    "expert_group_used_count": ("u32",),
    "attention.head_count": PER_LAYER,
    "attention.head_count_kv": PER_LAYER,
    "attention.key_length": ("u32",),
    "attention.value_length": ("u32",),
    "attention.key_length_swa": ("u32",),
    "attention.value_length_swa": ("u32",),
    "attention.causal": ("bool",),
    "rope.dimension_count": ("u32",),
    "rope.dimension_count_swa": ("u32",),
    "rope.freq_base": ("f32",),
    "rope.scale_linear": ("f32",),
    "rope.scaling.type": ("str",),
    "rope.scaling.factor": ("f32",),
    "rope.scaling.alpha": ("f32",),
    "rope.scaling.attn_factor": ("f32",),
    "rope.scaling.finetuned": ("bool",),
    "rope.scaling.original_context_length": ("u32",),
}
FINITE_KEYS = ("rope.freq_base", "rope.scale_linear", "rope.scaling.factor", "rope.scaling.attn_factor")


def check_model(file: GgufFile) -> None:
    """Refuse a model or an adapter that llama.cpp would die on, misread or call incomplete.

    Raises:
        DataError: a rule is broken; the message names the file, the key or tensor, the value and the limit.
        ModelError: the file breaks no rule but cannot be used: one part of a split model, a picture encoder.
    """
    check_types(file, "", GENERAL_KEYS)
    name = file.architecture
    if not name:
        raise file.fault("key 'general.architecture' is missing")
    if file.metadata.get("general.type") == "adapter":
        check_adapter(file)
        return
    _check_whole(file)
    check_types(file, f"{name}.", ARCHITECTURE_KEYS)
    _check_sizes(file)
    check_note(file)
    _check_experts(file)
    _check_rope(file)
    check_vocabulary(file, strict=name in LAYERED)
    if name in LAYERED:
        check_layers(file)


def check_types(file: GgufFile, prefix: str, expected: dict[str, tuple[str, ...]]) -> None:
    """Refuse keys of another value type than llama.cpp asks for: it throws, or asserts and dies."""
    for name, kinds in expected.items():
        found = file.types.get(prefix + name)
        if found is not None and found not in kinds:
            raise file.fault(f"key '{prefix}{name}' is {found}, but must be {' or '.join(kinds)}")


def _check_whole(file: GgufFile) -> None:
    parts = file.metadata.get("split.count", 0)
    if parts > 1:
        hint = "join the parts first: `llama-gguf-split --merge FIRST-PART OUT`"
        raise ModelError(f"{file.path}: is one of {parts} parts of a split model", hint=hint)
    if file.architecture == "clip" or file.metadata.get("general.type") == "mmproj":
        raise ModelError(f"{file.path}: is a picture encoder, not a model that answers")


def _check_sizes(file: GgufFile) -> None:
    name = file.architecture
    for key, least, most in (
        ("context_length", 1, MAX_CONTEXT),
        ("embedding_length", 1, MAX_CONTEXT),
        ("block_count", 1, MAX_LAYERS),
    ):
        value = file.key(key)
        if value is None:
            raise file.fault(f"key {shown(f'{name}.{key}')} is missing")
        if not least <= value <= most:
            raise file.fault(f"key {shown(f'{name}.{key}')} is {value}, but must be {least} to {most}")
    layers = file.key("block_count")
    if file.key("nextn_predict_layers", 0) > layers:
        raise file.fault(f"key '{name}.nextn_predict_layers' is more than the {layers} layers")
    for key in [key for key, kinds in ARCHITECTURE_KEYS.items() if kinds == PER_LAYER]:
        value = file.key(key)
        if isinstance(value, tuple) and len(value) != layers:
            raise file.fault(f"key '{name}.{key}' has {len(value)} items for {layers} layers")
        if isinstance(value, tuple) and min(value) < 0:
            raise file.fault(f"key '{name}.{key}' holds {min(value)}, but no count is negative")


def _check_experts(file: GgufFile) -> None:
    experts = file.key("expert_count", 0)
    used: Any = file.key("expert_used_count", 0)
    used = max(used) if isinstance(used, tuple) else used
    groups, groups_used = file.key("expert_group_count", 0), file.key("expert_group_used_count", 0)
    if experts > MAX_EXPERTS:
        raise file.fault(f"key '{file.architecture}.expert_count' is {experts}, but the limit is {MAX_EXPERTS}")
    if used > experts or (experts and not used):
        raise file.fault(f"key '{file.architecture}.expert_used_count' is {used} of {experts} experts")
    if groups > 1:
        even = groups < experts and experts % groups == 0
        if not even or not 0 < groups_used < groups:
            raise file.fault(f"{experts} experts cannot form {groups} groups of which {groups_used} are used")
    elif groups >= max(experts, 1):
        raise file.fault(f"{experts} experts cannot form {groups} groups")


def _check_rope(file: GgufFile) -> None:
    scaling = file.key("rope.scaling.type", "linear")
    if scaling not in ROPE_SCALINGS:
        known = ", ".join(ROPE_SCALINGS)
        raise file.fault(f"key '{file.architecture}.rope.scaling.type' is {shown(scaling)}, but must be one of {known}")
    for key in FINITE_KEYS:
        value = file.key(key, 1.0)
        if not isfinite(value) or value < 0:
            raise file.fault(f"key '{file.architecture}.{key}' is {value}, but must be a number from 0 on")
