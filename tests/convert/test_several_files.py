"""Several types in one reading: the files of single conversions, all of them or none."""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chat.cli.main import run
from chat.errors import DataError, FileError
from convert import pipeline
from convert.checkpoint.rows import MappedRows
from convert.draft import ConversionOptions
from convert.lora.merge import ChangedRows
from convert.output import gguf_writer
from convert.pipeline import convert, convert_all
from convert.quantize.kernels import PackedRows
from tests.convert import imatrix_files
from tests.convert.adapters import linear_modules, pairs_for, write_peft
from tests.convert.samples import V03, Sizes, hugging_face_tensors, make_checkpoint

TYPES = ("Q4_K_M", "Q5_K_M", "F16")
SMALL = Sizes(layers=1)


@pytest.fixture(autouse=True)
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried out here is tried out in single conversions elsewhere."""
    monkeypatch.setattr(pipeline, "try_out", lambda _: None)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[Any]:
    """Counts how often each run of rows is read, merged or copied."""
    counted: Counter[Any] = Counter()
    for kind, name in ((MappedRows, "read_stored"), (ChangedRows, "read"), (PackedRows, "raw")):
        real = getattr(kind, name)

        def count(self: Any, start: int, stop: int, real: Callable[..., Any] = real) -> Any:
            counted[id(self), start, stop] += 1
            return real(self, start, stop)

        monkeypatch.setattr(kind, name, count)
    return counted


def merged(tmp_path: Path) -> dict[str, Any]:
    tensors = hugging_face_tensors(SMALL)
    adapter = write_peft(tmp_path / "poet", pairs_for(tensors, linear_modules(tensors)))
    return {"source": make_checkpoint(tmp_path / "model", SMALL, tensors), "adapters": ((adapter, 1.0),)}


def from_f16(tmp_path: Path) -> dict[str, Any]:
    model = make_checkpoint(tmp_path / "model", SMALL)
    convert(ConversionOptions(model, tmp_path / "model-F16.gguf", "F16", verify=False))
    return {"source": tmp_path / "model-F16.gguf"}


def from_q8_0(tmp_path: Path) -> dict[str, Any]:
    """Whose bytes one of the files takes over, and the other unpacks."""
    model = make_checkpoint(tmp_path / "model", SMALL)
    convert(ConversionOptions(model, tmp_path / "model-Q8_0.gguf", "Q8_0", verify=False))
    return {"source": tmp_path / "model-Q8_0.gguf", "types": ("Q8_0", "Q4_K_M")}


def with_a_matrix(tmp_path: Path) -> dict[str, Any]:
    source = from_f16(tmp_path)["source"]
    matrix = imatrix_files.write_gguf(tmp_path / "matrix.gguf", imatrix_files.measure(source))
    return {"source": source, "imatrix": matrix}


@pytest.mark.parametrize("make", [merged, from_f16, from_q8_0, with_a_matrix])
def test_each_file_is_that_of_a_single_conversion_and_rows_are_read_once(
    make: Callable[[Path], dict[str, Any]], tmp_path: Path, reads: Counter[Any]
) -> None:
    arguments = {"verify": False, "show_progress": False, **make(tmp_path)}
    types = arguments.pop("types", TYPES)
    folder, single = tmp_path / "made", tmp_path / "single"
    folder.mkdir(), single.mkdir()
    reads.clear()
    first, *further = types
    reports = convert_all(ConversionOptions(**arguments, output=folder, type=first, further_types=tuple(further)))
    assert [report.type for report in reports] == [*types]
    large = {place: times for place, times in reads.items() if place[2] - place[1] > 1}  # fingerprints read no rows
    assert set(large.values()) == {1}
    for report in reports:
        arguments["imatrix"] = None if report.type == "F16" else arguments.get("imatrix")
        path = single / Path(report.output).name
        convert(ConversionOptions(**arguments, output=path, type=report.type))
        assert path.read_bytes() == Path(report.output).read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in single.iterdir())


def test_each_path_is_a_line_and_json_has_a_report_of_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["convert", str(make_checkpoint(tmp_path / "model", SMALL)), "-t", "Q4_K_M", "-t", "q8_0"]
    names = ["model-Q4_K_M.gguf", "model-Q8_0.gguf"]
    assert run([*command, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert run([*command, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines if line.startswith("model-")] == names
    assert run(command) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == names
    assert [line.partition(",")[0] for line in shown.err.splitlines()] == ["Q4_K_M", "Q8_0"]
    assert run([*command, "--overwrite", "--json", "-q"]) == 0
    written = json.loads(capsys.readouterr().out)["outputs"]
    assert [report["output"] for report in written] == names
    assert all(report["verified"] and set(report["seconds"]) == {"write", "verify", "total"} for report in written)
    assert [each["size"] for each in plan["outputs"]] == [Path(name).stat().st_size for name in names]
    assert {"plan", "free_bytes"} <= plan["outputs"][1].keys()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["-t", "Q4_K_M", "-t", "Q8_0", "-o", "x.gguf"],
            2,
            "error: `-o x.gguf` is not a folder, and 2 files are to be written\n"
            "hint: name an existing folder with `-o`, or leave it out\n",
        ),
        (["-t", "Q8_0", "-t", "q8_0"], 2, "error: `-t Q8_0` is given twice\n"),
        (["-t", "Q8_0", "-t", "Q3_K_M"], 2, "error: unknown type `Q3_K_M`\n"),
        (
            ["-t", "Q8_0", "-t", "F16", "--tensor-type", "attn_v=Q6_K"],
            2,
            "error: `--tensor-type` goes with a quantized type, not with F16\n",
        ),
        (["-t", "BF16", "-t", "F16", "--imatrix", "m.gguf"], 2, "error: `--imatrix` goes with a quantized type, not "),
        (["-t", "Q8_0", "-t", "F16", "--calibrate", "t.txt"], 2, "error: `--calibrate` changes nothing in Q8_0 and F1"),
        (["-t", "F16", "-t", "Q8_0"], 7, "error: ./model-Q8_0.gguf exists already\n"),
    ],
)
def test_what_cannot_be_written_together_is_one_sentence(
    arguments: list[str],
    code: int,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    make_checkpoint(tmp_path / "model", SMALL)
    Path("model-Q8_0.gguf").write_bytes(b"old")
    Path("t.txt").write_text("word " * 2000)
    assert run(["convert", "model", *arguments]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(words.replace("./", ""))
    assert {path.name for path in tmp_path.iterdir()} == {"model", "model-Q8_0.gguf", "t.txt"}


def test_the_files_must_fit_on_the_disk_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ConversionOptions(make_checkpoint(tmp_path / "model", SMALL), tmp_path, "Q4_K_M", further_types=("Q8_0",))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(FileError, match=r"1 MB are needed for 2 files, \d+ kB more than are free"):
        convert_all(options)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("fails", ["verify", "replace", "fsync"])
def test_if_one_file_fails_none_is_left(fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    module, name = (pipeline, "verify") if fails == "verify" else (gguf_writer.os, fails)
    real = getattr(module, name)

    def fail_second(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise DataError("it differs") if fails == "verify" else OSError(errno.EIO, os.strerror(errno.EIO))
        return real(*arguments, **named)

    monkeypatch.setattr(module, name, fail_second)
    folder = tmp_path / "made"
    folder.mkdir()
    options = ConversionOptions(make_checkpoint(tmp_path / "model", SMALL), folder, "Q4_K_M", further_types=("Q8_0",))
    with pytest.raises(DataError if fails == "verify" else FileError):
        convert_all(options)
    assert list(folder.iterdir()) == []


def test_an_adapter_is_written_in_several_types(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors = hugging_face_tensors(SMALL)
    poet = write_peft(tmp_path / "poet", pairs_for(tensors, linear_modules(tensors)))
    base = make_checkpoint(tmp_path / "model", SMALL, tensors)
    command = ["convert", str(poet), "--base", str(base)]
    assert run([*command, "-t", "F16", "-t", "Q8_0", "-o", str(tmp_path), "-q"]) == 0
    paths = [tmp_path / "poet-F16.gguf", tmp_path / "poet-Q8_0.gguf"]
    assert capsys.readouterr().out.splitlines() == [str(path) for path in paths]
    assert run([*command, "-t", "Q8_0", "-o", str(tmp_path / "single.gguf"), "-q"]) == 0
    assert (tmp_path / "single.gguf").read_bytes() == paths[1].read_bytes()


def test_one_matrix_is_named_after_all_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("word " * 2000)
    command = ["convert", str(V03), "-o", str(tmp_path), "-t", "Q4_K_M", "-t", "Q8_0", "-t", "F16"]
    assert run([*command, "--calibrate", str(text), "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["calibration"]["imatrix"] == str(tmp_path / "mistral-v0.3.imatrix.gguf")
