"""`mistral-chat convert` as a user sees it: messages, streams and exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from chat.cli.main import run
from chat.gguf.reader import read_gguf
from tests.convert.adapters import pair_for, write_peft
from tests.convert.samples import V01, V03, Sizes, copy_checkpoint, make_checkpoint


def test_the_path_goes_to_stdout_and_a_summary_to_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["convert", str(V01)]) == 0
    shown = capsys.readouterr()
    assert shown.out == "mistral-v0.1-Q4_K_M.gguf\n"
    assert shown.err.startswith("Q4_K_M, 1.94 million weights, 1 MB, window 64, prompt format v1, ")
    assert (tmp_path / "mistral-v0.1-Q4_K_M.gguf").is_file()


def test_quiet_says_nothing_but_the_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.gguf"
    assert run(["convert", str(V03), "-o", str(out), "-t", "q8_0", "-q"]) == 0
    assert capsys.readouterr() == (f"{out}\n", "")


def test_json_is_one_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.gguf"
    assert run(["convert", str(V03), "-o", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["output"] == str(out)
    assert report["size"] == out.stat().st_size
    assert (report["type"], report["architecture"], report["window"], report["prompt_format"], report["verified"]) == (
        "Q4_K_M",
        "llama",
        None,
        "v3",
        True,
    )


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.gguf"
    assert run(["convert", str(V01), "-o", str(out), "--dry-run"]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert len(lines) == 33 + 1
    assert re.fullmatch(r"(about \d+ (s|min)|under a second) on this machine", shown.err.splitlines()[-1])
    assert lines[0].split() == ["output.weight", "Q6_K", "512", "x", "256", "107,520"]
    assert lines[-1].startswith(f"{out}: ")
    assert " bytes are free on its disk" in lines[-1]
    assert not out.exists()
    assert run(["convert", str(V01), "-o", str(out), "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert run(["convert", str(V01), "-o", str(out), "-q"]) == 0
    assert plan["size"] == out.stat().st_size
    assert plan["free_bytes"] > 0
    assert plan["expected_seconds"] > 0
    assert plan["plan"][0] == {"name": "output.weight", "shape": [512, 256], "type": "Q6_K", "bytes": 107520}


@pytest.mark.parametrize(
    ("output", "obstacle"),
    [
        ("old.gguf", "{tmp}/old.gguf exists already: replace it with `--overwrite`, or name another file with `-o`"),
        ("", "{tmp} is a folder: name the file with `-o`"),
        ("no/folder/x.gguf", "{tmp}/no/folder: no such folder"),
        (
            "x.gguf",
            "{tmp}: {size} are needed, {size} more than are free: write to another disk with `-o`, or choose a ",
        ),
    ],
)
@pytest.mark.parametrize("source", ["checkpoint", "gguf", "adapter"])
def test_what_would_stop_the_writing_does_not_stop_a_dry_run(
    source: str,
    output: str,
    obstacle: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tiny_v3_model: Path,
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    up_proj = np.zeros(read_gguf(tiny_v3_model).tensors["blk.0.ffn_up.weight"].shape[::-1])
    adapter = write_peft(tmp_path / "adapter", {"model.layers.0.mlp.up_proj": pair_for(up_proj, 4, 1)})
    arguments = {
        "checkpoint": [str(V03)],
        "gguf": [str(tiny_v3_model), "-t", "Q8_0"],
        "adapter": [str(adapter), "--base", str(tiny_v3_model)],
    }[source]
    (tmp_path / "old.gguf").write_bytes(b"old")
    assert run(["convert", *arguments, "-o", str(tmp_path / output), "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert str(tmp_path / output) in shown.out
    size = {"checkpoint": "1 MB", "gguf": "2 MB", "adapter": "13 kB"}[source]
    assert f"warning: {obstacle.format(tmp=tmp_path, size=size)}" in shown.err
    assert (tmp_path / "old.gguf").read_bytes() == b"old"


def test_values_that_the_checkpoint_does_not_give_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_checkpoint(tmp_path / "model", Sizes(), head_dim=None, rope_theta=None)
    (folder / "added_tokens.json").write_text(json.dumps({"<far\x1b[2J>": 5000}))
    assert run(["convert", str(folder), "-o", str(tmp_path / "x.gguf")]) == 0
    err = capsys.readouterr().err
    assert "missing in the checkpoint, filled in: rope theta 10000\n" in err
    assert "warning: added token `<far␛[2J>` has id 5000, but the model has rows for 512: left out\n" in err


def test_a_file_cannot_fill_the_screen_with_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of added tokens that no row has room for gave a line for each, 400,000 and more."""
    folder = make_checkpoint(tmp_path / "model", Sizes())
    (folder / "added_tokens.json").write_text(json.dumps({f"<{'x' * 2000}{n}>": 5000 + n for n in range(100)}))
    for more, shown in (([], 20), (["--json"], 20)):
        assert run(["convert", str(folder), "-o", str(tmp_path / "x.gguf"), "--dry-run", *more]) == 0
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if line.startswith("warning: ")]
        assert max(map(len, lines), default=0) < 700
        if not more:
            assert (len(lines), lines[-1]) == (shown + 1, "warning: 80 more warnings; `--json` has them all")
        else:
            assert len(json.loads(out)["warnings"]) == 100


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["{v01}", "-t", "Q3_K_M"], 2, "error: unknown type `Q3_K_M`\nhint: types are "),
        (
            ["{v01}", "--window", "wide"],
            2,
            "error: `--window` must be `auto`, `off` or a number of tokens, not `wide`\n",
        ),
        (["{tmp}/none"], 3, "error: {tmp}/none: no such folder\nhint: "),
        (["{tmp}/old.gguf"], 3, "error: {tmp}/old.gguf: is not a GGUF file but something that starts with "),
        (["{tmp}/weights.bin"], 3, "error: {tmp}/weights.bin: is not a folder\nhint: "),
        (["{tmp}"], 3, "error: {tmp}: no checkpoint there\nhint: "),
        (["{bad}"], 6, "error: {bad}: the shard `model-00002-of-00002.safetensors` is missing\nhint: "),
        (["{v01}", "-o", "{tmp}/old.gguf"], 7, "error: {tmp}/old.gguf exists already\nhint: "),
        (["{v01}", "-o", "{tmp}/no/x.gguf"], 7, "error: {tmp}/no: no such folder\n"),
        (["{v01}", "--what"], 2, "error: no such option"),
        ([], 2, "error: missing argument"),
    ],
)
def test_each_fault_has_its_exit_code_and_its_way_out(
    arguments: list[str], code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.gguf").write_bytes(b"old")
    (tmp_path / "weights.bin").write_bytes(b"old")
    bad = copy_checkpoint(V03, tmp_path / "bad")
    (bad / "model-00002-of-00002.safetensors").unlink()
    places = {"v01": str(V01), "tmp": str(tmp_path), "bad": str(bad)}
    assert run(["convert", *(argument.format(**places) for argument in arguments)]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(words.format(**places))


def test_a_name_with_a_line_break_does_not_break_the_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_checkpoint(V03, tmp_path / "model")
    index = {"weight_map": {"a": "x\nerror: \x1b[31mnothing"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert run(["convert", str(folder)]) == 6
    first, second = capsys.readouterr().err.splitlines()
    assert first == f"error: {folder}: the shard `x error: ␛[31mnothing` is missing"
    assert second == "hint: download what is missing into the folder"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.slow
def test_a_signal_stops_the_work_and_leaves_nothing(number: int, code: int, tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model", Sizes(layers=1, hidden=4096, width=1024))
    made = tmp_path / "made"
    made.mkdir()
    command = [sys.executable, "-m", "chat", "convert", str(folder), "-o", str(made / "x.gguf"), "-t", "IQ4_XS"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "."})
    while process.poll() is None and not any(path.stat().st_size for path in made.iterdir()):
        time.sleep(0.01)  # once it has its size, it is known to be there
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in err) == (code, False), err
    assert list(made.iterdir()) == []


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_option(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["convert", flag]) == 0
    shown = capsys.readouterr().out
    for option in ("--output", "--type", "--window", "--overwrite", "--dry-run", "--json", "--no-verify", "--quiet"):
        assert option in shown


def test_looking_at_the_command_loads_neither_numpy_nor_the_library() -> None:
    code = "import sys, convert.cli; print({'numpy', 'gguf', 'llama_cpp', 'rich'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
