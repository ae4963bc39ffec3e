"""Verification finds a flipped bit, exchanged rows and another header."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chat.errors import ChatError, DataError, MemoryLimitError
from chat.gguf.reader import read_gguf
from chat.system.progress import Progress, Silent
from convert import pipeline
from convert.draft import ConversionOptions
from convert.drafting import make_draft
from convert.output.tensor_writer import Checksum, Job, NewFile, checksum_of, write_tensors
from convert.output.verify import read_places, try_out, verify
from convert.pipeline import convert
from tests.convert.samples import V01, Sizes, hugging_face_tensors, make_checkpoint


def spoiled(path: Path, kind: str, spoil: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert, but spoil the partial file after it was written."""

    def write_then_spoil(
        files: Sequence[NewFile], threads: int, progress: Progress
    ) -> tuple[tuple[Checksum, ...], ...]:
        checksums = write_tensors(files, threads, progress)
        spoil(files[0].file.path)
        return checksums

    monkeypatch.setattr(pipeline, "write_tensors", write_then_spoil)
    convert(ConversionOptions(V01, path, kind))


def jobs_of(options: ConversionOptions) -> tuple[Job, ...]:
    return make_draft(options).jobs


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


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_XS"])
def test_rows_of_another_place_are_found_in_every_type(kind: str, tmp_path: Path) -> None:
    """The bytes are those that were written, but written from the wrong rows."""
    out = tmp_path / "out.gguf"
    convert(ConversionOptions(V01, out, kind))
    jobs = jobs_of(ConversionOptions(V01, out, kind))
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
    report = convert(ConversionOptions(V01, tmp_path / "out.gguf", verify=False))
    assert (report.verified, set(report.seconds)) == (False, {"write", "total"})


def test_a_checksum_changes_with_every_word_and_counts_the_last_bytes() -> None:
    raw = np.random.default_rng(0).integers(0, 256, 1003, dtype=np.uint8).tobytes()
    expected = sum(int.from_bytes(raw[at : at + 8], "little") for at in range(0, 1003, 8)) % (1 << 64)
    assert checksum_of(raw) == checksum_of(memoryview(raw)) == expected
    for at in range(1003):
        assert checksum_of(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]) != expected
    assert checksum_of(b"") == 0


@pytest.mark.usefixtures("tried_out")
@pytest.mark.parametrize("window", ["64", "off"])
@pytest.mark.slow
def test_a_token_of_the_file_is_decoded_before_it_gets_its_name(
    window: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, str | None]] = []

    def watched(path: Path) -> str | None:
        assert not (tmp_path / "out.gguf").exists()
        seen.append((path.name, try_out(path)))
        return seen[-1][1]

    monkeypatch.setattr(pipeline, "try_out", watched)
    report = convert(ConversionOptions(V01, tmp_path / "out.gguf", window=window))
    assert seen == [(".out.gguf.partial", None)]
    assert (report.verified, report.warnings) == (True, ())


@pytest.mark.usefixtures("tried_out")
@pytest.mark.parametrize("window", ["auto", "off"])
def test_a_window_narrower_than_the_trial_is_tried_out_too(window: str, tmp_path: Path) -> None:
    """The context of a file without its window was kept to 8 tokens, and the trial of 16 refused."""
    folder = make_checkpoint(tmp_path / "model", Sizes(layers=1, window=8))
    report = convert(ConversionOptions(folder, tmp_path / "out.gguf", window=window))
    assert (report.verified, report.warnings) == (True, ())


@pytest.mark.usefixtures("tried_out")
def test_a_file_that_the_engine_cannot_run_gets_no_name(tmp_path: Path) -> None:
    """Every logit is NaN: the numbers are finite, but their products are not."""
    sizes = Sizes(layers=1)
    tensors = {name: bits.copy() for name, bits in hugging_face_tensors(sizes).items()}
    for name in ("model.norm.weight", "model.layers.0.input_layernorm.weight", "lm_head.weight"):
        tensors[name][:] = 0x7F00  # bfloat16's 1.7e38
    folder = make_checkpoint(tmp_path / "model", sizes, tensors)
    with pytest.raises(DataError, match=r"^the file was written, but cannot be run: ") as caught:
        convert(ConversionOptions(folder, tmp_path / "out.gguf", "F32"))
    assert "\n" not in caught.value.message
    assert caught.value.hint == "it was removed; `--no-verify` keeps it"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


@pytest.mark.usefixtures("tried_out")
def test_a_model_too_large_for_this_machine_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MemoryLimitError(f"{tmp_path / '.out.gguf.partial'} needs 90 GiB of memory")

    monkeypatch.setattr("chat.worker.client.LocalBackend.reply", refuse)
    report = convert(ConversionOptions(V01, tmp_path / "out.gguf"))
    assert report.warnings == ("the file was not tried here: it needs 90 GiB of memory",)
    assert (tmp_path / "out.gguf").is_file()


def test_both_readers_must_agree_with_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.gguf"
    convert(ConversionOptions(V01, out, "Q8_0"))
    file, places = read_gguf(out), read_places(out)
    assert [(each.name, each.offset, each.nbytes) for each in places] == [
        (info.name, info.offset, info.bytes) for info in file.tensors.values()
    ]
    moved = (replace(places[0], offset=places[0].offset + 32), *places[1:])
    monkeypatch.setattr("convert.output.verify.read_places", lambda _: moved)
    jobs = jobs_of(ConversionOptions(V01, out, "Q8_0"))
    with pytest.raises(DataError, match=r"llama\.cpp reads other tensors than were planned"):
        verify(out, jobs, (), Silent())
    with pytest.raises(DataError, match=r"llama\.cpp cannot read what was written"):
        read_places(V01 / "config.json")
