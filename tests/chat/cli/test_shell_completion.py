"""Completion scripts run in the shells that are installed, and offer flags, commands and stored names."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chat.cli.main import COMMANDS, run
from chat.core.conversation import Conversation, Message
from chat.history.store import open_history
from chat.system.paths import config_folder
from tests.folders import ROOT

HOSTILE = "x$(touch pwned)"
SHELL_CHECKS = {
    "bash": ["bash", "-n"],
    "zsh": ["zsh", "-n"],
    "fish": ["fish", "--no-execute"],
    "powershell": ["pwsh", "-NoProfile", "-File"],
}


def script(shell: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["completion", shell]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("shell", SHELL_CHECKS)
def test_the_shell_parses_its_script(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    if not shutil.which(SHELL_CHECKS[shell][0]):
        pytest.skip(f"{shell} is not installed here")
    path = tmp_path / "script.ps1"
    path.write_text(script(shell, capsys))
    done = subprocess.run([*SHELL_CHECKS[shell], str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed here")
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


def test_help_shows_the_start_file_of_each_shell(capsys: pytest.CaptureFixture[str]) -> None:
    """It once was the page of the whole program."""
    assert run(["completion", "--help"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("Usage: mistral-chat completion bash|zsh|fish|powershell\n")
    assert [shell for shell in SHELL_CHECKS if f"mistral-chat completion {shell}" in page.split("\n\n")[2]] == [
        *SHELL_CHECKS
    ]


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "tcsh"]) == 2
    assert (
        capsys.readouterr().err
        == "error: `completion` needs a shell\nhint: `mistral-chat completion bash|zsh|fish|powershell`\n"
    )


def test_the_manual_names_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--man"]) == 0
    page = capsys.readouterr().out
    for name in COMMANDS:
        assert f".SS mistral\\-chat {name}" in page
    for code in (0, 1, 2, 3, 4, 5, 6, 7, 8, 130, 141):
        assert f"\n.B {code}\n" in page
    assert not [line for line in page.split("\n") if line.startswith("'")]


@pytest.fixture
def names() -> str:
    """Stores names of every kind; the beginning of the id of a session without a name."""
    with open_history() as store:
        store.create(name="my trip", model="")
        store.create(name=HOSTILE, model="")
        store.create(name=None, model="")
        unnamed = store.create(conversation=Conversation().add(Message("user", "Why\tis\x1b it?")))
    config_folder().mkdir(parents=True, exist_ok=True)
    (config_folder() / "config.toml").write_text("[preset.code]\ntop_k = 1\n")
    return unnamed.label


def lines(kind: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert run(["completion", kind]) == 0
    return capsys.readouterr().out.splitlines()


def test_names_of_every_kind_are_printed_one_on_a_line(names: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert lines("sessions", capsys) == [f"{names}\tWhy is␛ it?", HOSTILE, "my trip"]
    assert lines("presets", capsys) == ["code"]
    assert {"summarise", "commit"} <= set(lines("templates", capsys))
    assert {"guide", "mistral-7b-instruct-v0.3"} <= set(lines("models", capsys))


def test_looking_for_names_makes_no_file(capsys: pytest.CaptureFixture[str], own_home: Path) -> None:
    assert lines("sessions", capsys) + lines("presets", capsys) == []
    assert [path for path in own_home.rglob("*") if path.is_file()] == []


def shell_with_us(shell: str, code: str, folder: Path) -> str:
    """What a shell prints that has our script, and finds us on its path."""
    program = folder / "mistral-chat"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m chat "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "XDG_CONFIG_HOME": str(folder)}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [shell, "-c", code], capture_output=True, text=True, timeout=60, cwd=folder, env=environment, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        (["--session", ""], ["ID", "my trip", HOSTILE]),
        (["sessions", "show", "my"], ["my trip"]),
        (["sessions", "rm", "Why"], ["ID"]),
        (["-t", "su"], ["summarise"]),
        (["--preset", ""], ["code"]),
        (["-m", "gui"], ["guide", "guidebook.gguf"]),
        (["completion", ""], ["bash", "fish", "powershell", "zsh"]),
        (["--seed", ""], []),
        (["--ma"], ["--man", "--markdown", "--max-tokens"]),
    ],
)
def test_bash_offers_names_and_runs_none_of_them(
    line: list[str], offered: list[str], names: str, tmp_path: Path
) -> None:
    (tmp_path / "guidebook.gguf").touch()
    words = " ".join(f"'{word}'" for word in ["mistral-chat", *line])
    code = (
        f'eval "$(mistral-chat completion bash)"; compopt() {{ :; }}; COMP_WORDS=({words}); COMP_CWORD={len(line)}; '
        'COMPREPLY=(); _mistral_chat; [ ${#COMPREPLY[@]} = 0 ] || printf "%s\\n" "${COMPREPLY[@]}"'
    )
    found = shell_with_us("bash", code, tmp_path).splitlines()
    assert sorted("ID" if name == names else name for name in found) == offered
    assert not (tmp_path / "pwned").exists()


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed here")
def test_fish_offers_names(names: str, tmp_path: Path) -> None:
    code = (
        "mistral-chat completion fish | source; complete -C 'mistral-chat --session '; "
        "complete -C 'mistral-chat sessions show my'; complete -C 'mistral-chat completion f'"
    )
    found = [each.partition("\t")[0] for each in shell_with_us("fish", code, tmp_path).splitlines()]
    assert sorted(found) == sorted(["my trip", HOSTILE, names, "my trip", "fish"])


@pytest.mark.parametrize(
    ("line", "word", "offered"),
    [
        ("mistral-chat --tempe", "--tempe", ["--temperature"]),
        ("mistral-chat convert --TY", "--TY", ["--type"]),
        ("mistral-chat templates", "", ["list", "show", "edit", "rm"]),
        ("mistral-chat --color", "", ["auto", "always", "never"]),
        ("C:\\bin\\mchat.exe conv", "conv", ["convert"]),
        ("mistral-chat completion", "", ["bash", "zsh", "fish", "powershell"]),
        ("mistral-chat --seed", "", []),
        ("mistral-chat -s 'a  b' --preset", "", ["code"]),
        ("mistral-chat --session", "", ["ID", f"'{HOSTILE}'", "'my trip'"]),
        ("mistral-chat sessions show 'my t", "'my t", ["'my trip'"]),
        ("mistral-chat sessions rm why", "why", ["ID"]),
        ("mistral-chat -m gui", "gui", ["guide"]),
    ],
)
def test_powershell_gets_what_fits_quoted(
    line: str,
    word: str,
    offered: list[str],
    names: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There was no completion for PowerShell. Its script hands the line over, and this is what it gets back."""
    monkeypatch.setenv("_MISTRAL_CHAT_LINE", line)
    monkeypatch.setenv("_MISTRAL_CHAT_WORD", word)
    found = [each.split("\t") for each in lines("offers", capsys)]
    assert ["ID" if text == names else text for text, _ in found] == offered
    assert all(title for _, title in found)  # PowerShell refuses empty ones
