"""Models that see or hear: the text part is taken; what is not converted is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat.errors import ChatError, DataError, ModelError
from convert.architecture.supported import text_name
from convert.draft import ConversionOptions
from convert.drafting import make_draft
from convert.pipeline import convert
from tests.convert.adapters import linear_modules, make_original, merged, pairs_for, write_peft
from tests.convert.samples import (
    V01,
    Array,
    Sizes,
    config_of,
    hugging_face_tensors,
    make_checkpoint,
    params_of,
    read_safetensors,
    tensor_bytes,
    write_safetensors,
)

SIZES = Sizes()
TENSORS = hugging_face_tensors(SIZES)
EYES = {
    "old": ("vision_tower.transformer.layers.0.attention.q_proj.weight", "multi_modal_projector.linear_1.weight"),
    "new": ("model.vision_tower.ln_pre.weight", "model.multi_modal_projector.patch_merger.merging_layer.weight"),
}
PARAMS = params_of(SIZES)


def nested(name: str, spelling: str) -> str:
    """A text tensor's name inside a model that sees, as older and newer programs write it."""
    if spelling == "old":
        return f"language_model.{name}"
    return name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else name


def seeing(folder: Path, spelling: str, **text: Any) -> Path:
    make_checkpoint(folder, SIZES)
    tensors: dict[str, Array] = {nested(name, spelling): array for name, array in TENSORS.items()}
    tensors |= {name: np.zeros((4, 4), np.float32) for name in EYES[spelling]}
    write_safetensors(folder / "model.safetensors", tensors)
    inner = {name: value for name, value in config_of(SIZES).items() if name not in ("architectures", "bos_token_id")}
    config = {
        "architectures": ["Mistral3ForConditionalGeneration"],
        "model_type": "mistral3",
        "text_config": {**inner, "model_type": "mistral", **text},
        "vision_config": {"model_type": "pixtral", "hidden_size": 1024, "num_hidden_layers": 24},
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def made_of(folder: Path, *adapters: Path, **more: Any) -> tuple[dict[str, bytes], tuple[str, ...]]:
    out = folder.parent / f"{folder.name}.gguf"
    with_scales = tuple((adapter, 1.0) for adapter in adapters)
    options = ConversionOptions(folder, out, "F32", show_progress=False, adapters=with_scales, overwrite=True, **more)
    report = convert(options)
    return tensor_bytes(out)[1], report.warnings


@pytest.mark.parametrize("spelling", ["old", "new"])
def test_the_text_part_of_a_model_that_sees_is_converted_with_one_warning(spelling: str, tmp_path: Path) -> None:
    """Where it sees by another family's encoder; see `test_projector.py` for Mistral's."""
    folder = seeing(tmp_path / "seeing", spelling)
    plain = made_of(make_checkpoint(tmp_path / "plain", SIZES))[0]
    assert made_of(folder, projector="off") == (plain, ())
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["model_type"] = "clip_vision_model"
    (folder / "config.json").write_text(json.dumps(config))
    left_out = "the model can see, but this file cannot: its 2 tensors for images are left out"
    assert made_of(folder) == (plain, (left_out,))


def test_the_text_part_of_a_model_that_hears_is_converted_with_one_warning(tmp_path: Path) -> None:
    folder = seeing(tmp_path / "hearing", "old", model_type="llama")
    config = json.loads((folder / "config.json").read_text())
    del config["vision_config"]
    config |= {"architectures": ["VoxtralForConditionalGeneration"], "model_type": "voxtral", "audio_config": {"a": 1}}
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {nested(name, "old"): array for name, array in TENSORS.items()}
    ears = ("audio_tower.conv1.weight", "multi_modal_projector.linear_1.weight")
    tensors |= {name: np.zeros((4, 4), np.float32) for name in ears}
    write_safetensors(folder / "model.safetensors", tensors)
    made, warnings = made_of(folder)
    assert made == made_of(make_checkpoint(tmp_path / "plain", SIZES))[0]
    assert warnings == ("the model can hear, but this file cannot: its 2 tensors for sound are left out",)


def test_eyes_of_an_original_checkpoint_are_left_out(tmp_path: Path) -> None:
    vision = {"image_token_id": 10, "hidden_size": 1024}
    folder = make_original(tmp_path / "seeing", TENSORS, 32, {**PARAMS, "vision_encoder": vision})
    extra = {
        "vision_encoder.patch_conv.weight": np.zeros((4, 4), np.float32),
        "vision_language_adapter.w_in.weight": np.zeros((4, 4), np.float32),
        "patch_merger.merging_layer.weight": np.zeros((4, 4), np.float32),
        "pre_mm_projector_norm.weight": np.zeros(4, np.float32),
    }
    plain = make_original(tmp_path / "plain", TENSORS, 32, PARAMS)
    for place in (folder, plain):
        shutil.copy(V01 / "tokenizer.model", place)
    write_safetensors(
        folder / "consolidated.safetensors", {**read_safetensors(plain / "consolidated.safetensors"), **extra}
    )
    made, warnings = made_of(folder, projector="off")
    assert len(made) == len(TENSORS)
    assert made == made_of(plain)[0]
    assert warnings == ()


def test_an_adapter_of_a_model_that_sees_changes_its_text_part(tmp_path: Path) -> None:
    pairs = pairs_for(TENSORS, linear_modules(TENSORS)[:4])
    named = {nested(f"{module}.", "new")[:-1]: pair for module, pair in pairs.items()}
    eye = {"model.vision_tower.x": (np.zeros((4, 8), np.float32), np.zeros((8, 4), np.float32))}
    adapter = write_peft(tmp_path / "adapter", {**named, **eye})
    made, warnings = made_of(seeing(tmp_path / "seeing", "new"), adapter, projector="off")
    assert made == made_of(make_checkpoint(tmp_path / "merged", SIZES, merged(TENSORS, pairs, 2.0)))[0]
    assert [warning.partition(": ")[2] for warning in warnings] == ["2 tensors for images are left out"]


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"),
        ("language_model.model.norm.weight", "model.norm.weight"),
        ("language_model.lm_head.weight", "lm_head.weight"),
        ("model.language_model.norm.weight", "model.norm.weight"),
        ("norm.weight", "norm.weight"),
        ("vision_encoder.ln_pre.weight", None),
        ("language_model.other.weight", "language_model.other.weight"),
        ("visions.weight", "visions.weight"),
        ("audio_tower.layers.0.fc1.bias", None),
        ("mm_whisper_embeddings.whisper_encoder.conv1.weight", None),
        ("mm_whisper_embeddings.audio_language_projection.0.weight", None),
        ("mm_whisper_embeddings.tok_embeddings.weight", "tok_embeddings.weight"),
        ("mm_streams_embeddings.embedding_module.tok_embeddings.weight", "tok_embeddings.weight"),
    ],
)
def test_names_lose_their_nesting_and_nothing_else(name: str, plain: str | None) -> None:
    assert text_name(name) == plain


