"""Drafts change the time that an answer takes, not the answer, if llama.cpp computes equal rows in a batch."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.program import run_command

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def make(converted: Make) -> Make:
    """A model of the same vocabulary in each type, with or without its window of 64."""
    return functools.partial(converted, "mistral-v0.1")


@pytest.fixture(params=["Q8_0", "Q4_K_M"])
def model(request: pytest.FixtureRequest, make: Make) -> Path:
    return make(request.param)


def answer(model: Path, *flags: object) -> dict[str, object]:
    command = [sys.executable, "-m", "chat", "-m", model, "--json", "-n", 120, "--threads", 1, *flags]
    done = run_command([*map(str, command), "one two three " * 10], stdin=subprocess.DEVNULL, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    plain: dict[str, object] = json.loads(done.stdout)
    return plain


@functools.cache
def undrafted(model: Path, *flags: object) -> dict[str, object]:
    return answer(model, "--draft", "off", *flags)


@pytest.mark.parametrize("flags", [["--temperature", 0], ["--seed", 3, "--temperature", 0.3], ["--seed", 4]])
@pytest.mark.slow
def test_answers_are_the_same_with_and_without_drafts(model: Path, flags: list[object]) -> None:
    without, drafted = undrafted(model, *flags), answer(model, "--draft", "lookup", *flags)
    assert without["ids"] == drafted["ids"]
    assert without["tokens"]["drafted"] == 0  # type: ignore[index]


@pytest.mark.slow
def test_an_answer_that_repeats_itself_is_drafted(model: Path) -> None:
    """A random model repeats itself with greedy sampling; on a busy machine drafts may save no time."""
    found = (answer(model, "--temperature", 0)["tokens"] for _ in range(20))
    assert any(20 < tokens["accepted"] <= tokens["drafted"] for tokens in found)  # type: ignore[index]


@pytest.mark.parametrize(
    ("window", "flags"),  # of the small model, whose weights are coarser
    [("auto", ["--temperature", 0]), ("off", ["--seed", 3, "--temperature", 0.3])],
)
@pytest.mark.slow
def test_a_small_model_changes_no_answer_far_past_the_window(
    window: str, flags: list[object], model: Path, make: Make
) -> None:
    small = make("Q4_0", window)
    without, drafted = undrafted(model, *flags), answer(model, "--draft", small, *flags)
    assert without["ids"] == drafted["ids"]
    assert drafted["tokens"]["drafted"] > 0  # type: ignore[index]


@pytest.mark.slow
def test_a_draft_model_with_the_same_weights_predicts_nearly_everything(model: Path) -> None:
    """They cost more time than they save, so only the first drafts are made."""
    tokens = answer(model, "--draft", model, "--temperature", 0)["tokens"]
    assert isinstance(tokens, dict)
    assert tokens["drafted"] >= 3
    assert tokens["accepted"] >= 0.9 * tokens["drafted"]


def test_an_unusable_draft_model_is_one_error(model: Path, tiny_v3_model: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.gguf"
    text.write_text("no model")
    for draft, words in (
        (tiny_v3_model, f"{tiny_v3_model} cannot draft for {model}: it has another vocabulary ("),
        (tmp_path / "nowhere.gguf", f"{tmp_path / 'nowhere.gguf'}: no such file"),
        ("of", "of: no such file"),
        (text, f"{text}: "),
    ):
        command = [sys.executable, "-m", "chat", "-m", model, "--draft", draft, "hi"]
        done = run_command(list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True)
        assert (done.returncode, done.stdout) == (3, b"")
        assert done.stderr.decode().startswith(f"error: {words}")
