"""The whole path against transformers: a converted checkpoint's logits at every position of the reference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from chat.llama.context import LlamaContext
from tests.folders import CHECKPOINTS


@pytest.mark.parametrize("batch", [64, 50, 7])
@pytest.mark.parametrize("name", ["mistral-v0.1", "mistral-v0.3"])
def test_logits_are_those_of_transformers_across_the_window(
    name: str, batch: int, tiny_model: Path, tiny_v3_model: Path, open_decoder: Callable[..., LlamaContext]
) -> None:
    """v0.1 has a window of 64, so that batches of 50 and 7 cross its edge at many places."""
    windowed = name == "mistral-v0.1"
    reference = np.load(CHECKPOINTS / name / "logits.npz")
    ids, expected = reference["ids"].tolist(), reference["logits"]
    decoder = open_decoder(tiny_model if windowed else tiny_v3_model, batch=batch, outputs=batch, rolling=windowed)
    worst = 0.0
    for start in range(0, len(ids), batch):
        part = ids[start : start + batch]
        assert decoder.feed(part, len(part))
        for row in range(len(part)):
            worst = max(worst, float(np.abs(decoder.logits(row) - expected[start + row]).max()))
    print(f"worst difference {worst:.1e}")
    assert worst < 2e-3
