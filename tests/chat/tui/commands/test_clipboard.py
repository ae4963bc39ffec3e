"""Text is copied to the terminal and by a program of this machine, as far as they can be reached."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from chat.tui.commands.clipboard import OSC_52_BYTES, copy


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with an `xclip` that keeps what it gets."""
    xclip = tmp_path / "xclip"
    xclip.write_text(f'#!/bin/sh\n[ "$1 $2" = "-selection clipboard" ] && /bin/cat > {tmp_path}/kept\n')
    xclip.chmod(0o755)
    return tmp_path


def test_the_program_and_the_terminal_get_the_text(programs: Path) -> None:
    written: list[str] = []
    took = copy("naïve\n", written.append, {"DISPLAY": ":0", "PATH": str(programs)})
    assert took == ["xclip", "the terminal (OSC 52)"]
    assert (programs / "kept").read_text() == "naïve\n"
    assert base64.b64decode(written[0].removeprefix("\x1b]52;c;").removesuffix("\x07")) == "naïve\n".encode()


def test_a_program_without_its_display_is_not_run(programs: Path) -> None:
    assert copy("x", None, {"PATH": str(programs)}) == []


def test_a_program_that_fails_is_not_reported(programs: Path) -> None:
    (programs / "xclip").write_text("#!/bin/sh\nexit 1\n")
    assert copy("x", None, {"DISPLAY": ":0", "PATH": str(programs)}) == []


def test_texts_too_long_for_terminals_are_not_sent_to_them() -> None:
    written: list[str] = []
    assert copy("x" * (OSC_52_BYTES + 1), written.append, {"PATH": ""}) == []
    assert written == []
