"""Refuse LoRA files that llama.cpp would abort on or that do not fit their base."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from chat.errors import ModelError
from chat.gguf.cursor import shown
from chat.gguf.keys import LATENT_ARCHITECTURES, AdapterKey
from chat.gguf.types import MATRIX_TYPES

if TYPE_CHECKING:
    from chat.gguf.reader import GgufFile, TensorInfo

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"
# llama.cpp asserts on the types of these, so a wrong one ends the process (llama-adapter.cpp)
KEYS: dict[str, str] = {
    AdapterKey.TYPE: "str",
    AdapterKey.LORA_ALPHA: "f32",
    AdapterKey.INVOCATION_TOKENS: "[u32]",
}

# Parts of a model with latent attention that llama.cpp multiplies without a look at adapters (models/deepseek2.cpp)
WITHOUT_ADAPTERS = frozenset(
    ("attn_q", "attn_q_a", "attn_q_b", "attn_kv_a_mqa", "attn_kv_b", "attn_k_b", "attn_v_b", "output")
)
MERGE_HINT = "merge it: `mistral-chat convert MODEL --lora ADAPTER`"


def is_without_effect(name: str, architecture: str) -> bool:
    """Whether llama.cpp would load an adapter of this tensor and then ignore it."""
    return architecture in LATENT_ARCHITECTURES and name.split(".")[-2] in WITHOUT_ADAPTERS


def check_adapter(file: GgufFile) -> None:
    """Refuse a LoRA file whose keys or pairs are wrong, whatever its base.

    Raises:
        DataError: a rule is broken.
    """
    for name, expected in KEYS.items():
        if file.types.get(name, expected) != expected:
            raise file.fault(f"key '{name}' is {file.types[name]}, but must be {expected}")
    kind = file.metadata.get(AdapterKey.TYPE)
    if kind != "lora":
        raise file.fault(f"key '{AdapterKey.TYPE}' is {shown(str(kind))}, but must be 'lora'")
    alpha = file.metadata.get(AdapterKey.LORA_ALPHA, 0.0)
    if not isfinite(alpha):
        raise file.fault(f"key '{AdapterKey.LORA_ALPHA}' is {alpha}, but must be a finite number")
    pairs = lora_pairs(file)
    if not pairs:
        raise file.fault("the adapter holds no pair of tensors")
    for name, (a, b) in pairs.items():
        rank_a, rank_b = (a.shape[0], b.shape[0]) if name == EMBEDDING else (a.shape[1], b.shape[0])
        if rank_a != rank_b:
            raise file.fault(f"tensor {shown(name)} has rank {rank_a} in lora_a, but {rank_b} in lora_b")


def check_adapter_fits(adapter: GgufFile, base: GgufFile) -> None:
    """Refuse an adapter made for another model than `base`. The architecture's name is not compared: it is a tag.

    Raises:
        ModelError: a tensor is not in the base, has another shape there or would be ignored, or the embedding of a tied
            base is changed.
    """
    hint = f"the adapter was made for another model than {base.path.name}"
    for name, (a, b) in lora_pairs(adapter).items():
        target = base.tensors.get(name)
        if target is None:
            raise ModelError(f"{adapter.path}: tensor {shown(name)} is not in the model", hint=hint)
        if is_without_effect(name, base.architecture):
            raise ModelError(
                f"{adapter.path}: changes {shown(name)}, to which llama.cpp applies no adapter in this model",
                hint=MERGE_HINT,
            )
        changes = (b.shape[1], a.shape[1]) if name == EMBEDDING else (a.shape[0], b.shape[1])
        if name == EMBEDDING and OUTPUT not in base.tensors:
            raise ModelError(
                f"{adapter.path}: changes the embedding, which {base.path.name} also uses as its output layer; "
                "llama.cpp cannot apply such an adapter",
                hint="merge it: `mistral-chat convert MODEL --lora ADAPTER`, from the checkpoints of both",
            )
        if target.shape[:2] != changes:
            problem = f"tensor {shown(name)} changes {list(changes)}, but the model has {list(target.shape)}"
            raise ModelError(f"{adapter.path}: {problem}", hint=hint)


def lora_pairs(file: GgufFile) -> dict[str, tuple[TensorInfo, TensorInfo]]:
    """The (lora_a, lora_b) of every tensor that the adapter changes.

    Raises:
        DataError: one of a pair is missing, or a tensor is no part of a pair, or is no matrix.
    """
    halves: dict[str, dict[str, TensorInfo]] = {}
    for name, tensor in file.tensors.items():
        base, _, half = name.rpartition(".")
        if name.endswith("_norm.weight"):
            continue  # llama.cpp passes over it
        if half not in ("lora_a", "lora_b") or ".lora_" in base or not base:
            raise file.fault(f"tensor {shown(name)} is neither a lora_a nor a lora_b")
        if len(tensor.shape) < 2 or tensor.type not in MATRIX_TYPES:
            raise file.fault(f"tensor {shown(name)} is {tensor.type} {list(tensor.shape)}, but must be a matrix")
        halves.setdefault(base, {})[half] = tensor
    for base, pair in halves.items():
        if len(pair) < 2:
            raise file.fault(f"tensor {shown(base)} has only its {next(iter(pair))}")
    return {base: (pair["lora_a"], pair["lora_b"]) for base, pair in halves.items()}
