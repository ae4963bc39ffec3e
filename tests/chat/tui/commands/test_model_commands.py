"""What is shown of a model: words that a person reads, not what a report needs."""

from __future__ import annotations

from pathlib import Path

from chat.core.backend import ModelInfo
from chat.tui.commands.model_commands import model_facts


def test_facts_are_told_in_words_and_without_what_only_a_report_needs() -> None:
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
