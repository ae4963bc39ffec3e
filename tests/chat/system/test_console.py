"""A person is told one harmless line, and only a yes is a yes."""

from __future__ import annotations

import io
import sys

import pytest

from chat.errors import UsageError
from chat.system.console import confirm, tell


class Terminal(io.StringIO):
    """An answer, typed at a terminal."""

    def isatty(self) -> bool:
        return True


def test_what_is_told_is_one_line_that_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    tell("warning: `\x1b[2J` is\nleft out")
    assert capsys.readouterr() == ("", "warning: `␛[2J` is left out\n")


@pytest.mark.parametrize(
    ("typed", "is_yes"),
    [("y\n", True), (" YES \n", True), ("\n", False), ("n\n", False), ("yesterday\n", False), ("", False)],
)
def test_only_a_yes_is_a_yes(
    typed: str, is_yes: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    assert confirm("delete `a\x07`?", "deletes") is is_yes
    assert capsys.readouterr() == ("", "delete `a␇`? [y/N] ")


def test_where_nobody_can_be_asked_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(UsageError, match="there is no terminal to ask on") as caught:
        confirm("delete?", "deletes")
    assert caught.value.hint == "`--yes` deletes without asking"
