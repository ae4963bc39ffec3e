"""Tell which kind of model a configuration describes: its text part, or a refusal that names it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chat.errors import ModelError
from convert.architecture.hyperparameters import LLAMA, MINISTRAL3, MISTRAL4, QWEN2, QWEN3, check_architecture

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

PLAIN = "MistralForCausalLM"
GGUF_RUNS = "a GGUF of it runs: `-m hf:OWNER/REPO`"
ITS_GGUF_RUNS = "its GGUF runs: `-m hf:OWNER/REPO:QUANT`"

# architectures and model types that are Mistral's, or look like it, and are not converted: what to say, and the way out
_DEEPSEEK = ("DeepSeek models cannot be converted here", GGUF_RUNS)
_LARGE4 = ("Mistral Large 4 cannot be converted: the llama.cpp inside has no graph for it", None)
_MAMBA = ("Mamba models (Codestral Mamba) cannot be converted here", GGUF_RUNS)
_REALTIME = ("Voxtral Realtime, which hears while it writes, cannot be converted", None)
_NO_OUTPUT = ("a model without an output layer (for embeddings, rewards or classes) cannot chat", None)
REFUSED: Mapping[str, tuple[str, str | None]] = MappingProxyType(
    {
        "DeepseekV2ForCausalLM": _DEEPSEEK,
        "DeepseekV3ForCausalLM": _DEEPSEEK,
        "DeepseekV32ForCausalLM": _DEEPSEEK,
        "deepseek_v2": _DEEPSEEK,
        "deepseek_v3": _DEEPSEEK,
        "deepseek_v32": _DEEPSEEK,
        "MistralLarge4ForConditionalGeneration": _LARGE4,
        "MistralLarge4ForCausalLM": _LARGE4,
        "mistral_large4": _LARGE4,
        "mistral_large4_text": _LARGE4,
        "Mamba2ForCausalLM": _MAMBA,
        "MambaForCausalLM": _MAMBA,
        "mamba": _MAMBA,
        "mamba2": _MAMBA,
        "VoxtralRealtimeForConditionalGeneration": _REALTIME,
        "voxtral_realtime": _REALTIME,
        "MistralModel": _NO_OUTPUT,
        "MixtralModel": _NO_OUTPUT,
        "MistralForSequenceClassification": _NO_OUTPUT,
        "MistralForTokenClassification": _NO_OUTPUT,
        "MixtralForSequenceClassification": _NO_OUTPUT,
    }
)
# what the names of other families' architectures and model types begin with, in small letters without `_`
OTHER_FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "gemma4": "Gemma 4",
        "gemma3n": "Gemma 3n",
        "gemma3": "Gemma 3",
        "gemma2": "Gemma 2",
        "gemma": "Gemma",
        "phimoe": "Phi-3.5-MoE",
        "phi3": "Phi-3 and Phi-4",
        "phi": "Phi",
        "qwen2moe": "Qwen's mixtures of experts",
        "qwen3moe": "Qwen's mixtures of experts",
        "qwen2vl": "Qwen's models that see",
        "qwen25vl": "Qwen's models that see",
        "qwen3vl": "Qwen's models that see",
        "qwen3next": "Qwen3-Next",
        "qwen35": "Qwen 3.5",
        "llama4": "Llama 4",
        "smollm3": "SmolLM3",
        "granite": "Granite",
        "gptoss": "gpt-oss",
        "olmo": "OLMo",
        "cohere": "Command R",
        "glm4": "GLM",
        "exaone4": "EXAONE 4",
        "falconh1": "Falcon H1",
        "starcoder2": "StarCoder 2",
    }
)
# models that see or hear, whose text part is an ordinary one under `text_config`
WITH_TEXT_PART = (
    "Mistral3ForConditionalGeneration",
    "Mistral4ForConditionalGeneration",
    "LlavaForConditionalGeneration",
    "PixtralForConditionalGeneration",
    "VoxtralForConditionalGeneration",
)
TEXT_ARCHITECTURES: Mapping[str, str] = MappingProxyType(
    {
        "mistral": PLAIN,
        "llama": PLAIN,
        "ministral": PLAIN,
        "mixtral": "MixtralForCausalLM",
        "ministral3": MINISTRAL3,
        "mistral4": MISTRAL4,
    }
)
# of models of text only that name no architecture
MODEL_TYPES: Mapping[str, str] = MappingProxyType({"llama": LLAMA, "qwen2": QWEN2, "qwen3": QWEN3})
# their tensors for images and for sound
VISION = re.compile(
    r"(model\.)?(vision_tower|multi_modal_projector|vision_model)\.|"
    r"(vision_encoder|vision_language_adapter|patch_merger|pre_mm_projector_norm)\."
)
# what PEFT, PyTorch, DeepSpeed and FSDP put into the names of a model that they wrap: before or between their parts
_WRAPPED = re.compile(r"(base_model\.model\.|module\.|_orig_mod\.|_forward_module\.|_fsdp_wrapped_module\.)+")
_WRAPPED_PART = re.compile(r"(?<=\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
AUDIO = re.compile(
    r"(model\.)?audio_tower\.|(mm_(whisper|streams)_embeddings\.)?"
    r"(whisper_encoder|audio_language_projection|audio_language_adapter)\."
)
_NESTED = re.compile(
    r"^(language_model\.(?=model\.|lm_head\.)|model\.(?=language_model\.)language_model\.|"
    r"mm_(whisper|streams)_embeddings\.(embedding_module\.)?(?=tok_embeddings\.))"
)


@dataclass(frozen=True)
class TextNames:
    """The tensors of the text part, each with the name that it has in a model of text only."""

    plain: Mapping[str, str]  # the checkpoint's own name -> the text model's
    left_out: tuple[str, ...]  # what to say of the other tensors where they are converted nowhere


def text_name(name: str) -> str | None:
    """What a tensor is called in a model of text only; None where it is for images or sound."""
    name = _unwrapped(name)
    if VISION.match(name) or AUDIO.match(name):
        return None
    return _NESTED.sub(lambda match: "model." if match[0].startswith("model.") else "", name)


def vision_name(name: str) -> str | None:
    """What a tensor for images is called without the names of what the model lies in; None for other tensors."""
    name = _unwrapped(name)
    return name.removeprefix("model.") if VISION.match(name) else None


def _unwrapped(name: str) -> str:
    wrapped = _WRAPPED.match(name)
    return _WRAPPED_PART.sub("", name[wrapped.end() :] if wrapped else name)


def text_names(names: Iterable[str], config: Mapping[str, Any]) -> TextNames:
    """Keep the text part of a model, with a sentence about what is left out.

    Args:
        names: Of the checkpoint's tensors.
        config: As the checkpoint has it.
    """
    given = {name: text_name(name) for name in names}
    left_out = sum(name is None for name in given.values())
    said: tuple[str, ...] = ()
    if left_out:
        sense, kind = ("hear", "sound") if can_hear(given, config) else ("see", "images")
        said = (f"the model can {sense}, but this file cannot: its {left_out} tensors for {kind} are left out",)
    return TextNames({own: name for own, name in given.items() if name is not None}, said)


def text_config(path: Path, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration of the text part, as a model of text only would have it.

    Raises:
        ModelError: it is of a kind that is not converted.
    """
    inner = config.get("text_config")
    text = inner if isinstance(inner, dict) else {}
    for values in (config, text):
        for name in _names(values):
            if name in REFUSED:
                reason, hint = REFUSED[name]
                raise ModelError(f"{path}: {name[:60]}: {reason}", hint=hint)
            _refuse_other_family(path, name)
    if _is_realtime(config):
        raise ModelError(f"{path}: {_REALTIME[0]}")
    outer = _names(config)
    if text and outer and outer[0] in WITH_TEXT_PART:
        kind = text.get("model_type", "mistral")
        if not isinstance(kind, str) or kind not in TEXT_ARCHITECTURES:
            raise ModelError(f"{path}: {outer[0]} with a text model of type {str(kind)[:60]} cannot be converted")
        architecture = TEXT_ARCHITECTURES[kind]
        config = {**_without(config, "text_config", "model_type"), **text, "architectures": [architecture]}
    elif outer and not config.get("architectures") and outer[0] in MODEL_TYPES:
        config = {**config, "architectures": [MODEL_TYPES[outer[0]]]}
    elif outer and outer[0] == "MinistralForCausalLM":  # the same graph, with a window on some layers
        config = {**config, "architectures": [PLAIN]}
    check_architecture(path, config)
    return config


