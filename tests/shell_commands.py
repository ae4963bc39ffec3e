"""Run the lines that the documents tell people to type, in a folder that has what they name."""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.chat.documents import document_makers
from tests.folders import CHECKPOINTS, ROOT
from tests.program import PROGRAM, run_command

CHECKPOINT_NAMES = {"Mistral-7B-Instruct-v0.1": "mistral-v0.1", "Mistral-7B-Instruct-v0.3": "mistral-v0.3"}
PROSE = "The engine reads the prompt in pieces of 512 tokens. Ann writes the letter in May. A gauge was read twice.\n"
TOOL = '[{"name": "weather", "description": "Weather of a city", "parameters": {"type": "object"}}]'


def fill_folder(folder: Path, model: Path, unwindowed: Path) -> None:
    """Make the files that the documents name.

    Args:
        model: what `model.gguf` is.
        unwindowed: a file of a model whose window was lost.
    """
    for name in ("model.gguf", "a.gguf", "b.gguf", "f16.gguf"):
        (folder / name).symlink_to(model)
    (folder / "old.gguf").symlink_to(unwindowed)
    for name, checkpoint in CHECKPOINT_NAMES.items():
        (folder / name).symlink_to(CHECKPOINTS / checkpoint)
    texts = {
        "README.md": "A tool that counts files.\n",
        "pyproject.toml": '[project]\nrequires-python = ">=3.11"\n',
        "src/settings.py": "SETTINGS = read('config.toml')\n",
        "mail.txt": "From: Ann\n\nI order three books for 40 euros.\n",
        "notes.txt": PROSE * 60,
        "long.txt": PROSE * 60,
        "weather.json": TOOL,
        "questions.jsonl": '"What is 1+1?"\n{"id": "b", "prompt": "And 2+2?", "temperature": 0}\n',
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder / "paper.pdf").write_bytes(document_makers.pdf(["They measure rainfall."]))
    document_makers.epub(folder / "book.epub", [f"<h1>One</h1><p>{PROSE * 120}</p>", "<p>It ended.</p>"])
    commit = "git -c user.name=n -c user.email=n@example.org commit -q --allow-empty -m"
    command = f"git init -q && {commit} one && git add README.md && {commit} two"
    subprocess.run(command, shell=True, check=True, cwd=folder)


def run_line(line: str, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run one line; what is a single call of the program, perhaps with a pipe before it, starts by a fork."""
    feed, _, call = line.rpartition(" | ")
    words = _words_of(call)
    if words is None or words[0] != "mistral-chat":
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            check=False,
            cwd=folder,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        )
    fed = subprocess.run(["bash", "-c", feed], capture_output=True, check=True, cwd=folder).stdout if feed else b""
    return run_command([*PROGRAM, *words[1:]], input=fed, capture_output=True, cwd=folder, env=_with_root())


def leave_session(line: str, folder: Path) -> int | None:
    """Type a line that opens a session at a terminal, then `/bye`.

    Returns:
        The exit code; None if a signal ended it.
    """
    import pexpect

    words = [*PROGRAM[1:], *shlex.split(line, comments=True)[1:]]
    child = pexpect.spawn(PROGRAM[0], words, cwd=str(folder), env=_with_root() | {"TERM": "xterm"}, timeout=60)
    child.expect("/help")
    child.send("/bye\r")
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus


def _words_of(call: str) -> list[str] | None:
    """The words of a single command; None if the shell has more to do."""
    lexer = shlex.shlex(call, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = list(lexer)
    is_single = words and not any(set(word) <= set("|&;<>()") for word in words) and "=" not in words[0]
    return words if is_single and "$" not in call else None


@functools.cache
def _path() -> str:
    return os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))


def _with_root() -> dict[str, str]:
    """The environment in which the program is found from any folder."""
    return {**os.environ, "PYTHONPATH": _path()}
