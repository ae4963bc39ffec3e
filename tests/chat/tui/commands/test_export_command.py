"""`/export` in a session."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("suffix", ["md", "json", "html", "jsonl"])
@pytest.mark.slow
def test_export_chooses_the_format_by_name_and_overwrites_if_asked(start: Any, tmp_path: Path, suffix: str) -> None:
    terminal = start()
    terminal.run(f"/export talk.{suffix}", "nothing was said yet")
    terminal.run("question?", "You said: question?")
    terminal.run(f"/export talk.{suffix}", f"wrote talk.{suffix}, ")
    written = (tmp_path / f"talk.{suffix}").read_text()
    assert "question?" in written and "You said: question?" in written
    if suffix.startswith("json"):
        json.loads(written)
    terminal.run(f"/export talk.{suffix}", f"talk.{suffix} exists")
    terminal.run(f"/export talk.{suffix} --overwrite", "wrote talk")
    terminal.run("/export talk.doc", "`.doc` is not the suffix of a format")
