"""A bar fits its line: the name is cut, the numbers and the time left never are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from chat.system.progress import byte_bar, count_bar
from tests.environments import pipes, terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from chat.system.progress import Progress

NAME = "writing Mistral-7B-Instruct-v0.3-Q4_K_M.gguf"


def drawn_lines(bar: Callable[..., AbstractContextManager[Progress]], total: int, width: int) -> list[str]:
    """All lines that a bar drew, one frame after the other."""
    environment = terminal(columns=width)
    with bar(NAME, total, environment=environment) as progress:
        progress.advance(total // 3)
    return [line for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", environment.err).splitlines() if line.strip()]


@pytest.mark.parametrize("width", [200, 120, 80, 60])
def test_a_bar_is_one_line_with_what_is_done_and_the_time_left(width: int) -> None:
    """With a file's usual name, `4.4 GB` stood as `4.… GB` on two lines, and the time left as `0:0…`."""
    for bar, total, done in ((byte_bar, 4_367_704_064, "1.5/4.4 GB"), (count_bar, 4367, "1455/4367")):
        drawn = drawn_lines(bar, total, width)
        assert {len(line) <= width and line.startswith("writing"[: width // 10]) for line in drawn} == {True}, drawn
        assert re.search(rf" {done} .*-:--:--\s*$", drawn[-1]), drawn
        assert NAME in drawn[-1] or width < 100


def test_nothing_is_drawn_in_a_pipe_or_without_being_enabled() -> None:
    for enabled, environment in ((False, terminal()), (True, pipes())):
        with byte_bar(NAME, 10, enabled=enabled, environment=environment) as progress:
            progress.describe("more")
            progress.advance(10)
        assert (environment.out, environment.err) == ("", "")


def test_a_name_from_outside_does_not_steer_the_terminal() -> None:
    environment = terminal(columns=120)
    with byte_bar("a\x9b2J", 10, environment=environment) as progress:
        progress.describe("[/red] b\u202e\x1b]0;x\x07")
        progress.advance(10)
    assert "[/red] b⟨RLO⟩␛]0;x␇" in environment.err
    assert "\x9b" not in environment.err and "\u202e" not in environment.err
