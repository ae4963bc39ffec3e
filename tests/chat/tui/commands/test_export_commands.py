"""`/copy` and `/export` in a session, and the clipboards that text is copied to."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from chat.tui.commands.export_commands import OSC_52_BYTES, copy_to_clipboards


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with an `xclip` that keeps what it gets."""
    xclip = tmp_path / "xclip"
    xclip.write_text(f'#!/bin/sh\n[ "$1 $2" = "-selection clipboard" ] && /bin/cat > {tmp_path}/kept\n')
    xclip.chmod(0o755)
    return tmp_path


def test_the_program_and_the_terminal_get_the_text(programs: Path) -> None:
    written: list[str] = []
    took = copy_to_clipboards("naïve\n", written.append, {"DISPLAY": ":0", "PATH": str(programs)})
    assert took == ["xclip", "the terminal (OSC 52)"]
    assert (programs / "kept").read_text() == "naïve\n"
    assert base64.b64decode(written[0].removeprefix("\x1b]52;c;").removesuffix("\x07")) == "naïve\n".encode()


def test_a_program_without_its_display_is_not_run(programs: Path) -> None:
    assert copy_to_clipboards("x", None, {"PATH": str(programs)}) == []


def test_a_program_that_fails_is_not_reported(programs: Path) -> None:
    (programs / "xclip").write_text("#!/bin/sh\nexit 1\n")
    assert copy_to_clipboards("x", None, {"DISPLAY": ":0", "PATH": str(programs)}) == []


def test_texts_too_long_for_terminals_are_not_sent_to_them() -> None:
    written: list[str] = []
    assert copy_to_clipboards("x" * (OSC_52_BYTES + 1), written.append, {"PATH": ""}) == []
    assert written == []


@pytest.mark.slow
def test_copy_writes_to_the_terminals_clipboard(start: Any) -> None:
    terminal = start([["text", "Text\n\n```py\nx = 1\n```\n"]], environment={"DISPLAY": "", "WAYLAND_DISPLAY": ""})
    terminal.run("/copy", "there is no answer to copy yet")
    terminal.run("go", "x = 1")
    terminal.run("/copy code", "Copied 6 characters to the terminal (OSC 52).")
    terminal.run("/copy", "Copied 22 characters to the terminal (OSC 52).")
    copied = [base64.b64decode(found) for found in re.findall(rb"\x1b\]52;c;([^\x07]*)\x07", terminal.output)]
    assert copied == [b"x = 1\n", b"Text\n\n```py\nx = 1\n```\n"]


@pytest.mark.parametrize("suffix", ["md", "txt", "json", "html", "jsonl"])
@pytest.mark.slow
def test_export_chooses_the_format_by_name_and_overwrites_if_asked(start: Any, tmp_path: Path, suffix: str) -> None:
    terminal = start()
    terminal.run(f"/export talk.{suffix}", "nothing has been said yet")
    terminal.run("question?", "You said: question?")
    terminal.run(f"/export talk.{suffix}", f"Wrote talk.{suffix} (")
    written = (tmp_path / f"talk.{suffix}").read_text()
    assert "question?" in written and "You said: question?" in written
    if suffix == "json":
        answer = json.loads(written)["nodes"][1]
        assert (answer["content"], answer["details"]["model"]) == ("You said: question?", "program")
    elif suffix != "jsonl":  # that is for training
        assert "program" in written
    terminal.run(f"/export talk.{suffix}", f"talk.{suffix} exists")
    terminal.run(f"/export talk.{suffix} --paths --overwrite", "Wrote talk")
    assert ("tests/chat/tui" in (tmp_path / f"talk.{suffix}").read_text()) is suffix.startswith("json")
    terminal.run("/export talk.doc", "there is no export format for `.doc`")
