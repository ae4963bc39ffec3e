"""The cells of a context: constant memory, rewinds that never continue wrongly, aborts that leave it usable."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat.errors import EngineError, ModelError, UsageError
from chat.llama.context import LlamaContext
from chat.llama.context_settings import ContextSettings
from chat.llama.model import LoadSettings, Model
from tests.chat.conftest import WINDOWED
from tests.chat.tiny_models import Array, forward


def ids_of(count: int, seed: int = 1) -> list[int]:
    return [int(i) for i in np.random.default_rng(seed).integers(3, 400, count)]


def read(decoder: LlamaContext, ids: list[int]) -> Array:
    """Read all ids, and return the last one's logits."""
    for at in range(0, len(ids), 64):
        assert decoder.feed(ids[at : at + 64], 1)
    return decoder.logits().copy()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
@pytest.mark.slow
def test_ten_thousand_tokens_through_a_window_of_64_take_constant_memory(
    windowed_file: Path, windowed_weights: dict[str, Array], open_decoder: Callable[..., LlamaContext]
) -> None:
    decoder = open_decoder(windowed_file, cells=128, rolling=True)
    ids = ids_of(10_000)
    for at in range(0, 2_048, 64):
        decoder.feed(ids[at : at + 64], 1)
    before = resident_bytes()
    for at in range(2_048, 10_000, 64):
        decoder.feed(ids[at : at + 64], 1)
    grown = resident_bytes() - before
    print(f"grown by {grown:,} bytes")
    assert grown < 2 << 20
    assert len(decoder.ids) == 10_000
    # With 2 layers no token sees further back than 2 windows: the last 200 ids alone decide the logits.
    near = forward(WINDOWED, windowed_weights, ids[-200:])
    assert np.abs(decoder.logits() - near[-1]).max() < 5e-3  # rotary angles of position 10,000 in float32


def test_a_rewind_within_the_cells_continues_as_a_cold_run(
    windowed_file: Path, open_decoder: Callable[..., LlamaContext]
) -> None:
    ids, other = ids_of(150), ids_of(40, 2)
    decoder = open_decoder(windowed_file, cells=128, rolling=True)
    read(decoder, ids)
    assert decoder.rewind(140) == 140
    assert list(decoder.ids) == ids[:140]
    warm = read(decoder, other)
    cold = read(open_decoder(windowed_file, cells=128, rolling=True), ids[:140] + other)
    assert np.abs(warm - cold).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("back", [1, 60, 100, 130, 160, 192, 193, 250, 400, 699])
def test_a_rewind_past_what_the_window_holds_reads_again_rather_than_wrongly(
    windowed_file: Path, open_decoder: Callable[..., LlamaContext], back: int
) -> None:
    """llama.cpp reports success for such rewinds, and a continuation would see only part of its window."""
    ids, other = ids_of(700), ids_of(5, 2)
    decoder = open_decoder(windowed_file, cells=128, rolling=True)
    read(decoder, ids)
    kept = decoder.rewind(700 - back)
    assert kept in (0, 700 - back)
    assert (kept > 0) == (back <= 256 - 64 + 1)
    warm = read(decoder, ids[kept : 700 - back] + other)
    cold = read(open_decoder(windowed_file, cells=128, rolling=True), ids[: 700 - back] + other)
    assert np.abs(warm - cold).max() < 1e-4


def test_a_rewind_to_further_than_was_read_changes_nothing(
    plain_file: Path, open_decoder: Callable[..., LlamaContext]
) -> None:
    decoder = open_decoder(plain_file)
    read(decoder, ids_of(10))
    assert (decoder.rewind(10), decoder.rewind(99), decoder.position) == (10, 10, 10)


def test_a_plain_model_rewinds_anywhere(plain_file: Path, open_decoder: Callable[..., LlamaContext]) -> None:
    ids, other = ids_of(300), ids_of(5, 2)
    decoder = open_decoder(plain_file)
    read(decoder, ids)
    assert decoder.rewind(7) == 7
    warm = read(decoder, other)
    assert np.abs(warm - read(open_decoder(plain_file), ids[:7] + other)).max() < 1e-4


def test_a_full_cache_is_an_error_with_numbers_and_the_context_stays_usable(
    plain_file: Path, open_decoder: Callable[..., LlamaContext]
) -> None:
    decoder = open_decoder(plain_file, cells=256)
    ids = ids_of(256)
    read(decoder, ids)
    assert decoder.free == 0
    with pytest.raises(EngineError, match=r"^the cache of 256 cells has no room at position 256$"):
        decoder.feed([5])
    assert list(decoder.ids) == []
    again = read(decoder, ids[:9])
    assert np.abs(again - read(open_decoder(plain_file), ids[:9])).max() < 1e-4


