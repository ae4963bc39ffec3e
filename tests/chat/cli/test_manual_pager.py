"""On a terminal the manual is shown by `man`, else by a pager, with bold and underlined words."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest

from chat.cli.main import run
from chat.cli.manual_pager import overstruck
from chat.system.environment import Environment
from tests.environments import pipes, terminal

ROFF = r""".TH X 1
.SH NAME
x \- one
.SH OPTIONS
.TP
\fB\-m\fR, \fB\-\-model\fR \fINAME\fR
A long sentence that is broken at a space of course\e
.TP
.B 7
code
.SS x list
Lists.
.SH EXAMPLES
.PP
.nf
x  \&.y
.fi
"""


def test_the_page_is_formatted_with_backspaces() -> None:
    page = overstruck(ROFF, 40)
    assert "       -\b-m\bm, -\b--\b-m\bmo\bod\bde\bel\bl _\bN_\bA_\bM_\bE\n" in page
    assert re.sub(".\b", "", page) == (
        "NAME\n       x - one\n\nOPTIONS\n       -m, --model NAME\n              A long sentence that is\n"
        "              broken at a space of\n              course\\\n\n       7\n              code\n\n"
        "   x list\n       Lists.\n\nEXAMPLES\n       x  .y\n"
    )


class TerminalFile(io.TextIOWrapper):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


SHOW = '#!/bin/sh\necho "$0 $*" | /bin/sed "s=.*/=="\nexec /bin/cat\n'
FAIL = "#!/bin/sh\nexit 1\n"


@pytest.mark.parametrize(
    ("programs", "variables", "shown"),
    [
        ({"man": SHOW, "groff": FAIL, "less": SHOW}, {"PAGER": "less"}, "man -l -\n.TH MISTRAL"),
        ({"man": FAIL, "groff": FAIL, "less": SHOW}, {}, "less \nN\bNA\bAM\bME\bE\n"),
        ({"man": SHOW, "less": SHOW, "more": SHOW}, {"PAGER": "more -x 'a b'"}, "more -x a b\nN\bN"),
        ({"less": SHOW, "more": SHOW}, {"MANPAGER": "more", "PAGER": "less"}, "more \nN\bN"),
        ({"less": FAIL, "more": SHOW}, {"PAGER": '"', "MANPAGER": "absent"}, "more \nN\bN"),
        ({}, {}, "NAME\n       mistral-chat - chat with"),
    ],
)
def test_the_first_program_that_works_shows_the_page(
    tmp_path: Path, programs: dict[str, str], variables: dict[str, str], shown: str
) -> None:
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if name not in ("PAGER", "MANPAGER")}
    with (tmp_path / "screen").open("wb") as file, TerminalFile(file, encoding="utf-8") as stdout:
        assert run(["--man"], Environment(stdout=stdout, variables={**clean, "PATH": str(tmp_path), **variables})) == 0
        stdout.flush()
        assert (tmp_path / "screen").read_text().startswith(shown)


def test_the_pager_gets_no_keys(tmp_path: Path) -> None:
    """Once it got all variables, and whatever it starts could read them."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config/config.toml").write_text('[remote.lab]\nurl = "http://localhost"\nkey_variable = "LAB_KEY"\n')
    (tmp_path / "less").write_text("#!/bin/sh\necho $KIND $LAB_KEY $MISTRAL_API_KEY\n")
    (tmp_path / "less").chmod(0o755)
    keys = {"LAB_KEY": "secret", "MISTRAL_API_KEY": "secret"}
    variables = {"PATH": str(tmp_path), "MISTRAL_CHAT_HOME": str(tmp_path), "KIND": "mine", **keys}
    with (tmp_path / "screen").open("wb") as file, TerminalFile(file, encoding="utf-8") as stdout:
        assert run(["--man"], Environment(stdout=stdout, variables=variables)) == 0
    assert (tmp_path / "screen").read_text() == "mine\n"


def test_a_pipe_gets_the_source_and_a_screen_in_memory_the_text() -> None:
    piped, screen = pipes(), terminal(columns=60)
    assert run(["--man"], piped) == run(["--man"], screen) == 0
    assert piped.out.startswith(".TH MISTRAL")
    lines = re.sub(".\b", "", screen.out).splitlines()
    assert "EXIT STATUS" in lines
    assert [line for line in lines if "\\" in line or line.startswith(".")] == []
