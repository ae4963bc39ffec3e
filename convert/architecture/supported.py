"""Tell which kind of model a configuration describes: its text part, or a refusal that names it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chat.errors import ModelError
from convert.architecture.hyperparameters import check_architecture

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

LLAMA_CPP = "llama.cpp's own `convert_hf_to_gguf.py` may know it"
PLAIN = "MistralForCausalLM"

# architectures and model types that are Mistral's, or look like it, and cannot be run; what to say of each
_MLA = "Mistral models with latent attention (Large 3, Small 4) cannot be written"
_MINISTRAL3 = "Ministral 3 models, which scale their attention with the position, cannot be written"
_MAMBA = "Mamba models (Codestral Mamba) have no attention and cannot be run"
_AUDIO = "Voxtral models hear, which cannot be run"
_NO_OUTPUT = "a model without an output layer (for embeddings, rewards or classes) cannot chat"
REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "Mistral4ForCausalLM": _MLA,
        "mistral4": _MLA,
        "DeepseekV2ForCausalLM": _MLA,
        "DeepseekV3ForCausalLM": _MLA,
        "deepseek_v2": _MLA,
        "deepseek_v3": _MLA,
        "MistralLarge3ForCausalLM": _MLA,
        "Ministral3ForCausalLM": _MINISTRAL3,
        "ministral3": _MINISTRAL3,
        "Mamba2ForCausalLM": _MAMBA,
        "MambaForCausalLM": _MAMBA,
        "mamba": _MAMBA,
        "mamba2": _MAMBA,
        "VoxtralForConditionalGeneration": _AUDIO,
        "VoxtralRealtimeForConditionalGeneration": _AUDIO,
        "voxtral": _AUDIO,
        "voxtral_realtime": _AUDIO,
        "MistralModel": _NO_OUTPUT,
        "MixtralModel": _NO_OUTPUT,
        "MistralForSequenceClassification": _NO_OUTPUT,
        "MistralForTokenClassification": _NO_OUTPUT,
        "MixtralForSequenceClassification": _NO_OUTPUT,
    }
)
# models that see, whose text part is an ordinary one under `text_config`
WITH_VISION = ("Mistral3ForConditionalGeneration", "LlavaForConditionalGeneration", "PixtralForConditionalGeneration")
TEXT_TYPES = ("mistral", "mixtral", "llama", "ministral")
VISION = re.compile(
    r"(model\.)?(vision_tower|multi_modal_projector|vision_model)\.|"
    r"(vision_encoder|vision_language_adapter|patch_merger|pre_mm_projector_norm)\."
)
# what PEFT, PyTorch, DeepSpeed and FSDP put into the names of a model that they wrap: before or between their parts
_WRAPPED = re.compile(r"(base_model\.model\.|module\.|_orig_mod\.|_forward_module\.|_fsdp_wrapped_module\.)+")
_WRAPPED_PART = re.compile(r"(?<=\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_NESTED = re.compile(r"^(language_model\.(?=model\.|lm_head\.)|model\.(?=language_model\.)language_model\.)")


@dataclass(frozen=True)
class TextNames:
    """The tensors of the text part, each with the name that it has in a model of text only."""

    plain: Mapping[str, str]  # the checkpoint's own name -> the text model's
    warnings: tuple[str, ...]


def text_name(name: str) -> str | None:
    """What a tensor is called in a model of text only; None where it belongs to the model's eyes."""
    wrapped = _WRAPPED.match(name)
    name = _WRAPPED_PART.sub("", name[wrapped.end() :] if wrapped else name)
    if VISION.match(name):
        return None
    return _NESTED.sub(lambda match: "model." if match[0].startswith("model.") else "", name)


def text_names(names: Iterable[str]) -> TextNames:
    """Keep the text part of a model, with one warning about what is left out."""
    given = {name: text_name(name) for name in names}
    left_out = sum(name is None for name in given.values())
    warnings: tuple[str, ...] = ()
    if left_out:
        warnings = (f"the model can see, but this file can not: its {left_out} tensors for images are left out",)
    return TextNames({own: name for own, name in given.items() if name is not None}, warnings)


def text_config(path: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of the text part, as a model of text only would have it.

    Raises:
        ModelError: it is of a kind that cannot be run.
    """
    inner = config.get("text_config")
    text = inner if isinstance(inner, dict) else {}
    for values in (config, text):
        for name in _names(values):
            if name in REFUSED:
                raise ModelError(f"{path}: {name[:60]}: {REFUSED[name]}", hint=LLAMA_CPP)
    _refuse_params(path, config)
    outer = _names(config)
    if text and outer and outer[0] in WITH_VISION:
        kind = text.get("model_type", "mistral")
        if kind not in TEXT_TYPES:
            raise ModelError(f"{path}: {outer[0]} with a text model of type {str(kind)[:60]} cannot be run")
        config = {**_without(config, "text_config"), **text, "architectures": [_text_architecture(text)]}
    elif outer and outer[0] == "MinistralForCausalLM":  # the same graph, with a window on some layers
        config = {**config, "architectures": [PLAIN]}
    check_architecture(path, config)
    return config


def _names(values: Mapping[str, Any]) -> list[str]:
    """Architectures, then the model type."""
    listed = values.get("architectures")
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    kind = values.get("model_type")
    return [*names, kind] if isinstance(kind, str) else names


def _text_architecture(text: Mapping[str, Any]) -> str:
    return "MixtralForCausalLM" if text.get("model_type") == "mixtral" else PLAIN


def _without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _refuse_params(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse by the keys that only such models have in params.json."""
    reasons = (
        (("kv_lora_rank", "q_lora_rank", "qk_rope_head_dim"), _MLA),
        (("llama_4_scaling",), _MINISTRAL3),
        (("whisper_model_args", "audio_model_args", "audio_encoder", "audio_encoder_args"), _AUDIO),
    )
    inner = config.get("multimodal")
    stated = {**config, **inner} if isinstance(inner, dict) else config
    for keys, reason in reasons:
        found = next((key for key in keys if stated.get(key) not in (None, False)), None)
        if found is not None:
            raise ModelError(f"{path}: has `{found}`: {reason}", hint=LLAMA_CPP)
