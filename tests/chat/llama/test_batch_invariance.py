"""Rows of quantized weights have the same bits one by one and up to seven at once, in every type that is said to."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from chat.gguf.reader import read_gguf
from chat.llama.batch_invariance import INVARIANT_TYPES, MAX_BATCH_INVARIANT_ROWS
from chat.llama.context import LlamaContext
from tests.chat.tiny_models import Array
from tests.grids import FULL

CHECKPOINT = "mistral-v0.1"  # its window is 64
RECIPES = ("Q8_0", "Q4_0", "Q4_K_S", "IQ4_XS")  # of several types each
FIRST, COUNT = 60, 84  # ids that are read at once, and then so many row by row; 84 divides by 1, 2, 3, 4, 6 and 7
IDS = [3 + (at * 7919) % 390 for at in range(FIRST + COUNT)]

Open = Callable[..., LlamaContext]


@pytest.fixture(scope="module")
def files(converted: Callable[..., Path]) -> dict[str, Path]:
    """The same model in each recipe."""
    return {recipe: converted(CHECKPOINT, recipe) for recipe in RECIPES}


def logits(decoder: LlamaContext, rows: int) -> Array:
    """Logits of all ids but the first ones, so many rows at a time."""
    decoder.clear()
    decoder.feed(IDS[:FIRST])
    found: list[Array] = []
    for at in range(FIRST, len(IDS), rows):
        count = min(rows, len(IDS) - at)
        decoder.feed(IDS[at : at + count], count)
        found += [decoder.logits(row).copy() for row in range(count)]
    return np.array(found)


def opened(open_decoder: Open, file: Path, threads: int) -> LlamaContext:
    """A decoder with a rolling window, the cells of which begin to be given back on the way."""
    settings = {"cells": 128, "rolling": True, "kv_type": "f16", "flash_attention": "on", "threads": threads}
    return open_decoder(file, **settings)


@pytest.mark.slow
def test_the_recipes_hold_every_type_that_is_said_to_be_equal(files: dict[str, Path]) -> None:
    tensors = [tensor for file in files.values() for tensor in read_gguf(file).tensors.values()]
    assert {tensor.type for tensor in tensors if len(tensor.shape) > 1} == INVARIANT_TYPES


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2] if FULL else [1])
@pytest.mark.parametrize("recipe", RECIPES)
def test_rows_are_bit_equal_up_to_seven_also_past_the_window(
    recipe: str, threads: int, files: dict[str, Path], open_decoder: Open
) -> None:
    decoder = opened(open_decoder, files[recipe], threads)
    one_by_one = logits(decoder, 1)
    assert len(one_by_one) == COUNT
    differing = [
        n for n in range(2, MAX_BATCH_INVARIANT_ROWS + 1) if not np.array_equal(logits(decoder, n), one_by_one)
    ]
    assert differing == []


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="another machine's llama.cpp may compute more rows alike")
def test_eight_rows_are_computed_in_another_way(files: dict[str, Path], open_decoder: Open) -> None:
    """Were they alike, drafts and batches could be wider: then look at `MAX_BATCH_INVARIANT_ROWS` again."""
    decoder = opened(open_decoder, files["Q4_K_S"], 1)
    assert not np.array_equal(logits(decoder, MAX_BATCH_INVARIANT_ROWS + 1), logits(decoder, 1))
