"""`mistral-chat bench` whole, on a real tiny model: every part is measured, shown and drawn."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from chat.cli.bench import parse_contexts
from chat.errors import UsageError
from tests.processes import children_of, ends
from tests.program import run_command

BUSY = re.compile("^note: Timings are unreliable on a busy machine.*\n")
NO_DRAFTS = "off: with F32 weights it could change the answer"
QUICK = ("-n", "16", "--contexts", "64,256,1024")


def bench(*arguments: str, fork: bool = True) -> subprocess.CompletedProcess[str]:
    """Run it; the note on a busy machine, as test machines are, is left out of what it said.

    Args:
        fork: False: in a new interpreter; pages that a fork shares with its parent become its own one by one.
    """
    command = [sys.executable, "-m", "chat", "bench", *arguments]
    done = (run_command if fork else subprocess.run)(command, capture_output=True, text=True, check=False)
    done.stderr = BUSY.sub("", done.stderr)
    return done


@pytest.mark.slow
def test_a_window_model_is_measured_whole_and_its_memory_is_flat(tiny_model: Path, tmp_path: Path) -> None:
    done = bench("-m", str(tiny_model), *QUICK, "--json", "--svg", str(tmp_path / "picture.svg"), fork=False)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert list(report) == ["subject", "beside", "points", "resume", "batches", "ahead", "busy_share", "sweet_spot"]
    assert (report["subject"]["window"], report["subject"]["threads"]) == (64, 1)
    beside = report["beside"]
    assert (beside["prompt_tokens"], beside["tokens"]) == (64, 16)
    assert beside["decode_ratio"] == pytest.approx(beside["decode"] / beside["bare_decode"])
    assert beside["python_ms"] > 0
    assert [point["context"] for point in report["points"]] == [64, 256, 1024]
    assert all(point["read"] > 0 and point["decode"] > 0 for point in report["points"])
    if sys.platform == "linux":
        private = [point["private_bytes"] for point in report["points"]]
        assert max(private) - min(private) < 2_000_000
    assert report["resume"]["tokens"] == 1040
    assert report["resume"]["seconds"] > 0 and report["resume"]["reading_seconds"] > 0
    assert [each["rows"] for each in report["batches"]] == [1, 2, 4, 7, 8]
    assert report["sweet_spot"] in (1, 2, 4, 7, 8)
    assert report["ahead"] == {"reason": NO_DRAFTS, "repeating": None, "unforeseen": None}
    assert ElementTree.parse(tmp_path / "picture.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.slow
def test_a_model_without_a_window_gets_the_context_that_the_bench_needs(tiny_v3_model: Path) -> None:
    done = bench("-m", str(tiny_v3_model), "-n", "4", "--contexts", "64,100")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith(
        "mistral-v0.3.gguf (llama, F32, no window): 1 thread, batch 256, f16 cache, no GPU, not repacked; loaded in "
    )
    assert lines[-1] == "Drafting is off: with F32 weights it could change the answer."
    firsts = [line.split("  ")[0] for line in lines[1:-1] if line]
    assert [first for first in firsts if first] == [
        *("reading 64 tokens", "decoding 4 tokens", firsts[3], "context", "64", "100"),
        *("batch of", "1", "2", "4", "7", "8"),
    ]
    assert firsts[3].startswith("Python takes 0.")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("-m", "missing.gguf"), 3, "error: there is no model `missing.gguf`"),
        (("--contexts", "12"), 2, "error: --contexts must be numbers of at least 16, such as 512,1024,2048, not '12'"),
        (("-n", "1"), 2, "error: -n must be 2 to 100000, not 1"),
        (("--svg", "nowhere/a.svg"), 7, "error: nowhere/a.svg: there is no such folder"),
        (("--kv-type", "q5"), 2, "error: --kv-type must be one of f16, f32, q8_0, q4_0, not 'q5'"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(arguments: tuple[str, ...], code: int, message: str) -> None:
    done = bench(*arguments)
    assert (done.returncode, done.stdout, done.stderr.splitlines()[0]) == (code, "", message)


@pytest.mark.slow
def test_what_looking_ahead_is_worth_is_measured_where_it_is_on(converted: Callable[..., Path]) -> None:
    path = converted("mistral-v0.1", "Q8_0")
    ahead = json.loads(bench("-m", str(path), "-n", "32", "--contexts", "64", "--json").stdout)["ahead"]
    assert (ahead["reason"], ahead["repeating"] > 0.5, ahead["unforeseen"] > 0.5) == ("lookup", True, True)


def test_contexts_beyond_what_the_model_knows_are_refused_before_anything_loads(tiny_v3_model: Path) -> None:
    done = bench("-m", str(tiny_v3_model), "-n", "4", "--contexts", "999999")
    assert done.returncode == 2
    assert "error: `--contexts` and `-n` need 1,000,009 tokens of context, but " in done.stderr


def test_contexts_are_sorted_and_each_is_measured_once() -> None:
    assert parse_contexts("512, 64,512") == [64, 512]
    for text in ("", "a", "64,,128", "-5", "64;128", "²²", "1e3", "9999999999"):
        with pytest.raises(UsageError, match="--contexts must be numbers"):
            parse_contexts(text)
    with pytest.raises(UsageError, match="33 numbers, and 32 is the limit"):
        parse_contexts(",".join(["64"] * 33))


@pytest.mark.skipif(sys.platform != "linux", reason="looks for the child in /proc")
@pytest.mark.slow
def test_ctrl_c_ends_the_bench_and_its_process_with_130(tiny_model: Path) -> None:
    command = [sys.executable, "-m", "chat", "bench", "-m", str(tiny_model), "--contexts", "20000000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        try:
            deadline = time.monotonic() + 60
            while not (pids := children_of(running.pid)) and time.monotonic() < deadline:
                time.sleep(0.02)
            while b"chat.bench.measure" not in Path(f"/proc/{pids[0]}/cmdline").read_bytes():
                time.sleep(0.02)
            running.send_signal(signal.SIGINT)
            said, errors = running.communicate(timeout=60)
        finally:
            running.kill()  # it would compute for an hour
    assert (said, BUSY.sub("", errors.decode()), running.returncode) == (b"", "", 130)
    assert ends(pids[0])  # by itself where we were interrupted while it was being started
