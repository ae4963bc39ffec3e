"""`--calibrate`: the numbers of llama-imatrix, what is left on the disk, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chat.cli.bench_quality import SAMPLE
from chat.cli.main import run
from chat.core.calibration import CalibrationQuestion, CalibrationReport
from chat.errors import ModelError
from chat.gguf.reader import read_gguf
from chat.llama.activations import ColumnSums, add_experts, add_rows, tensor_name
from chat.system.terminal_text import size_text
from chat.worker import calibration as measurement
from chat.worker.protocol import build, from_line, to_line
from convert import calibration, from_checkpoint
from convert.checkpoint.folder import open_checkpoint
from convert.draft import ConversionOptions
from convert.output import gguf_writer
from convert.pipeline import convert
from convert.quantize.calibrate import calibration_warnings
from convert.quantize.imatrix import read_imatrix
from tests.convert.samples import Sizes, make_checkpoint, tensor_bytes

REFERENCES = Path(__file__).parent / "llama_imatrix"
SIZES = Sizes(layers=1, width=64, heads=2, kv_heads=1, hidden=64, experts=4)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Two chunks of the tiny vocabulary."""
    path = tmp_path / "text.txt"
    path.write_bytes(SAMPLE.read_bytes()[:1500])
    return path


def assert_same_matrix(found: Path, expected: Path) -> None:
    """Compare all keys, the tensors' places, the counts, and the means within the two programs' rounding."""
    ours, ours_bytes = tensor_bytes(found)
    theirs, theirs_bytes = tensor_bytes(expected)
    assert list(ours.metadata) == list(theirs.metadata)
    same = ("general.type", "imatrix.chunk_size")
    assert [ours.metadata[key] for key in same] == [theirs.metadata[key] for key in same]
    assert [(info.name, info.shape, info.offset) for info in ours.tensors.values()] == [
        (info.name, info.shape, info.offset - theirs.data_offset + ours.data_offset) for info in theirs.tensors.values()
    ]
    for name, data in theirs_bytes.items():
        if name.endswith(".counts"):
            assert ours_bytes[name] == data
    means = read_imatrix(expected).values
    assert means.keys() == read_imatrix(found).values.keys()
    for name, values in read_imatrix(found).values.items():
        np.testing.assert_allclose(values, means[name], rtol=5e-4, err_msg=name)


@pytest.mark.engine
def test_a_model_with_a_window_gives_the_matrix_of_llama_imatrix(
    converted: Callable[..., Path], tmp_path: Path
) -> None:
    """`llama-imatrix -m FILE -f text.txt --no-repack --no-ppl`; the window is of 64 tokens.

    Of three chunks llama-imatrix leaves out the last two rows each, and then counts one chunk less.
    """
    messages: list[dict[str, Any]] = []
    three_chunks = SAMPLE.read_bytes()[:2600].decode()
    matrix = tmp_path / "matrix.gguf"
    asked = CalibrationQuestion(str(converted("mistral-v0.1")), three_chunks, "text.txt", str(matrix))
    measurement.answer(from_line(to_line(asdict(asked))), messages.append)
    report = build(CalibrationReport, from_line(to_line(messages.pop()))["report"])
    assert messages == [{"chunks": 3}, *[{"read": 1}] * 3]
    assert (report.chunks, report.chunk_size, report.experts) == (3, 512, 0)
    assert read_gguf(matrix).metadata["imatrix.datasets"] == ("text.txt",)
    assert_same_matrix(matrix, REFERENCES / "mistral-v0.1.gguf")


