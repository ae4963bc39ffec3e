"""Write a checkpoint of a model that sees in the shapes of Mistral Small 3.1, with random weights: 5.8 GB.

    python -m tests.full_size_seeing FOLDER [--layers 2] [--vision-layers 24]

The picture encoder has its full size (0.4 billion weights); of the text model only the layers are fewer.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tests.chat.vocabulary_files import tekken_json
from tests.convert.vision_samples import MEAN, Eyes, nested, processor_of
from tests.full_size import write_shard

WIDTH, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, VOCABULARY, SPECIALS = 5120, 32768, 32, 8, 128, 131072, 1000
EYES = Eyes(layers=24, width=1024, heads=16, hidden=4096, patch=14, merge=2, largest=1540, activation="silu")


def text_shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """Hugging Face names and shapes of the text model's tensors."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, WIDTH)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        found |= {f"{at}{part}.weight": (WIDTH,) for part in ("input_layernorm", "post_attention_layernorm")}
        found |= {f"{at}self_attn.{part}_proj.weight": (KV_HEADS * HEAD_DIM, WIDTH) for part in "kv"}
        found |= {f"{at}mlp.{part}_proj.weight": (HIDDEN, WIDTH) for part in ("gate", "up")}
        found[f"{at}self_attn.q_proj.weight"] = (HEADS * HEAD_DIM, WIDTH)
        found[f"{at}self_attn.o_proj.weight"] = (WIDTH, HEADS * HEAD_DIM)
        found[f"{at}mlp.down_proj.weight"] = (WIDTH, HIDDEN)
    return found | {"model.norm.weight": (WIDTH,), "lm_head.weight": (VOCABULARY, WIDTH)}


def vision_shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """Hugging Face names and shapes of the picture encoder's tensors."""
    width, hidden = EYES.width, EYES.hidden
    found: dict[str, tuple[int, ...]] = {
        "vision_tower.patch_conv.weight": (width, 3, EYES.patch, EYES.patch),
        "vision_tower.ln_pre.weight": (width,),
        "multi_modal_projector.norm.weight": (width,),
        "multi_modal_projector.patch_merger.merging_layer.weight": (width, 4 * width),
        "multi_modal_projector.linear_1.weight": (WIDTH, width),
        "multi_modal_projector.linear_2.weight": (WIDTH, WIDTH),
    }
    for layer in range(layers):
        at = f"vision_tower.transformer.layers.{layer}."
        found |= {f"{at}{part}_norm.weight": (width,) for part in ("attention", "ffn")}
        found |= {f"{at}attention.{part}_proj.weight": (width, width) for part in "qkvo"}
        found |= {f"{at}feed_forward.{part}_proj.weight": (hidden, width) for part in ("gate", "up")}
        found[f"{at}feed_forward.down_proj.weight"] = (width, hidden)
    return found


def config(layers: int, vision_layers: int) -> dict[str, Any]:
    """config.json of Mistral Small 3.1."""
    text = {
        "model_type": "mistral",
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "intermediate_size": HIDDEN,
        "max_position_embeddings": 131072,
        "num_attention_heads": HEADS,
        "num_hidden_layers": layers,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "rms_norm_eps": 1e-05,
        "rope_theta": 1e9,
        "sliding_window": None,
        "vocab_size": VOCABULARY,
    }
    vision = {
        "model_type": "pixtral",
        "head_dim": EYES.width // EYES.heads,
        "hidden_act": EYES.activation,
        "hidden_size": EYES.width,
        "image_size": EYES.largest,
        "intermediate_size": EYES.hidden,
        "num_attention_heads": EYES.heads,
        "num_channels": len(MEAN),
        "num_hidden_layers": vision_layers,
        "patch_size": EYES.patch,
        "rope_theta": 10000.0,
    }
    return {
        "architectures": ["Mistral3ForConditionalGeneration"],
        "model_type": "mistral3",
        "image_token_index": 10,
        "multimodal_projector_bias": False,
        "projector_hidden_act": "gelu",
        "spatial_merge_size": EYES.merge,
        "vision_feature_layer": -1,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "text_config": text,
        "vision_config": vision,
    }


def write_checkpoint(folder: Path, layers: int, vision_layers: int) -> None:
    """The whole folder."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes = {nested(name): shape for name, shape in text_shapes(layers).items()} | vision_shapes(vision_layers)
    write_shard(folder / "model.safetensors", list(shapes), shapes, layers)
    (folder / "config.json").write_text(json.dumps(config(layers, vision_layers), indent=2))
    (folder / "preprocessor_config.json").write_text(json.dumps(processor_of(EYES)))
    (folder / "tekken.json").write_bytes(tekken_json("v7", VOCABULARY - SPECIALS, SPECIALS))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--vision-layers", type=int, default=EYES.layers)
    given = parser.parse_args()
    write_checkpoint(given.folder, given.layers, given.vision_layers)