def test_a_tensor_of_the_text_part_under_two_names_is_refused(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "twice", SIZES)
    twice = {**TENSORS, "language_model.lm_head.weight": TENSORS["lm_head.weight"]}
    write_safetensors(folder / "model.safetensors", twice)
    with pytest.raises(DataError, match="are there under two names"):
        make_draft(ConversionOptions(folder))


def test_ministral_of_transformers_is_a_mistral_with_a_window_on_some_layers(tmp_path: Path) -> None:
    kinds = ["sliding_attention", "full_attention"]
    config = {"architectures": ["MinistralForCausalLM"], "model_type": "ministral", "layer_types": kinds}
    draft = make_draft(ConversionOptions(make_checkpoint(tmp_path / "model", SIZES, **config, sliding_window=64)))
    keys = {key.key: key.value for key in draft.keys}
    made = [keys[f"granite_swa.attention.{name}"] for name in ("sliding_window", "sliding_window_pattern")]
    assert made == [64, (True, False)]


SEES = ["Mistral3ForConditionalGeneration"]
REFUSED = [
    ({"architectures": SEES, "text_config": {"model_type": "odd"}}, "of type odd cannot be converted"),
    ({"architectures": SEES, "text_config": {"model_type": ["x"]}}, "of type ..x.. cannot be converted"),
    ({"architectures": ["DeepseekV3ForCausalLM"]}, "DeepseekV3ForCausalLM: DeepSeek models cannot be converted here"),
    ({"architectures": ["Mamba2ForCausalLM"]}, "Mamba2ForCausalLM: Mamba models .Codestral Mamba. cannot be converted"),
    ({"architectures": ["VoxtralRealtimeForConditionalGeneration"]}, "Voxtral Realtime, which hears while it writes"),
    ({"model_type": "mistral_large4", "architectures": SEES}, "Mistral Large 4 cannot be converted: the llama.cpp"),
    ({"architectures": ["MistralModel"]}, "MistralModel: a model without an output layer"),
    ({"architectures": ["MistralForSequenceClassification"]}, "a model without an output layer"),
    ({"architectures": ["OddForCausalLM"]}, "the architecture OddForCausalLM cannot be converted here"),
    ({"architectures": ["Gemma3ForCausalLM"]}, "Gemma3ForCausalLM: Gemma 3 cannot be converted here"),
    ({"architectures": [], "model_type": "gemma3_text"}, "gemma3_text: Gemma 3 cannot be converted here"),
    ({"architectures": ["Gemma2ForCausalLM"]}, "Gemma2ForCausalLM: Gemma 2 cannot be converted here"),
    ({"architectures": ["Phi3ForCausalLM"]}, "Phi3ForCausalLM: Phi-3 and Phi-4 cannot be converted here"),
    ({"architectures": ["Qwen3MoeForCausalLM"]}, "Qwen's mixtures of experts cannot be converted here"),
    ({"architectures": ["Qwen2_5_VLForConditionalGeneration"]}, "Qwen's models that see cannot be converted here"),
]
RUNS_AS_GGUF = ("DeepSeek", "Mamba", "Odd", "Gemma", "Phi", "Qwen")


