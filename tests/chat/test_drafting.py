"""Looking ahead changes the time an answer takes, not the answer, where llama.cpp computes rows alike."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHECKPOINTS = Path(__file__).parent.parent / "checkpoints"


@pytest.fixture(scope="module", params=["Q8_0", "Q4_K_M"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("draft") / "model.gguf"
    command = [
        sys.executable,
        "-m",
        "chat.cli",
        "convert",
        CHECKPOINTS / "mistral-v0.1",
        "-t",
        request.param,
        "-o",
        path,
    ]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return path


def answer(model: Path, *flags: object) -> dict[str, object]:
    command = [sys.executable, "-m", "chat.cli", "-m", model, "--json", "-n", 200, "--threads", 1, *flags]
    done = subprocess.run([*map(str, command), "one two three " * 10], stdin=subprocess.DEVNULL, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    plain: dict[str, object] = json.loads(done.stdout)
    return plain


@pytest.mark.parametrize("flags", [["--temperature", 0], ["--seed", 3, "--temperature", 0.3], ["--seed", 4]])
def test_answers_are_the_same_with_and_without_drafts(model: Path, flags: list[object]) -> None:
    without, drafted = answer(model, "--draft", "off", *flags), answer(model, "--draft", "lookup", *flags)
    assert without["ids"] == drafted["ids"]
    assert without["tokens"]["drafted"] == 0  # type: ignore[index]


def test_an_answer_that_repeats_itself_is_drafted(model: Path) -> None:
    """A random model falls into loops when the likeliest id is always taken."""
    tokens = answer(model, "--temperature", 0)["tokens"]
    assert isinstance(tokens, dict)
    assert tokens["accepted"] > 20
    assert tokens["drafted"] >= tokens["accepted"]
