"""Verification finds what it is there to find: a flipped bit, rows of another place, another header."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chat.ground.errors import ChatError, DataError
from chat.ground.gguf_reader import read_gguf
from chat.ground.progress import Silent
from convert import pipeline
from convert.gguf_file import PartialFile
from convert.pipeline import Options, convert
from convert.stream import Checksum, Job, checksum_of, write_tensors
from convert.verify import verify
from tests.convert.samples import V01


def spoiled(path: Path, kind: str, spoil: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert, but spoil the partial file after it was written."""

    def write_then_spoil(jobs: tuple[Job, ...], file: PartialFile, *rest: object) -> tuple[Checksum, ...]:
        checksums = write_tensors(jobs, file, *rest)  # type: ignore[arg-type]
        spoil(file.path)
        return checksums

    monkeypatch.setattr(pipeline, "write_tensors", write_then_spoil)
    convert(Options(V01, path, kind))


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_one_flipped_bit_of_a_tensor_is_found(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flip(path: Path) -> None:
        tensors = list(read_gguf(path).tensors.values())
        at = {"first": tensors[0].offset, "middle": tensors[9].offset + 5}.get(
            place, tensors[-1].offset + tensors[-1].bytes - 1
        )
        raw = bytearray(path.read_bytes())
        raw[at] ^= 4
        path.write_bytes(raw)

    with pytest.raises(DataError, match="reads back differently"):
        spoiled(tmp_path / "out.gguf", "Q4_K_M", flip, monkeypatch)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_header_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def damage(path: Path) -> None:
        raw = bytearray(path.read_bytes())
        raw[8:16] = struct.pack("<Q", 32)
        path.write_bytes(raw)

    with pytest.raises(ChatError):
        spoiled(tmp_path / "out.gguf", "Q8_0", damage, monkeypatch)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_XS"])
def test_rows_of_another_place_are_found_in_every_type(kind: str, tmp_path: Path) -> None:
    """The bytes are those that were written, but written from the wrong rows."""
    out = tmp_path / "out.gguf"
    convert(Options(V01, out, kind))
    jobs = pipeline.make_jobs(pipeline.make_draft(Options(V01, out, kind)))
    verify(out, jobs, (), Silent())
    swapped = {
        "blk.0.ffn_gate.weight": "blk.0.ffn_up.weight",
        "blk.1.attn_k.weight": "blk.1.attn_v.weight",
        "blk.2.ffn_norm.weight": "blk.2.attn_norm.weight",
    }
    rows = {job.tensor.name: job.rows for job in jobs}
    for name, other in swapped.items():
        wrong = tuple(replace(job, rows=rows[other]) if job.tensor.name == name else job for job in jobs)
        with pytest.raises(DataError, match=rf"`{name}` differs from its source in row 0 by "):
            verify(out, wrong, (), Silent())


def test_verification_can_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "verify", lambda *_: pytest.fail("verified"))
    report = convert(Options(V01, tmp_path / "out.gguf", verify=False))
    assert (report.verified, set(report.seconds)) == (False, {"write", "total"})


def test_a_checksum_changes_with_every_word_and_counts_the_last_bytes() -> None:
    raw = np.random.default_rng(0).integers(0, 256, 1003, dtype=np.uint8).tobytes()
    expected = sum(int.from_bytes(raw[at : at + 8], "little") for at in range(0, 1003, 8)) % (1 << 64)
    assert checksum_of(raw) == checksum_of(memoryview(raw)) == expected
    for at in range(1003):
        assert checksum_of(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]) != expected
    assert checksum_of(b"") == 0
