"""Ask transformers for the embeddings of pictures, and llama.cpp's converter for the mmproj files, of tiny checkpoints.

Usage: python -m tests.convert.make_vision_references LLAMA_CPP
where LLAMA_CPP is its source folder, in an environment with torch and transformers. Writes vision.json and vision.npz.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.convert.vision_samples import (
    DEVIATION,
    IMAGE_BREAK,
    KINDS,
    MEAN,
    make_original_seeing,
    make_seeing,
    pictures_for,
)
from tests.folders import CHECKPOINTS

COLUMNS = slice(None, None, 8)  # of the embeddings that are kept
CASES = (  # kind, layout, type
    *((kind, "hugging-face", "f32") for kind in KINDS),
    *((kind, "original", "f32") for kind in KINDS if kind != "odd"),
    *(("odd", "hugging-face", kind) for kind in ("f16", "bf16", "q8_0")),
)


def embeddings(folder: Path, kind: str) -> list[Any]:
    """What the text model reads of each picture, (tokens, columns) float32: lines with [IMG_BREAK] between them.

    Pixels are rounded to float16, as libmtmd rounds them (ggml_conv_2d).
    """
    import torch
    import transformers

    model_class = getattr(transformers, json.loads((folder / "config.json").read_text())["architectures"][0])
    model = model_class.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    eyes = KINDS[kind].eyes
    cell = eyes.patch * (eyes.merge or 1)
    mean, deviation = np.array(MEAN, np.float32), np.array(DEVIATION, np.float32)
    made = []
    with torch.no_grad():
        between = model.get_input_embeddings().weight[IMAGE_BREAK].numpy()
        for each in pictures_for(eyes):
            pixels = ((each / np.float32(255) - mean) / deviation).astype(np.float16)
            values = torch.from_numpy(pixels.astype(np.float32).transpose(2, 0, 1)[None].copy())
            height, width = each.shape[:2]
            features = model.get_image_features(pixel_values=values, image_sizes=torch.tensor([[height, width]]))
            lines = features.pooler_output[0].numpy().reshape(height // cell, width // cell, -1)
            parted = np.concatenate([lines, np.broadcast_to(between, (len(lines), 1, len(between)))], axis=1)
            made.append(parted.reshape(-1, len(between))[:-1, COLUMNS])
    return made


def mmproj(llama_cpp: Path, folder: Path, layout: str, kind: str) -> dict[str, Any]:
    """The keys, and for each tensor its type, its ggml shape and the SHA-256 of its bytes."""
    import gguf

    out = folder / "out.gguf"
    more = []
    if layout == "original":
        (folder / "config.json").write_text('{"architectures": ["any"]}')  # it looks into this file, too
        more = ["--mistral-format"]
    script = str(llama_cpp / "convert_hf_to_gguf.py")
    command = [sys.executable, script, str(folder), "--mmproj", "--outtype", kind, "--outfile", str(out), *more]
    subprocess.run(command, check=True, capture_output=True)
    reader = gguf.GGUFReader(out)
    found = {
        each.name: [each.tensor_type.name, each.shape.tolist(), hashlib.sha256(each.data.tobytes()).hexdigest()]
        for each in reader.tensors
    }
    names_of_folder = ("GGUF.", "general.name", "general.basename", "general.version", "general.size_label")
    keys = {name: field.contents() for name, field in reader.fields.items() if not name.startswith(names_of_folder)}
    return {"keys": keys, "tensors": dict(sorted(found.items()))}


def main(llama_cpp: Path) -> None:
    """Every kind in its layouts, and every type of one."""
    found: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    for name, layout, kind in CASES:
        with tempfile.TemporaryDirectory() as place:
            make = make_seeing if layout == "hugging-face" else make_original_seeing
            folder = make(Path(place) / name, name)
            if (layout, kind) == ("hugging-face", "f32"):
                for number, rows in enumerate(embeddings(folder, name)):
                    arrays[f"{name}-{number}"] = rows
            found[f"{name} {layout} {kind}"] = mmproj(llama_cpp, folder, layout, kind)
    (CHECKPOINTS / "vision.json").write_text(json.dumps(found, indent=None, separators=(",", ":")) + "\n")
    np.savez_compressed(CHECKPOINTS / "vision.npz", **arrays)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
