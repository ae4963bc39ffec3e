"""Tiny checkpoints of models that see, made of a seed, in Hugging Face's layout and in the original one.

`make_seeing(folder, "small3")` writes a whole checkpoint; `make_original_seeing` the same weights as Mistral releases
them. The tokenizer is the real Tekken's first pieces with the control pieces of a v7, so [IMG], [IMG_BREAK] and
[IMG_END] have their usual ids 10, 12 and 13.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convert.tensors.layout import rotary_order
from tests.chat.vocabulary_files import tekken_json
from tests.convert import families
from tests.convert.samples import Array, bfloat16, write_safetensors

IMAGE, IMAGE_BREAK, IMAGE_END = 10, 12, 13  # [IMG], [IMG_BREAK], [IMG_END]
MEAN, DEVIATION = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]  # of red, green and blue
SPECIALS = 40


@dataclass(frozen=True)
class Eyes:
    """A vision encoder and its projector.

    Attributes:
        merge: Patches on a side of a square that becomes one token; None for Pixtral 12B, which has no patch merger.
        largest: Pixels of a picture's longer side.
        has_bias: The projector's layers have biases.
    """

    layers: int = 3  # llama.cpp's converter finds no name for the projector's second layer with fewer
    width: int = 64
    heads: int = 2
    hidden: int = 96
    patch: int = 14
    merge: int | None = 2
    largest: int = 280
    activation: str = "silu"
    has_bias: bool = False


@dataclass(frozen=True)
class Kind:
    """What the outer configuration of a family of models that see says."""

    outer: Mapping[str, Any]
    text: Mapping[str, Any]
    eyes: Eyes


_MISTRAL = {name: value for name, value in families.COMMON.items() if name not in ("bos_token_id", "eos_token_id")} | {
    "model_type": "mistral",
    "num_hidden_layers": 2,
    "head_dim": families.HEAD_DIM,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e6,
    "sliding_window": None,
}
_MINISTRAL3 = _MISTRAL | {
    "model_type": "ministral3",
    "rope_parameters": families.YARN,
    "tie_word_embeddings": True,
}
_MISTRAL3 = {"architectures": ["Mistral3ForConditionalGeneration"], "model_type": "mistral3"}
KINDS: Mapping[str, Kind] = {
    "small3": Kind(_MISTRAL3, _MISTRAL, Eyes()),  # Mistral Small 3.1 and 3.2
    "ministral3": Kind(_MISTRAL3, _MINISTRAL3, Eyes()),
    "pixtral": Kind(
        {"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava", "image_seq_length": 1,
         "vision_feature_select_strategy": "full", "multimodal_projector_bias": True},
        _MISTRAL,
        Eyes(patch=16, merge=None, largest=256, has_bias=True),
    ),
    # unlike the releases, and without an original layout: that one has no activation
    "odd": Kind(
        _MISTRAL3,
        _MISTRAL | {"tie_word_embeddings": True},
        Eyes(layers=4, heads=4, hidden=80, patch=8, merge=3, largest=96, activation="gelu", has_bias=True),
    ),
}  # fmt: skip


def vision_tensors(eyes: Eyes, text_width: int, seed: int = 17) -> dict[str, Array]:
    """Random bfloat16 weights of the eyes under Hugging Face's older names, without `model.`."""
    generator = np.random.default_rng(seed)

    def normal(scale: float, *shape: int) -> Array:
        return bfloat16(generator.standard_normal(shape, dtype=np.float32) * np.float32(scale))

    def norm(size: int) -> Array:
        return bfloat16(1 + generator.standard_normal(size, dtype=np.float32) * np.float32(0.3))

    width = eyes.width
    made = {
        "vision_tower.patch_conv.weight": normal(0.05, width, 3, eyes.patch, eyes.patch),
        "vision_tower.ln_pre.weight": norm(width),
    }
    for layer in range(eyes.layers):
        at = f"vision_tower.transformer.layers.{layer}."
        made |= {f"{at}attention_norm.weight": norm(width), f"{at}ffn_norm.weight": norm(width)}
        made |= {f"{at}attention.{part}_proj.weight": normal(0.2, width, width) for part in "qkvo"}
        made |= {f"{at}feed_forward.{part}_proj.weight": normal(0.15, eyes.hidden, width) for part in ("gate", "up")}
        made[f"{at}feed_forward.down_proj.weight"] = normal(0.15, width, eyes.hidden)
    at = "multi_modal_projector."
    if eyes.merge is not None:
        made[f"{at}norm.weight"] = norm(width)
        made[f"{at}patch_merger.merging_layer.weight"] = normal(0.07, width, width * eyes.merge**2)
    for number, columns in ((1, width), (2, text_width)):
        made[f"{at}linear_{number}.weight"] = normal(0.06, text_width, columns)
        if eyes.has_bias:
            made[f"{at}linear_{number}.bias"] = normal(0.1, text_width)
    return made