def test_a_quantized_cache_for_heads_of_another_size_is_said_to_be_the_reason(
    plain_file: Path, open_decoder: Callable[..., LlamaContext]
) -> None:
    """Heads of 16 in blocks of 32: it was told as too little memory, with the advice to use such a cache."""
    with pytest.raises(UsageError, match=r"^a q8_0 cache needs heads whose size is a multiple of 32") as caught:
        open_decoder(plain_file, kv_type="q8_0", flash_attention="on")
    assert caught.value.hint == "leave out `--kv-type`"


@pytest.mark.parametrize("moved_at", [40, 100, 200, 300])
@pytest.mark.slow
def test_a_moved_sequence_is_computed_with_the_same_bits(
    windowed_file: Path, open_decoder: Callable[..., LlamaContext], moved_at: int
) -> None:
    """Moved through a snapshot its cells lay in another order, and flash attention adds them up in their order."""
    settings = {"cells": 128, "rolling": True, "flash_attention": "on", "sequences": 2}
    ids = ids_of(400)
    moved, still = open_decoder(windowed_file, **settings), open_decoder(windowed_file, **settings)
    for index, token in enumerate(ids):
        if index == moved_at:
            moved.move(1, 0)
            assert list(moved.sequence_ids[0]) == ids[:index] and not moved.sequence_ids[1]
        seq_id = int(index < moved_at)
        moved_rows, still_rows = moved.feed_sequences([(seq_id, [token])]), still.feed_sequences([(0, [token])])
        assert moved_rows == {seq_id: 0} and still_rows == {0: 0}
        assert np.array_equal(moved.logits(0), still.logits(0)), index


def test_nothing_is_restored_or_saved_before_a_moved_sequence_is_copied(
    windowed_file: Path, open_decoder: Callable[..., LlamaContext]
) -> None:
    """llama.cpp copies the cells with the next batch: what is restored before would be copied in their place."""
    ids, other = ids_of(30), ids_of(20, 2)
    decoder = open_decoder(windowed_file, sequences=2)
    decoder.feed_sequences([(0, other)])
    saved = decoder.snapshot(0)
    decoder.clear(0)
    decoder.feed_sequences([(1, ids)])
    decoder.move(1, 0)
    assert not decoder.restore(saved, 1)
    with pytest.raises(EngineError, match=r"^the cache cannot be saved before a moved sequence is read further$"):
        decoder.snapshot(0)
    assert decoder.feed_sequences([(0, other)]) == {0: 19}
    warm = decoder.logits(19).copy()
    assert decoder.restore(saved, 1) and list(decoder.sequence_ids[1]) == other
    assert np.abs(warm - read(open_decoder(windowed_file), ids + other)).max() < 1e-4


@pytest.mark.slow
def test_an_abort_stops_a_batch_halfway_and_what_was_read_before_stays(
    slow_file: Path, open_decoder: Callable[..., LlamaContext]
) -> None:
    """Measured in the processor time of this thread, which other programs do not lengthen."""
    decoder = open_decoder(slow_file, cells=1024, batch=512, rolling=True)
    first = ids_of(16)
    begun = time.thread_time()
    decoder.feed(ids_of(512), 1)
    whole_seconds = time.thread_time() - begun
    decoder.clear()
    decoder.feed(first, 1)
    begun, process_begun = time.thread_time(), time.process_time()

    def abort() -> None:
        while time.process_time() - process_begun < whole_seconds / 8:
            time.sleep(0.001)
        decoder.abort()

    thread = threading.Thread(target=abort)
    thread.start()
    assert not decoder.feed(ids_of(512), 1)
    assert time.thread_time() - begun < whole_seconds / 2
    thread.join()
    assert list(decoder.ids) == first
    decoder.abort(False)
    assert decoder.feed([7, 8, 9], 1)
    warm = decoder.logits().copy()
    cold = open_decoder(slow_file, cells=1024, batch=512, rolling=True)
    cold.feed([*first, 7, 8, 9], 1)
    assert np.abs(warm - cold.logits()).max() < 1e-2


def test_a_quantized_cache_without_flash_attention_is_refused(windowed_file: Path) -> None:
    model = Model(str(windowed_file), LoadSettings())
    with pytest.raises(UsageError, match=r"^a q8_0 cache needs flash attention$"):
        LlamaContext(model, ContextSettings(256, kv_type="q8_0", flash_attention="off"))
    model.close()


@pytest.mark.parametrize(("asked", "is_used"), [("auto", True), ("on", True), ("off", False)])
def test_a_context_knows_whether_it_uses_flash_attention(windowed_file: Path, asked: Any, is_used: bool) -> None:
    """The processor's backend always has it; before, a context's own lines for debugging hid the line that tells."""
    context = LlamaContext(Model(str(windowed_file), LoadSettings()), ContextSettings(256, flash_attention=asked))
    try:
        assert context.uses_flash_attention is is_used
    finally:
        context.close()


def test_a_file_that_llama_cpp_refuses_names_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + b"\0" * 100)
    with pytest.raises(ModelError, match=r"broken.gguf cannot be loaded: .+"):
        Model(str(path), LoadSettings())
