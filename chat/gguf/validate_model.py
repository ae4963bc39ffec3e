"""Refuse a GGUF whose values llama.cpp would abort on or misread.

The rules here hold for every architecture: llama.cpp reads these keys for all of them, and a failed assertion ends the
process (llama-model.cpp, `load_hparams`). `validate_layers` has the rules of single architectures.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from chat.errors import ModelError
from chat.gguf.cursor import shown
from chat.gguf.keys import (
    ENCODER_ARCHITECTURES,
    KNOWN_ARCHITECTURES,
    LATENT_ARCHITECTURES,
    PICTURE_ENCODER_FILE,
    GeneralKey,
    MistralChatKey,
    ModelKey,
    SplitKey,
    TokenizerKey,
)
from chat.gguf.validate_latent import check_latent_layers
from chat.gguf.validate_layers import check_layers
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
    GeneralKey.ARCHITECTURE: ("str",),
    GeneralKey.TYPE: ("str",),
    GeneralKey.NAME: ("str",),
    GeneralKey.FILE_TYPE: ("u32",),
    GeneralKey.TENSOR_EXTRA_NAME: ("[str]",),
    GeneralKey.TENSOR_EXTRA_PREC_A4: ("[bool]",),
    SplitKey.NUMBER: ("u16",),
    SplitKey.COUNT: ("u16",),
    SplitKey.TENSOR_COUNT: ("i32",),
    TokenizerKey.CHAT_TEMPLATE: ("str",),
    MistralChatKey.PROMPT_FORMAT: ("str",),
    MistralChatKey.SOURCE: ("str",),
    MistralChatKey.SOURCE_SHA256: ("str",),
    MistralChatKey.SLIDING_WINDOW: ("u32",),
    MistralChatKey.SLIDING_WINDOW_PATTERN: ("[bool]",),
}

# below `{architecture}.`
ARCHITECTURE_KEYS: dict[str, tuple[str, ...]] = {
    ModelKey.VOCABULARY_SIZE: ("u32",),
    ModelKey.CONTEXT_LENGTH: ("u32",),
    ModelKey.EMBEDDING_LENGTH: ("u32",),
    ModelKey.EMBEDDING_LENGTH_OUT: ("u32",),
    ModelKey.BLOCK_COUNT: ("u32",),
    ModelKey.NEXTN_PREDICT_LAYERS: ("u32",),
    ModelKey.FEED_FORWARD_LENGTH: PER_LAYER,
    ModelKey.POOLING_TYPE: ("u32",),
    ModelKey.CLASSIFIER_POOLING_TYPE: ("u32",),
    ModelKey.CLASSIFIER_OUTPUT_LABELS: ("[str]",),
    ModelKey.EXPERT_COUNT: ("u32",),
    ModelKey.EXPERT_USED_COUNT: PER_LAYER,
    ModelKey.EXPERT_GROUP_COUNT: ("u32",),
    ModelKey.EXPERT_GROUP_USED_COUNT: ("u32",),
    ModelKey.HEAD_COUNT: PER_LAYER,
    ModelKey.HEAD_COUNT_KV: PER_LAYER,
    ModelKey.KEY_LENGTH: ("u32",),
    ModelKey.VALUE_LENGTH: ("u32",),
    ModelKey.KEY_LENGTH_SWA: ("u32",),
    ModelKey.VALUE_LENGTH_SWA: ("u32",),
    ModelKey.CAUSAL: ("bool",),
    ModelKey.ROPE_DIMENSION_COUNT: ("u32",),
    ModelKey.ROPE_DIMENSION_COUNT_SWA: ("u32",),
    ModelKey.ROPE_FREQ_BASE: ("f32",),
    ModelKey.ROPE_SCALE_LINEAR: ("f32",),
    ModelKey.ROPE_SCALING_TYPE: ("str",),
    ModelKey.ROPE_SCALING_FACTOR: ("f32",),
    ModelKey.ROPE_SCALING_ALPHA: ("f32",),
    ModelKey.ROPE_SCALING_ATTENTION_FACTOR: ("f32",),
    ModelKey.ROPE_SCALING_FINETUNED: ("bool",),
    ModelKey.ROPE_SCALING_ORIGINAL_CONTEXT_LENGTH: ("u32",),
}
FINITE_KEYS = (
    ModelKey.ROPE_FREQ_BASE,
    ModelKey.ROPE_SCALE_LINEAR,
    ModelKey.ROPE_SCALING_FACTOR,
    ModelKey.ROPE_SCALING_ATTENTION_FACTOR,
)


def check_model(file: GgufFile) -> None:
    """Refuse a model or an adapter that llama.cpp would abort on, misread or call incomplete.

    Raises:
        DataError: a rule is broken; the message names the file, the key or tensor, the value and the limit.
        ModelError: the file breaks no rule but cannot be used: one part of a split model, a picture encoder, an
            embedding model.
    """
    if file.architecture in ENCODER_ARCHITECTURES:
        raise ModelError(
            f"{file.path}: is an embedding model, not a model that answers",
            hint="`-f FILE --find --embedding-model MODEL` finds passages with it",
        )
    check_file(file)


def check_file(file: GgufFile) -> None:
    """Refuse what `check_model` refuses, but for embedding models.

    Raises:
        DataError: a rule is broken.
        ModelError: the file breaks no rule but cannot be used.
    """
    check_types(file, "", GENERAL_KEYS)
    name = file.architecture
    if not name:
        raise file.fault(f"key '{GeneralKey.ARCHITECTURE}' is missing")
    if file.is_adapter:
        check_adapter(file)
        return
    _check_whole(file)
    check_types(file, f"{name}.", ARCHITECTURE_KEYS)
    _check_sizes(file)
    _check_noted_window(file)
    _check_experts(file)
    _check_rope(file)
    check_vocabulary(file, strict=name in KNOWN_ARCHITECTURES)
    if name in LATENT_ARCHITECTURES:
        check_latent_layers(file)
    elif name in KNOWN_ARCHITECTURES:
        check_layers(file)


def check_types(file: GgufFile, prefix: str, expected: dict[str, tuple[str, ...]]) -> None:
    """Refuse keys of another value type than llama.cpp expects: it throws or aborts.

    Args:
        file: The file.
        prefix: What precedes the names in `expected`.
        expected: The allowed value types of each key.

    Raises:
        DataError: a key has another type.
    """
    for name, kinds in expected.items():
        found = file.types.get(prefix + name)
        if found is not None and found not in kinds:
            raise file.fault(f"key '{prefix}{name}' is {found}, but must be {' or '.join(kinds)}")


def _check_whole(file: GgufFile) -> None:
    parts = file.metadata.get(SplitKey.COUNT, 0)
    if parts > 1:
        hint = "join the parts first: `llama-gguf-split --merge FIRST-PART OUT`"
        raise ModelError(f"{file.path}: is one of {parts} parts of a split model", hint=hint)
    if file.architecture == "clip" or file.metadata.get(GeneralKey.TYPE) == PICTURE_ENCODER_FILE:
        hint = "`-m` takes the model's own file, and `--mmproj` this one"
        raise ModelError(f"{file.path}: is a picture encoder, not a model that answers", hint=hint)


def _check_sizes(file: GgufFile) -> None:
    for key, least, most in (
        (ModelKey.CONTEXT_LENGTH, 1, MAX_CONTEXT),
        (ModelKey.EMBEDDING_LENGTH, 1, MAX_CONTEXT),
        (ModelKey.BLOCK_COUNT, 1, MAX_LAYERS),
    ):
        value = file.key(key)
        if value is None:
            raise file.key_fault(key, "is missing")
        if not least <= value <= most:
            raise file.key_fault(key, f"is {value}, but must be {least} to {most}")
    layers = file.key(ModelKey.BLOCK_COUNT)
    if file.key(ModelKey.NEXTN_PREDICT_LAYERS, 0) > layers:
        raise file.key_fault(ModelKey.NEXTN_PREDICT_LAYERS, f"is more than the {layers} layers")
    for key in [key for key, kinds in ARCHITECTURE_KEYS.items() if kinds == PER_LAYER]:
        value = file.key(key)
        if isinstance(value, tuple) and len(value) != layers:
            raise file.key_fault(key, f"has {len(value)} items for {layers} layers")
        if isinstance(value, tuple) and min(value) < 0:
            raise file.key_fault(key, f"holds {min(value)}, but no count is negative")


def _check_noted_window(file: GgufFile) -> None:
    pattern, layers = file.metadata.get(MistralChatKey.SLIDING_WINDOW_PATTERN), file.key(ModelKey.BLOCK_COUNT)
    if pattern is not None and len(pattern) != layers:
        key = MistralChatKey.SLIDING_WINDOW_PATTERN
        raise file.fault(f"key '{key}' has {len(pattern)} items for {layers} layers")


def _check_experts(file: GgufFile) -> None:
    experts = file.key(ModelKey.EXPERT_COUNT, 0)
    used: Any = file.key(ModelKey.EXPERT_USED_COUNT, 0)
    used = max(used) if isinstance(used, tuple) else used
    groups, groups_used = file.key(ModelKey.EXPERT_GROUP_COUNT, 0), file.key(ModelKey.EXPERT_GROUP_USED_COUNT, 0)
    if experts > MAX_EXPERTS:
        raise file.key_fault(ModelKey.EXPERT_COUNT, f"is {experts}, but the limit is {MAX_EXPERTS}")
    if used > experts or (experts and not used):
        raise file.key_fault(ModelKey.EXPERT_USED_COUNT, f"is {used} of {experts} experts")
    if groups > 1:
        even = groups < experts and experts % groups == 0
        if not even or not 0 < groups_used < groups:
            raise file.fault(f"{experts} experts cannot form {groups} groups of which {groups_used} are used")
    elif groups >= max(experts, 1):
        raise file.fault(f"{experts} experts cannot form {groups} groups")


def _check_rope(file: GgufFile) -> None:
    scaling = file.key(ModelKey.ROPE_SCALING_TYPE, "linear")
    if scaling not in ROPE_SCALINGS:
        known = ", ".join(ROPE_SCALINGS)
        raise file.key_fault(ModelKey.ROPE_SCALING_TYPE, f"is {shown(scaling)}, but must be one of {known}")
    for key in FINITE_KEYS:
        value = file.key(key, 1.0)
        if not isfinite(value) or value < 0:
            raise file.key_fault(key, f"is {value}, but must be a number from 0 on")
