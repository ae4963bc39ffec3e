"""What each part of a model takes is counted from its file, as llama.cpp counts it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chat.gguf.reader import read_gguf
from chat.llama.memory_estimate import ModelSizes, cache_bytes, gpu_share, sizes_of, work_bytes
from chat.llama.sliding_window import Window

LAYER, EMBEDDING = 130_000_000, 74_000_000
SEVEN = ModelSizes(
    path="7B.gguf",
    layer_bytes=(LAYER,) * 32,
    input_bytes=EMBEDDING,
    output_bytes=107_000_000,
    cell_numbers=2048,
    windowed=(True,) * 32,
    hidden=4096,
    feed_forward=14336,
    heads=32,
    vocabulary=32000,
    trained_context=32768,
)
PLAIN = replace(SEVEN, windowed=(False,) * 32)
ROLLING = Window(4096, None, True)


def test_a_window_of_4096_needs_the_same_cache_at_any_length() -> None:
    assert cache_bytes(SEVEN, "f16", 4352, ROLLING, 256) == 544 << 20
    assert cache_bytes(PLAIN, "f16", 32768, Window(), 256) == 4 << 30
    assert cache_bytes(PLAIN, "q8_0", 32768, Window(), 256) == (4 << 30) * 17 // 32


def test_layers_without_the_window_hold_every_cell() -> None:
    half = replace(SEVEN, windowed=(True, False) * 16)
    assert cache_bytes(half, "f16", 32768, Window(4096), 256) == (544 << 20) // 2 + (2 << 30)


def test_work_is_what_llama_cpp_reserves() -> None:
    """Its log, in MiB, for 7B shapes: 60.13, 62.01 and 286.00."""
    for cells, scores, measured in ((4352, False, 60.13), (8192, False, 62.01), (8192, True, 286.0)):
        assert work_bytes(SEVEN, 256, cells, scores) / 2**20 == pytest.approx(measured, rel=0.05)


def test_work_of_latent_attention_is_what_llama_cpp_reserves() -> None:
    """Its log, in MiB, for 32 heads over latent vectors of 256 + 64 columns: 29.50, 35.50 and 159.50."""
    latent = replace(SEVEN, cell_numbers=320, hidden=1024, feed_forward=1536, vocabulary=512, latent_columns=768)
    for cells, scores, measured in ((4096, False, 29.5), (16384, False, 35.5), (4096, True, 159.5)):
        assert work_bytes(latent, 256, cells, scores) / 2**20 == pytest.approx(measured, rel=0.05)


def test_logits_of_many_rows_are_counted_in_the_graph_and_in_their_copy() -> None:
    """SmolLM2 with 256 rows of 49,152 logits took 98 MiB more than with none, 9 MiB with 8 of them."""
    smol = replace(SEVEN, hidden=576, feed_forward=1536, heads=9, vocabulary=49_152)
    for outputs, measured in ((8, 9), (512, 98)):
        assert work_bytes(replace(smol, outputs=outputs), 256, 512, False) / 2**20 == pytest.approx(measured, rel=0.15)


def test_the_share_of_gpus_is_that_of_what_is_multiplied_by() -> None:
    assert [round(gpu_share(SEVEN, n), 3) for n in (0, 1, 17, 33)] == [0, 0.025, 0.513, 1]


def test_sizes_are_read_from_the_file(windowed_file: Path, plain_file: Path) -> None:
    sizes = sizes_of(read_gguf(windowed_file))
    file = read_gguf(windowed_file)
    assert sizes.weights == sum(tensor.bytes for tensor in file.tensors.values())
    assert (sizes.cell_numbers, sizes.windowed, sizes.hidden, sizes.feed_forward) == (64, (True, True), 64, 96)
    assert (sizes.heads, sizes.vocabulary, sizes.trained_context) == (4, 400, 32768)
    assert sizes_of(read_gguf(plain_file)).windowed == (False, False)


@pytest.mark.parametrize(
    ("architecture", "pattern", "windowed"),
    [
        ("gemma3", None, [1, 1, 1, 1, 1, 0, 1, 1]),  # of llama.cpp's rule: every sixth sees everything
        ("gemma3", 3, [1, 1, 0, 1, 1, 0, 1, 1]),
        ("gemma3", 0, [1] * 8),
        ("gemma3", (True, False) * 4, [1, 0] * 4),
        ("gemma2", None, [1, 0] * 4),
        ("smallthinker", None, [0, 1, 1, 1, 0, 1, 1, 1]),
        ("phi3", None, [0] * 8),  # llama.cpp does without its window
        ("phi3", 2, [0] * 8),
        ("of next year", None, [0] * 8),  # too much memory is counted, not too little
        ("granite_swa", (True,) * 8, [1] * 8),
        ("llama", (True,) * 8, [0] * 8),
    ],
)
def test_layers_have_the_window_by_llama_cpps_rule(
    architecture: str, pattern: object, windowed: list[int], plain_file: Path
) -> None:
    """A Gemma 3 counted as windowed throughout: its cache at 32,768 tokens was taken for that of 1,024."""
    values = {"block_count": 8, "attention.sliding_window": 1024, "attention.sliding_window_pattern": pattern}
    metadata = {f"{architecture}.{key}": value for key, value in values.items() if value is not None}
    file = read_gguf(plain_file)
    own = {f"{architecture}.{key.partition('.')[2]}": value for key, value in file.metadata.items()}
    other = replace(file, metadata={**own, **metadata, "general.architecture": architecture})
    assert sizes_of(other).windowed == tuple(map(bool, windowed))


def test_of_keys_that_differ_by_layer_the_largest_counts(plain_file: Path) -> None:
    file = read_gguf(plain_file)
    lists = {
        "attention.head_count": (2, 4),
        "attention.head_count_kv": (2, 1),
        "feed_forward_length": (96, 64),
        "expert_used_count": (1, 3),
    }
    mixed = replace(file, metadata={**file.metadata, **{f"llama.{key}": value for key, value in lists.items()}})
    assert sizes_of(mixed) == replace(sizes_of(file), feed_forward=3 * 96)