@pytest.mark.parametrize(("config", "words"), REFUSED, ids=[str(number) for number in range(len(REFUSED))])
def test_kinds_that_are_not_converted_are_refused_by_name(config: dict[str, Any], words: str, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model", SIZES, **config)
    write_safetensors(folder / "model.safetensors", {"backbone.layers.0.mixer.A_log": np.zeros(4, np.float32)})
    with pytest.raises(ModelError, match=words) as caught:
        make_draft(ConversionOptions(folder))
    assert ("-m hf:OWNER/REPO" in str(caught.value.hint)) == any(name in words for name in RUNS_AS_GGUF)


@pytest.mark.parametrize(
    ("extra", "kind", "words"),
    [
        ({"kv_lora_rank": 512}, DataError, "`qk_rope_head_dim` is missing"),
        ({"llama_4_scaling": {"beta": 0.1}}, DataError, "`original_max_position_embeddings` is None"),
        ({"model_type": "mamba"}, ModelError, "mamba: Mamba models"),
        ({"ada_rms_norm_t_cond": True}, ModelError, "Voxtral Realtime"),
        (
            {
                "llama_4_scaling": {"beta": 0.1, "original_max_position_embeddings": 16},
                "yarn": {"factor": 2, "original_max_position_embeddings": 32},
            },
            ModelError,
            "grows every 16 tokens, with an original context of 32, cannot be converted",
        ),
        ({"moe": {"num_experts": 8, "num_experts_per_tok": 2, "num_shared_experts": 1}}, ModelError, "shared experts"),
    ],
)
def test_originals_that_are_not_converted_are_refused_by_their_keys(
    extra: dict[str, Any], kind: type[ChatError], words: str, tmp_path: Path
) -> None:
    folder = make_original(tmp_path / "model", TENSORS, 32, {**PARAMS, **extra})
    with pytest.raises(kind, match=words):
        make_draft(ConversionOptions(folder))
