"""Completion scripts are taken by the shells that are here, and offer what a person would look for."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from chat.cli.main import COMMANDS, run

if TYPE_CHECKING:
    from pathlib import Path

SHELL_CHECKS = {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "--no-execute"]}


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", SHELL_CHECKS)
def test_the_shell_parses_its_script(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed here")
    path = tmp_path / "script"
    path.write_text(script(shell, capsys))
    done = subprocess.run([*SHELL_CHECKS[shell], str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (["--tempe"], "--temperature"),
        (["convert", "--ty"], "--type"),
        (["templates", ""], "list show edit rm"),
        (["--color", ""], "auto always never"),
        (["conv"], "convert"),
    ],
)
def test_bash_offers_what_fits(line: list[str], offered: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = " ".join(f"'{word}'" for word in ["mistral-chat", *line])
    code = (
        f"compopt() {{ :; }}; {script('bash', capsys)}\nCOMP_WORDS=({words}); COMP_CWORD={len(line)}; "
        '_mistral_chat; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == offered + "\n"


def test_help_says_where_each_shell_takes_it_up(capsys: pytest.CaptureFixture[str]) -> None:
    """It once was the page of the whole program."""
    assert run(["completion", "--help"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("Usage: mistral-chat completion bash|zsh|fish\n")
    assert [shell for shell in SHELL_CHECKS if f"mistral-chat completion {shell}" in page.split("\n\n")[2]] == [
        *SHELL_CHECKS
    ]


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "tcsh"]) == 2
    assert (
        capsys.readouterr().err == "error: `completion` needs a shell\nhint: `mistral-chat completion bash|zsh|fish`\n"
    )


def test_the_manual_names_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--man"]) == 0
    page = capsys.readouterr().out
    for name in COMMANDS:
        assert f".SS mistral\\-chat {name}" in page
    for code in (0, 1, 2, 3, 4, 5, 6, 7, 8, 130, 141):
        assert f"\n.B {code}\n" in page
    assert not [line for line in page.split("\n") if line.startswith("'")]