def _refuse_other_family(path: Path, name: str) -> None:
    plain = name.lower().replace("_", "")
    family = max((start for start in OTHER_FAMILIES if plain.startswith(start)), key=len, default=None)
    if family is not None:
        raise ModelError(f"{path}: {name[:60]}: {OTHER_FAMILIES[family]} cannot be converted here", hint=ITS_GGUF_RUNS)


def _names(values: Mapping[str, Any]) -> list[str]:
    """Architectures, then the model type."""
    listed = values.get("architectures")
    names = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    kind = values.get("model_type")
    return [*names, kind] if isinstance(kind, str) else names


def _without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _is_realtime(config: Mapping[str, Any]) -> bool:
    """Whether params.json has what only models that hear while they write have."""
    return any(config.get(key) for key in ("ada_rms_norm_t_cond", "audio_streaming_config"))


def can_hear(names: Iterable[str], config: Mapping[str, Any]) -> bool:
    """Whether a model has ears, by its tensors' names or its configuration; their projector is called as for images."""
    if any(AUDIO.match(name) for name in names):
        return True
    inner = config.get("multimodal")
    stated = {**config, **inner} if isinstance(inner, dict) else config
    keys = ("audio_config", "whisper_model_args", "audio_model_args", "audio_encoder", "audio_encoder_args")
    return any(stated.get(key) for key in keys)
