"""`mistral-chat doctor` whole: one line a check, the exit code, and no llama.cpp in the process that asks."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from chat.doctor import checks
from chat.doctor.checks import examine
from chat.system.paths import config_folder
from tests.program import run_command

USUAL = [
    "program",
    "command",
    "library",
    "extras",
    "embedding",
    "settings folder",
    "data folder",
    "cache folder",
    "settings",
    "history",
    "hub",
    "terminal",
    "encoding",
    "model",
    "build",
    "threads",
    "device",
    "kernels",
    "exactness",
    "guide",
]


def doctor(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "chat", "doctor", *arguments]
    return run_command(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_without_a_model_every_check_has_its_line_and_no_server_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # it would never answer
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        done = doctor()
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    named = [line[9:26].strip() for line in done.stdout.splitlines() if line.startswith(("ok ", "note ", "problem "))]
    named = [name for name in named if name != "gpu"]
    assert (done.returncode, done.stderr) == (0, "")
    before, after = USUAL.index("build"), USUAL.index("exactness")
    # the guide would answer, so there is a choice to tell, and whether it reads pictures
    expected = [*USUAL[:before], "pictures", *USUAL[before:after], "choice", *USUAL[after:]]
    assert list(dict.fromkeys(named)) == expected


@pytest.mark.slow
def test_json_has_the_same_findings_and_says_what_would_be_chosen_for_a_model(tiny_model: Path) -> None:
    done = doctor("--json", "-m", str(tiny_model))
    report = json.loads(done.stdout)
    found = {each["check"]: each for each in report["findings"]}
    assert (done.returncode, report["problems"]) == (0, 0)
    assert found["model"]["words"] == str(tiny_model)
    choice = found["choice"]["words"]
    assert choice.startswith("mistral-v0.1.gguf (F32) with 1 thread: a rolling window of 64 tokens; everything on")
    assert "rows not repacked unless the prompt is long; needs " in choice
    assert choice.endswith(" free; a text has no end, but the model was trained on 32,768 tokens")


@pytest.mark.slow
def test_the_process_that_asks_loads_neither_llama_cpp_nor_numpy() -> None:
    code = (
        "import sys; from chat.cli.main import run; run(['doctor', '--json']); "
        "sys.stderr.write(str(sorted({'numpy', 'llama_cpp', 'huggingface_hub'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]"


@pytest.mark.slow
def test_a_missing_model_a_wrong_setting_and_an_address_that_is_none_are_problems(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config_folder().mkdir(parents=True)
    (config_folder() / "config.toml").write_text("temprature = 1\n")
    monkeypatch.setenv("HF_ENDPOINT", "nowhere")
    found = {each.check: each for each in examine("missing.gguf", online=False)}
    assert {name for name, each in found.items() if each.state == "problem"} == {"settings", "hub", "model"}
    assert "line 1: unknown setting `temprature`" in found["settings"].words
    assert found["settings"].hint == "did you mean `temperature`?"
    assert found["hub"].words == "HF_ENDPOINT is not a web address: nowhere"
    assert found["model"].words == "there is no model `missing.gguf`"
    assert doctor("-m", "missing.gguf").returncode == 1


@pytest.mark.slow
def test_a_model_of_the_hub_is_not_downloaded_to_be_looked_at() -> None:
    found = {each.check: each for each in examine("hf:owner/repo:Q4_K_M", online=False)}
    assert found["model"].state == "problem"
    assert found["model"].words == "hf:owner/repo:Q4_K_M is not downloaded yet"


@pytest.mark.slow
def test_what_is_too_large_is_said_in_the_words_of_the_engine(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISTRAL_CHAT_WINDOW", "100")
    found = {each.check: each for each in examine(str(tiny_model), online=False)}
    assert (found["choice"].state, found["choice"].words) == (
        "problem",
        "`--window 100` is more than the 64 tokens the model was trained with",
    )


def test_an_engine_that_dies_of_an_unknown_instruction_is_one_line_and_the_rest_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dying_probe.py").write_text(
        "import os, signal\nfrom chat.worker.task import serve_isolated_task\n"
        "def answer(question, send):\n"
        "    send({'stage': 'build', 'found': {'name': '1 AVX512 = 1', 'gpu_backends': []}})\n"
        "    os.kill(os.getpid(), signal.SIGILL)\n"
        "serve_isolated_task(answer)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(checks, "PROBE", "dying_probe")
    found = {each.check: each for each in examine(None, online=False)}
    assert found["build"].words == "llama.cpp 1, without GPU support; uses AVX512"
    assert found["engine"].state == "problem"
    assert found["engine"].words.startswith(
        "the engine stopped: SIGILL: this build of llama.cpp uses instructions that this processor does not have"
    )


def test_an_unknown_option_is_a_usage_error() -> None:
    done = doctor("--mode", "x")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: no such option: --mode")


@pytest.mark.slow
def test_an_encoding_without_our_letters_is_told_and_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = doctor("-m", "mod\u00e8le.gguf")
    assert (done.returncode, done.stderr) == (1, "")
    assert "problem  encoding         ascii cannot show every letter" in done.stdout
    assert "problem  model            there is no model `mod?le.gguf`" in done.stdout
    assert re.search(r"\b2 problems( and 1 note)?$", done.stdout.rstrip())  # a note where no fast kernels are built


@pytest.mark.slow
def test_the_hub_is_asked_only_if_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    calm, asked = ({each["check"]: each for each in json.loads(doctor("--json", *flags).stdout)["findings"]}["hub"]
                   for flags in ((), ("--online",)))  # fmt: skip
    assert (calm["state"], asked["state"]) == ("ok", "problem")
    assert calm["words"].endswith("(not asked; `--online` does)")
    assert asked["words"] == "http://127.0.0.1:9 does not answer: Connection refused"
