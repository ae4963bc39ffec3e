"""`mistral-chat bench --quality` on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from chat.cli import main
from chat.cli.bench_quality import OTHER_TOKENS_NOTICE, SAMPLE_NOTICE
from chat.worker import task
from tests.program import run


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--quality", "-m", "missing.gguf"], 3, "there is no model `missing.gguf`"),
        (["--quality", "-m", "guide", "--against", "missing.gguf"], 3, "there is no model `missing.gguf`"),
        (
            ["--quality", "-m", "guide", "--text", "missing.txt"],
            7,
            "missing.txt: cannot be read: No such file or directory",
        ),
        (["--quality", "-m", "guide", "--text", "latin.txt"], 6, "latin.txt: is not UTF-8 text (byte 3)"),
        (["--quality", "-m", "guide", "-c", "15"], 2, "--context must be at least 16, not 15"),
        (["--quality", "-m", "guide", "--chunks", "0"], 2, "--chunks must be at least 1, not 0"),
        (["--quality", "-m", "guide", "-n", "8"], 2, "-n has no effect with `--quality`"),
        (["--quality", "-m", "guide", "--contexts", "64"], 2, "--contexts has no effect with `--quality`"),
        (["--against", "guide"], 2, "--against has no effect without `--quality`"),
        (["--text", "missing.txt"], 2, "--text has no effect without `--quality`"),
        (["-c", "64"], 2, "--context has no effect without `--quality`"),
        (["--chunks", "2"], 2, "--chunks has no effect without `--quality`"),
        (["-m", "guide", "-m", "guide"], 2, "only `--quality` measures several models"),
        (["--quality", "-m", "guide", "--svg", "nowhere/a.svg"], 7, "nowhere/a.svg: there is no such folder"),
        (
            ["--quality", "-m", "guide", "--gpu-layers", "some"],
            2,
            "--gpu-layers must be auto, all or a whole number from 0 to 2147483647, not 'some'",
        ),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(
    arguments: list[str],
    code: int,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("latin.txt").write_bytes(b"caf\xe9 au lait")
    assert main.run(["bench", *arguments]) == code
    output, errors = capsys.readouterr()
    assert (output, errors.splitlines()[0]) == ("", f"error: {message}")


@pytest.mark.engine
def test_a_file_that_is_no_model_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "notes.gguf"
    path.write_text("no model")
    done = run("bench", "--quality", "-m", path)
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.decode() == f"error: {path}: is not a GGUF file but something that starts with b'no m'\n"


@pytest.mark.engine
def test_several_files_become_a_table_a_picture_or_json(tiny_model: Path, tiny_v3_model: Path, tmp_path: Path) -> None:
    text, picture = tmp_path / "text.txt", tmp_path / "picture.svg"
    text.write_text("It was a bright cold day in April, and the clocks were striking thirteen.\n" * 8)
    given = ("bench", "--quality", "-m", tiny_model, "-c", "32", "--chunks", "2")
    done = run(*given, "-m", tiny_v3_model, "--text", text, "--svg", picture)
    assert (done.returncode, done.stderr.decode()) == (0, f"note: {OTHER_TOKENS_NOTICE}\n")
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("2 chunks of 32 tokens, the second half of each scored: 30 of ")
    assert [line.split()[:2] for line in lines[2:]] == [
        ["file", "type"],
        [tiny_model.name, "F32"],
        [tiny_v3_model.name, "F32"],
    ]
    assert ElementTree.parse(picture).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    done = run(*given, "--against", tiny_model, "--json")
    assert (done.returncode, done.stderr.decode()) == (0, f"note: {SAMPLE_NOTICE}\n")
    report = json.loads(done.stdout)
    assert list(report) == [
        *("build", "text_tokens", "context", "chunks", "scored_tokens", "reference", "files", "is_same_text")
    ]
    (found,) = report["files"]
    assert (found["path"], report["reference"]["path"]) == (str(tiny_model), str(tiny_model))
    assert found["perplexity"] == report["reference"]["perplexity"]
    assert (abs(found["divergence"]["mean"]["value"]) < 1e-4, found["divergence"]["same_top"]["value"]) == (True, 1)


def test_ctrl_c_ends_it_and_clears_the_progress(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> Iterator[dict[str, Any]]:
        yield {"progress": "loading", "seconds_left": None}
        raise KeyboardInterrupt

    monkeypatch.setattr(task, "run_isolated_task", interrupted)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert main.run(["bench", "--quality", "-m", "guide"]) == 130
    assert capsys.readouterr() == ("", "\r\x1b[Kloading\r\x1b[K")
