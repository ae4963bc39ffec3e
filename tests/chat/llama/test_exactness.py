"""granite_swa computes Mistral: logits equal a plain computation at every position, window and rolling included.

This fails loudly if a release of llama.cpp ever changes the graph that windowed files rely on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from chat.llama.context import LlamaContext
from tests.chat.conftest import PLAIN, WINDOWED
from tests.chat.tiny_models import Array, Shape, all_logits, forward, weights, write_gguf

TOLERANCE = 2e-3  # of logits as large as 20; measured 7e-4


def some_ids(shape: Shape, count: int, seed: int) -> list[int]:
    return [int(i) for i in np.random.default_rng(seed).integers(3, shape.vocabulary, count)]


@pytest.fixture(scope="module")
def expected(windowed_weights: dict[str, Array]) -> tuple[list[int], Array]:
    ids = some_ids(WINDOWED, 500, 3)
    return ids, forward(WINDOWED, windowed_weights, ids)


@pytest.mark.parametrize("sizes", [[64], [1], [50, 3, 64, 1, 17], [63, 2]], ids=str)
def test_a_window_of_64_is_exact_however_the_batches_cross_it(
    windowed_file: Path,
    expected: tuple[list[int], Array],
    open_decoder: Callable[..., LlamaContext],
    sizes: list[int],
) -> None:
    ids, wanted = expected
    decoder = open_decoder(windowed_file, cells=128, rolling=True)
    assert decoder.cells == 256
    difference = np.abs(all_logits(decoder, ids, sizes) - wanted)
    print(f"worst difference {difference.max():.1e}")
    assert difference.max() < TOLERANCE


def test_without_the_window_the_same_weights_answer_otherwise(
    windowed_file: Path, windowed_weights: dict[str, Array], open_decoder: Callable[..., LlamaContext]
) -> None:
    """The reference tells the difference: if the window were ignored, the test above would fail."""
    ids = some_ids(WINDOWED, 200, 4)
    logits = all_logits(open_decoder(windowed_file, cells=128, rolling=True), ids, [64])
    unbounded = forward(Shape(window=None), windowed_weights, ids)
    assert np.abs(logits[:64] - unbounded[:64]).max() < TOLERANCE
    assert np.abs(logits[65:] - unbounded[65:]).max() > 1.0


def test_a_plain_model_is_exact(
    plain_file: Path, plain_weights: dict[str, Array], open_decoder: Callable[..., LlamaContext]
) -> None:
    ids = some_ids(PLAIN, 300, 5)
    difference = np.abs(all_logits(open_decoder(plain_file), ids, [64, 1, 30]) - forward(PLAIN, plain_weights, ids))
    print(f"worst difference {difference.max():.1e}")
    assert difference.max() < TOLERANCE


@pytest.mark.parametrize(("window", "heads", "kv_heads"), [(1, 4, 4), (7, 4, 1), (100, 8, 2)])
def test_other_windows_and_groupings_are_exact(
    tmp_path: Path, open_decoder: Callable[..., LlamaContext], window: int, heads: int, kv_heads: int
) -> None:
    shape = Shape(window=window, heads=heads, kv_heads=kv_heads, seed=window)
    tensors = weights(shape)
    path = write_gguf(tmp_path / "model.gguf", shape, tensors)
    ids = some_ids(shape, 250, window)
    decoder = open_decoder(path, cells=64 + window, rolling=True)
    assert np.abs(all_logits(decoder, ids, [64, 1]) - forward(shape, tensors, ids)).max() < TOLERANCE


def test_the_default_cache_and_flash_attention_stay_close(
    windowed_file: Path, expected: tuple[list[int], Array], open_decoder: Callable[..., LlamaContext]
) -> None:
    ids, wanted = expected
    decoder = open_decoder(windowed_file, cells=128, rolling=True, kv_type="f16", flash_attention="on")
    difference = np.abs(all_logits(decoder, ids, [64]) - wanted)
    print(f"worst difference {difference.max():.1e}")
    assert difference.max() < 0.5
