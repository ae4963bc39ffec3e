"""Ask transformers for the greedy ids that follow questions with pictures. Writes checkpoints/pictures.json.

Usage: python -m tests.chat.make_picture_references, in an environment with torch and transformers.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.chat.seeing import QUESTIONS, checkpoint_kind, make_folder, picture_of_noise
from tests.convert.vision_samples import DEVIATION, IMAGE, IMAGE_BREAK, IMAGE_END, KINDS, MEAN

TARGET = Path(__file__).parents[1] / "checkpoints/pictures.json"
COUNT = 24
CLEAR = 0.05  # between the two highest logits
BEFORE, AFTER = (1, 3), (308, 148, 148, 151, 366, 481, 4)  # <s>[INST], the question, [/INST]


def prompt_of(kind: str, sizes: tuple[tuple[int, int, int], ...]) -> list[int]:
    """The ids of a prompt; every picture has a whole number of tokens."""
    eyes = KINDS[checkpoint_kind(kind)].eyes
    cell = eyes.patch * (eyes.merge or 1)
    ids = list(BEFORE)
    for width, height, _ in sizes:
        ids += ([IMAGE] * (width // cell) + [IMAGE_BREAK]) * (height // cell)
        ids[-1] = IMAGE_END
    return [*ids, *AFTER]


def greedy(model: Any, prompt: list[int], sizes: tuple[tuple[int, int, int], ...]) -> list[int]:
    """The ids that follow a prompt, in float32 with eager attention, up to the first that is not clearly the likeliest.

    llama.cpp looks GELU up in a table of half precision, so its rows of pictures differ a little.
    """
    import torch

    mean, deviation = np.float32(MEAN), np.float32(DEVIATION)
    pictures = [(picture_of_noise(*size).astype(np.float32) / 255 - mean) / deviation for size in sizes]
    height, width = (max(picture.shape[side] for picture in pictures) for side in (0, 1))
    pixels = np.zeros((len(pictures), 3, height, width), np.float32)
    for index, picture in enumerate(pictures):
        pixels[index, :, : picture.shape[0], : picture.shape[1]] = picture.transpose(2, 0, 1)
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(COUNT):
            logits = model(
                input_ids=torch.tensor([ids]),
                pixel_values=torch.tensor(pixels),
                image_sizes=torch.tensor([picture.shape[:2] for picture in pictures]),
                use_cache=False,
            ).logits
            best = logits[0, -1].topk(2)
            if float(best.values[0] - best.values[1]) < CLEAR:
                break
            ids.append(int(best.indices[0]))
    return ids[len(prompt) :]


def main() -> None:
    """Write the file."""
    import torch
    from transformers import AutoModelForImageTextToText

    found = {}
    for kind, questions in QUESTIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            model = AutoModelForImageTextToText.from_pretrained(
                make_folder(Path(folder), kind), dtype=torch.float32, attn_implementation="eager"
            ).eval()
        prompts = [prompt_of(kind, sizes) for sizes in questions]
        found[kind] = [
            {"prompt": prompt, "greedy": greedy(model, prompt, sizes)}
            for prompt, sizes in zip(prompts, questions, strict=True)
        ]
    TARGET.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