def picture(height: int, width: int, seed: int = 3) -> Array:
    """Waves of three colours under noise, (height, width, 3) uint8."""
    noise = np.random.default_rng(seed).normal(0, 12, (height, width, 3))
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 9 + y / 17), np.cos(y / 7), np.sin((x + y) / 13)], axis=-1)
    return np.clip(127 + 100 * waves + noise, 0, 255).astype(np.uint8)


def pictures_for(eyes: Eyes) -> list[Array]:
    """Pictures that are whole tokens wide and high: square, wide, tall, of one row and of one column."""
    cell = eyes.patch * (eyes.merge or 1)
    return [picture(rows * cell, columns * cell) for rows, columns in ((4, 4), (2, 3), (3, 1), (1, 2))]


def nested(name: str, *, is_newer: bool = False) -> str:
    """A text tensor's name inside a model that sees, as transformers 4 saved it, or as 5 saves it."""
    if not is_newer:
        return f"language_model.{name}"
    return name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else name


def seeing_tensors(kind: str, *, is_newer: bool = False) -> dict[str, Array]:
    """All weights of a model that sees, under Hugging Face's names."""
    text, eyes = KINDS[kind].text, KINDS[kind].eyes
    made = {nested(name, is_newer=is_newer): array for name, array in families.tensors_of(text).items()}
    prefix = "model." if is_newer else ""
    return made | {prefix + name: array for name, array in vision_tensors(eyes, text["hidden_size"]).items()}


def config_of(kind: str) -> dict[str, Any]:
    """config.json of a model that sees."""
    each = KINDS[kind]
    eyes = each.eyes
    merge = {} if eyes.merge is None else {"spatial_merge_size": eyes.merge}
    return {
        **each.outer,
        **merge,
        "tie_word_embeddings": each.text["tie_word_embeddings"],
        "image_token_index": IMAGE,
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": eyes.has_bias,
        "vision_feature_layer": -1,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "text_config": dict(each.text),
        "vision_config": {
            "model_type": "pixtral",
            "head_dim": eyes.width // eyes.heads,
            "hidden_act": eyes.activation,
            "hidden_size": eyes.width,
            "image_size": eyes.largest,
            "intermediate_size": eyes.hidden,
            "num_attention_heads": eyes.heads,
            "num_channels": 3,
            "num_hidden_layers": eyes.layers,
            "patch_size": eyes.patch,
            "rope_theta": 10000.0,
        },
    }


def processor_of(eyes: Eyes) -> dict[str, Any]:
    """preprocessor_config.json, without the part that names [IMG] and its like."""
    return {
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": MEAN,
        "image_processor_type": "PixtralImageProcessor",
        "image_std": DEVIATION,
        "patch_size": eyes.patch * (eyes.merge or 1),
        "resample": 3,
        "rescale_factor": 1 / 255,
        "size": {"longest_edge": eyes.largest},
    }


def seeing_tekken(eyes: Eyes) -> bytes:
    """A tekken.json of 512 pieces that says how pictures are cut."""
    size = families.VOCABULARY
    data = json.loads(tekken_json("v7", size - SPECIALS, SPECIALS))
    picture = {"image_patch_size": eyes.patch, "max_image_size": eyes.largest}
    data["image"] = picture | ({} if eyes.merge is None else {"spatial_merge_size": eyes.merge})
    return json.dumps(data).encode()


