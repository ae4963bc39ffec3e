"""What the README tells people to type is what the program takes, and its one-liners do what they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_lines import flags_of, unknown_flags

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
LINES = [line for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
QUOTED = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", README, flags=re.DOTALL))
CALLS = re.compile(r"mistral-chat [^|&#;`]*")
ONE_LINERS = README.partition("<!-- one-liners -->\n```sh\n")[2].partition("\n```")[0].splitlines()
CUT = "error: the answer was cut after 24 tokens\nhint: `-n` allows more\n"
CUT_NOTE = re.compile(r"^note: the answer was cut after \d+ tokens; `-n` allows more\n", re.MULTILINE)
NO_CODE = "error: the answer has no code block\n"
EXPECTED = {"--schema": (1, CUT), "-x": (0, NO_CODE)}  # a model of random weights writes no code and ends nothing


@pytest.mark.slow
def test_every_command_of_the_readme_is_one_the_program_takes() -> None:
    calls = [call for line in [*LINES, *QUOTED] for call in CALLS.findall(re.sub(r"\"[^\"]*\"|'[^']*'", "TEXT", line))]
    assert len(calls) > 20
    assert {call: unknown_flags(call) for call in calls if unknown_flags(call)} == {}


def test_every_option_that_the_readme_names_is_there() -> None:
    named = {option for text in QUOTED for option in re.findall(r"(?<![\w-])--[a-z-]+", text)}
    takes = (
        flags_of([])
        | flags_of(["convert"])
        | flags_of(["bench"])
        | flags_of(["models", "list"])
        | flags_of(["sessions", "export"])
        | {"--force-reinstall", "--no-cache-dir", "--full"}
    )  # pip's and pytest's are the last
    assert len(named) > 20
    assert named - takes == set()


def test_every_path_that_the_readme_names_is_there() -> None:
    named = re.findall(r"\((tests/[^)]+)\)|`(tests/[^`]+)`", README)
    assert len(named) > 8
    assert [path for pair in named for path in pair if path and not (ROOT / path).exists()] == []


def test_there_are_ten_one_liners() -> None:
    assert len(ONE_LINERS) == 10


@pytest.mark.parametrize("line", ONE_LINERS)
@pytest.mark.slow
def test_each_one_liner_answers(line: str, tiny_v3_model: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("A tool that counts files.\n")
    (tmp_path / "pyproject.toml").write_text('[project]\nrequires-python = ">=3.11"\n')
    commit = "git -c user.name=n -c user.email=n@example.org commit -q --allow-empty -m"
    subprocess.run(f"git init -q && {commit} one && git add . && {commit} two", shell=True, check=True, cwd=tmp_path)
    variables = {"MISTRAL_CHAT_MODEL": str(tiny_v3_model), "MISTRAL_CHAT_MAX_TOKENS": "24", "MISTRAL_CHAT_SEED": "1"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
        cwd=tmp_path,
        env={**os.environ, **variables, "PATH": path},
    )
    code, errors = next((each for flag, each in EXPECTED.items() if f" {flag} " in line), (0, ""))
    said = CUT_NOTE.sub("", done.stderr.decode())
    assert (done.returncode, said[: len(errors) or None]) == (code, errors)
    assert done.stdout.endswith(b"\n")
    for json_line in done.stdout.splitlines() if "--json" in line or "--batch" in line else ():
        assert json.loads(json_line)["finish_reason"] in ("stop", "length")
