"""`/model` in a session, and the facts that it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chat.core.backend import ModelInfo
from chat.tui.commands.model_commands import model_facts


def test_facts_are_readable_and_leave_out_details_for_reports() -> None:
    details = {
        "cells": 4608, "rolling": True, "batch": 256, "threads": 1, "repack": False, "cache_bytes": 603979776,
        "copied_bytes": 0, "prompt_format_reason": "the file names it",
    }  # fmt: skip
    path = str(Path.home() / "models" / "7b.gguf")
    info = ModelInfo(path, 4_370_000_000, "Q4_K_M", "granite_swa", 4096, 32768, 32768, "v1", details=details)
    assert model_facts(info) == {
        "file": "~/models/7b.gguf",
        "size": "4.4 GB",
        "type": "Q4_K_M, granite_swa",
        "context": "32,768 tokens (trained on 32,768)",
        "window": "4,096 tokens",
        "prompts": "v1 (the file names it)",
        "threads": "1",
        "repack": "off",
        "cache memory": "604 MB",
    }


@pytest.mark.slow
def test_the_model_is_switched_within_the_conversation(start: Any, tmp_path: Path) -> None:
    (tmp_path / "other.gguf").touch()
    (tmp_path / "bad.gguf").touch()
    others = {
        "other.gguf": {"scripts": [[["text", "other speaks"]]], "window": 64},
        "bad.gguf": {"load_error": "bad.gguf is no GGUF file"},
    }
    terminal = start(others=others)
    terminal.run("hello", "You said: hello")
    terminal.run("/model other.gguf", "64 tokens")
    terminal.run("and you?", "other speaks")
    terminal.run("/context", "You said: hello")
    terminal.run("/model missing.gguf", "error: no model at missing.gguf")
    terminal.run("/model bad.gguf", "error: bad.gguf is no GGUF file")
    terminal.run("/model", "other.gguf")
    terminal.run("/set context 64", "context          64  /set")


def test_a_model_that_cannot_be_used_does_not_end_a_session_without_answers(start: Any, tmp_path: Path) -> None:
    """Once the session ended, because a failed load before the first answer was taken for the first load."""
    (tmp_path / "bad.gguf").touch()
    terminal = start(others={"bad.gguf": {"load_error": "bad.gguf is no GGUF file"}})
    terminal.wait("/ 32,768")
    terminal.run("/model bad.gguf", "error: bad.gguf is no GGUF file")
    terminal.run("hello", "You said: hello")
