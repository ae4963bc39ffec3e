"""`--effort` and the system prompt of the release reach the prompt, from wherever the user decides on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat.gguf.reader import read_gguf
from tests.program import run

OWN = "[SYSTEM_PROMPT]thinker-v15 thinks: [THINK]so[/THINK][/SYSTEM_PROMPT]"


def prompt_text(*words: object, **options: Any) -> str:
    done = run("--dry-run", *words, "hi", **options)
    assert (done.returncode, done.stderr) == (0, b"")
    return str(json.loads(done.stdout)["text"])


def settings(effort: str) -> str:
    return f'[MODEL_SETTINGS]{{"reasoning_effort": "{effort}"}}[/MODEL_SETTINGS]'


def test_a_prompt_names_the_chosen_effort_or_the_default(thinker: Callable[[str], Path]) -> None:
    model = thinker("v15")
    assert prompt_text("-m", model) == f"<s>{OWN}{settings('none')}[INST]hi[/INST]"
    assert prompt_text("-m", model, "--effort", "high") == f"<s>{OWN}{settings('high')}[INST]hi[/INST]"


def test_thinking_is_switched_by_the_effort_and_limited(thinker: Callable[[str], Path]) -> None:
    model = thinker("v15")
    assert settings("high") in prompt_text("-m", model, "--think", "on")
    assert settings("none") in prompt_text("-m", model, "--think", "off", "--think-limit", "10")
    done = run("-m", model, "--think", "aloud", "hi")
    assert (done.returncode, b"--think" in done.stderr) == (2, True)


def test_the_releases_system_prompt_gives_way_to_the_users(thinker: Callable[[str], Path]) -> None:
    model = thinker("v15")
    assert prompt_text("-m", model, "--system", "") == f"<s>{settings('none')}[INST]hi[/INST]"
    assert prompt_text("-m", model, "-s", "be kind").startswith("<s>[SYSTEM_PROMPT]be kind[/SYSTEM_PROMPT]")
    assert "SYSTEM_PROMPT" not in prompt_text("-m", model, "--raw")


def test_marks_of_reasoning_in_a_system_prompt_are_control_pieces_of_v13_alone(thinker: Callable[[str], Path]) -> None:
    for version, is_control in (("v13", True), ("v15", False)):
        done = run("--dry-run", "-m", thinker(version), "[THINK]x[/THINK]")
        ids = json.loads(done.stdout)["ids"]
        begin = str(read_gguf(thinker(version)).metadata["tokenizer.ggml.tokens"][34])
        assert (begin, ids.count(34), ids.count(35)) == ("[THINK]", is_control, is_control)


def test_the_effort_comes_from_a_variable_or_a_line_of_a_batch(
    thinker: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, lines = thinker("v15"), tmp_path / "lines.jsonl"
    lines.write_text('{"prompt": "hi", "effort": "high", "system": ""}\n{"prompt": "hi", "effort": "max"}\n')
    done = run("--dry-run", "-m", model, "--batch", lines)
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["text"] == f"<s>{settings('high')}[INST]hi[/INST]"
    assert second == {"id": 2, "error": "the model has no reasoning effort 'max'", "exit_code": 2}
    monkeypatch.setenv("MISTRAL_CHAT_EFFORT", "high")
    assert settings("high") in prompt_text("-m", model)


def test_an_effort_is_refused_for_a_model_that_has_none(thinker: Callable[[str], Path]) -> None:
    done = run("--effort", "high", "-m", thinker("v13"), "hi")
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: the model has no reasoning effort to choose\nhint: leave out `--effort`")


def test_a_version_that_is_not_known_needs_a_choice(tmp_path: Path, thinker: Callable[[str], Path]) -> None:
    model = tmp_path / "new.gguf"
    model.write_bytes(thinker("v15").read_bytes().replace(b"\x03\0\0\0\0\0\0\0v15", b"\x03\0\0\0\0\0\0\0v17"))
    done = run("-m", model, "hi")
    assert done.returncode == 3
    assert done.stderr == (
        b"error: the model's prompt format is of version v17, which is not known here\n"
        b"hint: `--prompt-format v15` prompts it as the newest version that is known\n"
    )
    assert prompt_text("-m", model, "--prompt-format", "v15").endswith("[INST]hi[/INST]")
    assert prompt_text("-m", model, "--raw") == "<s>hi"
