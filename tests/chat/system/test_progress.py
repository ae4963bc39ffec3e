"""A bar fits its line: the name gives way, what is done and the time left never do."""

from __future__ import annotations

import io
import re
import sys

import pytest

from chat.system.progress import byte_bar, count_bar

NAME = "writing Mistral-7B-Instruct-v0.3-Q4_K_M.gguf"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def lines_of(bar: object, total: int, width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a bar drew, frame by frame and line by line."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with bar(NAME, total) as progress:  # type: ignore[operator]
        progress.advance(total // 3)
    return [line for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).splitlines() if line.strip()]


@pytest.mark.parametrize("width", [200, 120, 80, 60])
def test_a_bar_is_one_line_with_what_is_done_and_the_time_left(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a file's usual name, `4.4 GB` stood as `4.… GB` on two lines, and the time left as `0:0…`."""
    for bar, total, done in ((byte_bar, 4_367_704_064, "1.5/4.4 GB"), (count_bar, 4367, "1455/4367")):
        drawn = lines_of(bar, total, width, monkeypatch)
        assert {len(line) <= width and line.startswith("writing"[: width // 10]) for line in drawn} == {True}, drawn
        assert re.search(rf" {done} .*-:--:--\s*$", drawn[-1]), drawn
        assert NAME in drawn[-1] or width < 100


def test_nothing_is_drawn_where_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    for enabled, stream in ((False, Terminal()), (True, io.StringIO())):
        monkeypatch.setattr(sys, "stderr", stream)
        with byte_bar(NAME, 10, enabled=enabled) as progress:
            progress.describe("more")
            progress.advance(10)
        assert stream.getvalue() == ""