def make_seeing(folder: Path, kind: str = "small3", *, is_newer: bool = False, **changes: Any) -> Path:
    """A Hugging Face folder of a model that sees.

    Args:
        folder: is made.
        kind: one of `KINDS`.
        is_newer: tensors are named as transformers 5 saves them.
        changes: replace values of config.json; None removes one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    eyes = KINDS[kind].eyes
    config = {name: value for name, value in (config_of(kind) | changes).items() if value is not None}
    names = {str(IMAGE): "[IMG]", str(IMAGE_BREAK): "[IMG_BREAK]", str(IMAGE_END): "[IMG_END]"}
    added = {token: {"content": name, "special": True} for token, name in names.items()}
    tokens = {"image_token": "[IMG]", "image_break_token": "[IMG_BREAK]", "image_end_token": "[IMG_END]"}
    shape = {"patch_size": eyes.patch, "spatial_merge_size": eyes.merge or 1, "processor_class": "PixtralProcessor"}
    for name, values in (
        ("config.json", config),
        ("preprocessor_config.json", processor_of(eyes)),
        ("processor_config.json", tokens | shape),
        ("tokenizer_config.json", {"added_tokens_decoder": added}),
    ):
        (folder / name).write_text(json.dumps(values))
    (folder / "tekken.json").write_bytes(seeing_tekken(eyes))
    write_safetensors(folder / "model.safetensors", seeing_tensors(kind, is_newer=is_newer))
    return folder


_ORIGINAL_NAMES = (
    ("multi_modal_projector.norm.", "pre_mm_projector_norm."),
    ("multi_modal_projector.patch_merger.", "patch_merger."),
    ("multi_modal_projector.linear_1.", "vision_language_adapter.w_in."),
    ("multi_modal_projector.linear_2.", "vision_language_adapter.w_out."),
    ("vision_tower.", "vision_encoder."),
    (".q_proj.", ".wq."),
    (".k_proj.", ".wk."),
    (".v_proj.", ".wv."),
    (".o_proj.", ".wo."),
    (".gate_proj.", ".w1."),
    (".down_proj.", ".w2."),
    (".up_proj.", ".w3."),
)


def original_vision_tensors(eyes: Eyes, text_width: int) -> dict[str, Array]:
    """The same weights as params.json's layout has them: other names, rotary rows in pairs."""
    made: dict[str, Array] = {}
    for name, array in vision_tensors(eyes, text_width).items():
        new = name
        for old, own in _ORIGINAL_NAMES:
            new = new.replace(old, own)
        is_rotary = name.endswith(("q_proj.weight", "k_proj.weight"))
        made[new] = array[rotary_order(len(array), eyes.width // eyes.heads)] if is_rotary else array
    return made


def params_of(kind: str) -> dict[str, Any]:
    """params.json of a model that sees."""
    text, eyes = KINDS[kind].text, KINDS[kind].eyes
    rope = text.get("rope_parameters", {})
    params: dict[str, Any] = {
        "dim": text["hidden_size"],
        "n_layers": text["num_hidden_layers"],
        "head_dim": text["head_dim"],
        "hidden_dim": text["intermediate_size"],
        "n_heads": text["num_attention_heads"],
        "n_kv_heads": text["num_key_value_heads"],
        "norm_eps": text["rms_norm_eps"],
        "rope_theta": rope.get("rope_theta", text.get("rope_theta")),
        "vocab_size": text["vocab_size"],
        "tied_embeddings": text["tie_word_embeddings"],
        "max_position_embeddings": text["max_position_embeddings"],
    }
    if rope:
        original = rope["original_max_position_embeddings"]
        params["llama_4_scaling"] = {
            "beta": rope["llama_4_scaling_beta"],
            "original_max_position_embeddings": original,
        }
        params["yarn"] = {
            "factor": rope["factor"],
            "original_max_position_embeddings": original,
            "beta": rope["beta_fast"],
            "alpha": rope["beta_slow"],
            "apply_scale": not rope["mscale_all_dim"],
        }
    vision: dict[str, Any] = {
        "image_token_id": IMAGE,
        "image_break_token_id": IMAGE_BREAK,
        "image_end_token_id": IMAGE_END,
        "intermediate_size": eyes.hidden,
        "num_hidden_layers": eyes.layers,
        "num_attention_heads": eyes.heads,
        "hidden_size": eyes.width,
        "num_channels": 3,
        "patch_size": eyes.patch,
        "rope_theta": 10000.0,
        "image_size": eyes.largest,
        "max_image_size": eyes.largest,
        "adapter_bias": eyes.has_bias,
    }
    if eyes.merge is not None:
        vision |= {
            "add_pre_mm_projector_layer_norm": True,
            "mm_projector_id": "patch_merge",
            "spatial_merge_size": eyes.merge,
        }
    return params | {"vision_encoder": vision}


def make_original_seeing(folder: Path, kind: str = "small3", **changes: Any) -> Path:
    """The folder of params.json that means the same as `make_seeing`'s; `changes` replace values, None removes one."""
    folder.mkdir(parents=True, exist_ok=True)
    text, eyes = KINDS[kind].text, KINDS[kind].eyes
    params = {name: value for name, value in (params_of(kind) | changes).items() if value is not None}
    (folder / "params.json").write_text(json.dumps(params))
    (folder / "tekken.json").write_bytes(seeing_tekken(eyes))
    tensors = families.original_tensors(families.tensors_of(text))
    tensors |= original_vision_tensors(eyes, text["hidden_size"])
    write_safetensors(folder / "consolidated.safetensors", tensors)
    return folder
