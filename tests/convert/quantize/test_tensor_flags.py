"""`--imatrix` and `--tensor-type` as a user gives them, and what `-v` adds to an error."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat.cli.main import run
from chat.gguf.reader import read_gguf
from tests.convert.imatrix_files import measure, write_gguf
from tests.convert.samples import make_checkpoint


def test_a_matrix_and_single_types_reach_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, full, out = make_checkpoint(tmp_path / "model"), tmp_path / "full.gguf", tmp_path / "out.gguf"
    assert run(["convert", str(folder), "-t", "BF16", "-q", "-o", str(full)]) == 0
    matrix = write_gguf(tmp_path / "i.gguf", measure(full))
    flags = ["--imatrix", str(matrix), "--tensor-type", r"attn_q\.weight=Q8_0"]
    assert run(["convert", str(folder), "-t", "Q4_0", "-q", "-o", str(out), *flags]) == 0
    capsys.readouterr()
    made = read_gguf(out)
    queries = {info.type for name, info in made.tensors.items() if name.endswith("attn_q.weight")}
    keys = {info.type for name, info in made.tensors.items() if name.endswith("attn_k.weight")}
    assert (queries, keys) == ({"Q8_0"}, {"Q4_0"})
    assert made.metadata["quantize.imatrix.file"] == str(matrix)[:127]


def test_verbose_shows_where_an_error_comes_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").mkdir()
    assert run(["convert", str(tmp_path / "model")]) == 3
    plain = capsys.readouterr().err
    assert run(["convert", str(tmp_path / "model"), "-v"]) == 3
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback (most recent call last):\n")
    assert shown.endswith(plain)
    assert "Traceback" not in plain