@pytest.mark.engine
@pytest.mark.slow
def test_experts_are_measured_and_the_file_is_the_one_that_the_matrix_makes(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The F32 file is run itself; a checkpoint is read as Q8_0 first, which is gone afterwards."""
    folder, exact = make_checkpoint(tmp_path / "model", SIZES), tmp_path / "exact.gguf"
    convert(ConversionOptions(folder, exact, "F32", verify=False))
    out = tmp_path / "new" / "out.gguf"
    out.parent.mkdir()
    command = ["convert", "-t", "Q4_0", "--no-verify", "-o", str(out)]
    assert run([*command, str(exact), "--calibrate", str(text)]) == 0
    matrix = out.with_name("out.imatrix.gguf")
    printed, notes = capsys.readouterr()
    assert printed == f"{out}\n"
    tensors = len(read_imatrix(matrix).values)
    assert notes.splitlines()[0] == (
        f"importance matrix: {matrix}, {tensors} tensors measured in 2 chunks of 512 tokens"
    )
    assert_same_matrix(matrix, REFERENCES / "mixtral.gguf")
    again = tmp_path / "again.gguf"
    convert(ConversionOptions(exact, again, "Q4_0", imatrix=matrix, verify=False))
    assert out.read_bytes() == again.read_bytes()

    assert run([*command, str(folder), "--calibrate", str(text), "--overwrite", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report["seconds"]) == {"calibrate", "write", "total"}
    assert sorted(path.name for path in out.parent.iterdir()) == ["out.gguf", "out.imatrix.gguf"]
    exactly, nearly = read_imatrix(REFERENCES / "mixtral.gguf").values, read_imatrix(matrix).values
    assert exactly.keys() == nearly.keys()
    for name in ("blk.0.attn_q.weight", "blk.0.attn_output.weight"):
        np.testing.assert_allclose(nearly[name], exactly[name], rtol=0.1)


@pytest.mark.parametrize("chunks", range(1, 13))
def test_a_chunk_is_read_whole_in_batches(chunks: int) -> None:
    """Three last chunks have two rows apart, as llama-imatrix computes 170 rows of each at a time."""
    apart = [measurement.rows_apart(number, chunks) for number in range(chunks)]
    assert apart == [0] * (chunks - 3) + [2] * 3 if chunks % 4 == 3 else apart == [0] * chunks
    for batch in (170, 256, 512):
        parts = list(measurement.parts_of(512, batch, apart=apart[-1]))
        assert [row for start, stop in parts for row in range(start, stop)] == list(range(512))
        assert max(stop - start for start, stop in parts) <= batch
        assert not apart[-1] or parts[-1] == (510, 512)


def test_several_matrices_of_a_tensor_are_summed_each() -> None:
    """Inputs of more heads than the tensor has matrices use them in turn, as ggml multiplies."""
    inputs = np.random.default_rng(1).standard_normal((2, 4, 5, 3), dtype=np.float32)
    sums = ColumnSums(np.zeros((2, 3)), np.zeros(1, np.int64))
    add_rows(sums, inputs, (1, 2))
    expected = [(inputs[:, place::2].astype(np.float64) ** 2).sum((0, 1, 2)) for place in (0, 1)]
    np.testing.assert_allclose(sums.squares, expected, rtol=1e-6)
    assert sums.counts.tolist() == [20]


@pytest.mark.parametrize("width", [1, 2])
def test_an_expert_sums_the_inputs_of_its_tokens(width: int) -> None:
    inputs = np.random.default_rng(2).standard_normal((4, width, 3), dtype=np.float32)
    chosen = np.array([[0, 2], [2, 0], [3, 2], [0, 3]], np.int32)
    sums = ColumnSums(np.zeros((4, 3)), np.zeros(4, np.int64))
    add_experts(sums, inputs, chosen)
    expected = np.zeros((4, 3))
    for token, experts in enumerate(chosen):
        for slot, expert in enumerate(experts):
            expected[expert] += inputs[token, slot % width].astype(np.float64) ** 2
    np.testing.assert_allclose(sums.squares, expected, rtol=1e-6)
    assert sums.counts.tolist() == [3, 0, 3, 2]


def test_the_scheduler_s_names_of_copies_are_undone() -> None:
    names = ["blk.0.attn_k.weight", "CUDA0#blk.0.attn_k.weight#0", "CUDA0#blk.0.attn_k.weight"]
    assert {tensor_name(name) for name in names} == {"blk.0.attn_k.weight"}


def test_experts_that_no_token_reached_are_told() -> None:
    assert calibration_warnings(CalibrationReport(2, 512, 9, 12, 0)) == ()
    (warning,) = calibration_warnings(CalibrationReport(2, 512, 9, 12, 3))
    assert warning.startswith("the text never reached 3 of 12 matrices of experts")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-t", "Q8_0"], 2, "`--calibrate` changes nothing in Q8_0"),
        (["-t", "F16"], 2, "`--calibrate` goes with a quantized type, not with F16"),
        (["--imatrix", "m.gguf"], 2, "`--imatrix` and `--calibrate` cannot be used together"),
        (["--calibrate", "none.txt"], 7, "none.txt: cannot be read: No such file or directory"),
        (["--calibrate", "."], 7, ".: cannot be read: Is a directory"),
        (["--calibrate", "latin.txt"], 6, "latin.txt: is not UTF-8 text (byte 3)"),
        (["--calibrate", "zeros.bin"], 6, "zeros.bin: is not text, but a binary file"),
        (["-o", "taken.gguf"], 7, "taken.imatrix.gguf exists already"),
    ],
)
def test_what_cannot_be_calibrated_is_one_sentence(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    make_checkpoint(Path("model"), SIZES)
    Path("text.txt").write_text("word " * 2000)
    Path("latin.txt").write_bytes(b"caf\xe9 au lait")
    Path("zeros.bin").write_bytes(b"\0" * 4000)
    Path("taken.imatrix.gguf").write_bytes(b"")
    before = sorted(tmp_path.iterdir())
    assert run(["convert", "model", "--calibrate", "text.txt", *arguments]) == code
    output, errors = capsys.readouterr()
    assert (output, errors.splitlines()[0]) == ("", f"error: {message}")
    assert sorted(tmp_path.iterdir()) == before


def test_a_gguf_needs_a_type_and_an_adapter_takes_no_text(
    converted: Callable[..., Path], text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = converted("mistral-v0.1")
    assert run(["convert", str(model), "--calibrate", str(text)]) == 2
    assert "error: `--calibrate` needs a type for the rest of a GGUF\n" in capsys.readouterr().err
    assert run(["convert", str(model), "--calibrate", str(text), "--base", str(model)]) == 2
    assert "error: `--calibrate` has no effect on an adapter\n" in capsys.readouterr().err


def test_a_dry_run_says_what_would_be_read_and_written(
    tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = make_checkpoint(tmp_path / "model", SIZES), tmp_path / "out.gguf"
    command = ["convert", str(folder), "-t", "Q4_0", "-o", str(out), "--calibrate", str(text), "--dry-run"]
    assert run(command) == 0
    note = capsys.readouterr().err.splitlines()[0]
    size = calibration.plan_calibration(ConversionOptions(folder, out, "Q4_0", calibrate=text)).temporary
    assert size is not None
    assert note == (
        f"{text} would be read with a temporary Q8_0 file of {size_text(size.size)} beside the output, "
        f"and the importance matrix written to {tmp_path / 'out.imatrix.gguf'}"
    )
    (tmp_path / "out.imatrix.gguf").write_bytes(b"")
    assert run([*command, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["calibration"] == {
        "imatrix": str(tmp_path / "out.imatrix.gguf"),
        "temporary_bytes": size.size,
    }
    assert plan["warnings"][-1].startswith(f"{tmp_path / 'out.imatrix.gguf'} exists already: use it with `--imatrix`")
    assert not out.exists()


def test_a_checkpoint_is_opened_once(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []

    def open_and_count(folder: Path) -> Any:
        opened.append(folder)
        return open_checkpoint(folder)

    def measure(_model: Path, _text: object, matrix: Path, **_: object) -> CalibrationReport:
        matrix.write_bytes((REFERENCES / "mixtral.gguf").read_bytes())
        return CalibrationReport(2, 512, 9, 12, 0)

    monkeypatch.setattr(from_checkpoint, "open_checkpoint", open_and_count)
    monkeypatch.setattr(calibration, "measure_importance", measure)
    monkeypatch.setattr(calibration, "check_length", lambda *_: None)
    folder, out = make_checkpoint(tmp_path / "model", SIZES), tmp_path / "out.gguf"
    convert(ConversionOptions(folder, out, "Q4_0", calibrate=text, verify=False, show_progress=False))
    assert opened == [folder]
    again, matrix = tmp_path / "again.gguf", tmp_path / "out.imatrix.gguf"
    convert(ConversionOptions(folder, again, "Q4_0", imatrix=matrix, verify=False, show_progress=False))
    assert out.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("error", [ModelError("the model computes NaN"), KeyboardInterrupt()])
def test_a_measurement_that_fails_or_is_stopped_leaves_nothing(
    error: BaseException, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(model: Path, *_: Any, **__: Any) -> None:
        assert model.name == ".out.gguf.calibration.partial"
        assert read_gguf(model).type_name == "Q8_0"
        raise error

    monkeypatch.setattr(calibration, "measure_importance", fail)
    monkeypatch.setattr(calibration, "check_length", lambda *_: None)
    folder, out = make_checkpoint(tmp_path / "model", SIZES), tmp_path / "new" / "out.gguf"
    out.parent.mkdir()
    with pytest.raises(type(error)):
        convert(ConversionOptions(folder, out, "Q4_0", calibrate=text, show_progress=False))
    assert list(out.parent.iterdir()) == []


@pytest.mark.engine
def test_a_text_that_is_too_short_is_refused_before_a_weight_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_weights(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(calibration, "write_tensors", no_weights)
    folder, text, out = make_checkpoint(tmp_path / "model", SIZES), tmp_path / "text.txt", tmp_path / "new" / "out.gguf"
    text.write_text("a few words")
    out.parent.mkdir()
    assert run(["convert", str(folder), "-o", str(out), "--calibrate", str(text)]) == 6
    errors = capsys.readouterr().err.splitlines()
    assert errors[0].startswith("error: the text has ")
    assert errors[0].endswith(" tokens, but chunks of 512 need 1,024 at least")
    assert errors[1] == "hint: give `--calibrate` a longer text"
    assert list(out.parent.iterdir()) == []


def test_the_space_for_the_temporary_file_is_asked_for_before_any_work(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = make_checkpoint(tmp_path / "model", SIZES), tmp_path / "out.gguf"
    plan = calibration.plan_calibration(ConversionOptions(folder, out, "Q4_0", calibrate=text))
    assert plan.temporary is not None and plan.temporary.size > plan.drafts[0].size
    usage = shutil.disk_usage(tmp_path)
    free = usage._replace(free=plan.drafts[0].size)
    monkeypatch.setattr(gguf_writer.shutil, "disk_usage", lambda _: free)
    fault = plan.fault(overwrite=False)
    assert fault is not None
    assert "are needed for a while, for the Q8_0 file that reads the text" in fault.message
