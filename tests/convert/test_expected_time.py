"""The time that a dry run tells: counted from what a part of the work takes, whatever the weights are."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from convert import expected_time
from convert.draft import ConversionOptions
from convert.drafting import make_drafts
from convert.expected_time import SYNC_BYTES_PER_SECOND, TRIAL_SECONDS, expected_seconds, time_text
from convert.output.tensor_writer import Chunk, pack
from tests.convert.samples import Sizes, hugging_face_tensors, make_checkpoint

SECONDS_PER_CHUNK = 0.01


@pytest.fixture
def packed(monkeypatch: pytest.MonkeyPatch) -> list[Chunk]:
    """The chunks that are tried, by one thread, each of which takes the same time."""
    chunks: list[Chunk] = []

    def pack_slowly(chunk: Chunk) -> list[memoryview]:
        chunks.append(chunk)
        return pack(chunk)

    clock = SimpleNamespace(monotonic=lambda: SECONDS_PER_CHUNK * len(chunks))
    monkeypatch.setattr(expected_time, "pack", pack_slowly)
    monkeypatch.setattr(expected_time, "time", clock)
    monkeypatch.setattr(expected_time, "usable_cpus", lambda: 1)
    return chunks


def test_a_part_of_the_chunks_tells_the_time_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: list[Chunk]
) -> None:
    """Every chunk has as many numbers: 16 rows of 256."""
    monkeypatch.setattr("convert.output.tensor_writer.CHUNK_NUMBERS", 16 * 256)
    sizes = Sizes(hidden=256, kv_heads=8, vocabulary=4096)
    options = ConversionOptions(make_checkpoint(tmp_path / "model", sizes), tmp_path, "Q8_0", further_types=("F16",))
    drafts = make_drafts(options)
    seconds = expected_seconds(drafts, is_whole=True, is_verified=True)
    rows = sum(tensor.row_count for tensor in drafts[0].plan.tensors if tensor.columns == 256 and tensor.row_count > 1)
    others = 2 * TRIAL_SECONDS + sum(draft.size for draft in drafts) / SYNC_BYTES_PER_SECOND
    assert seconds == pytest.approx(SECONDS_PER_CHUNK * rows / 16 + others, rel=0.01)
    assert len(packed) < rows / 16 / 10


def test_weights_that_are_not_here_are_made_up_and_damaged_ones_do_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = {name: tensor.copy() for name, tensor in hugging_face_tensors(Sizes(layers=1)).items()}
    for tensor in tensors.values():
        tensor[...] = 0x7FC0  # NaN
    drafts = make_drafts(ConversionOptions(make_checkpoint(tmp_path / "model", Sizes(layers=1), tensors)))
    assert expected_seconds(drafts, is_whole=True, is_verified=False) > 0

    def no_weights(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("convert.checkpoint.rows.MappedRows.read", no_weights)
    assert expected_seconds(drafts, is_whole=False, is_verified=False) > 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "under a second"),
        (7.3, "about 7 s"),
        (52.0, "about 50 s"),
        (140.0, "about 2 min"),
        (7200.0, "about 2.0 h"),
    ],
)
def test_a_time_is_rounded(seconds: float, text: str) -> None:
    assert time_text(seconds) == text
