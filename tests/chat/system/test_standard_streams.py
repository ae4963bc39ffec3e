"""Callers that close our standard streams, or give us one that takes nothing, get an exit code and no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.folders import CHECKPOINTS

PROGRAM = f'"{sys.executable}" -m chat'
CHECKPOINT = CHECKPOINTS / "mistral-v0.3"


def shell(command: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a shell's command."""
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("redirection", "reason"), [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")]
)
@pytest.mark.parametrize("arguments", ["--help", "--version", "templates list", "-q -m guide hello"])
def test_an_answer_that_cannot_be_written_is_exit_7_and_one_sentence(
    arguments: str, redirection: str, reason: str
) -> None:
    code, _, errors = shell(f"{PROGRAM} {arguments} {redirection}")
    assert (code, errors) == (7, f"error: cannot read or write: {reason}\n")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_whether_anybody_hears_stderr_changes_neither_answer_nor_exit_code(redirection: str) -> None:
    assert shell(f"{PROGRAM} -m guide hello {redirection}") == shell(f"{PROGRAM} -q -m guide hello")
    assert shell(f"printf 'hello\\xff' | {PROGRAM} -m guide {redirection}")[0] == 0  # a note is due
    assert shell(f"{PROGRAM} -m nowhere hello {redirection}") == (3, "", "")


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_a_conversion_is_done_whether_or_not_anybody_hears_its_notes(redirection: str, tmp_path: Path) -> None:
    """It ended with 7 when the file was written, and did not say its name."""
    output = tmp_path / "out.gguf"
    said = shell(f"{PROGRAM} convert {CHECKPOINT} -o {output} --no-verify {redirection}")
    assert (said, output.exists()) == ((0, f"{output}\n", ""), True)


def test_a_closed_stdin_is_an_empty_one() -> None:
    assert shell(f"{PROGRAM} -q -m guide hello <&-") == shell(f"{PROGRAM} -q -m guide hello </dev/null")


def test_no_file_of_ours_gets_the_number_of_a_closed_stream() -> None:
    """A history that was opened as descriptor 2 would have had every warning written into it."""
    code = (
        "import os, sys; from chat.system.standard_streams import open_missing_streams; open_missing_streams(); "
        "file = os.open(os.devnull, os.O_RDONLY); sys.exit(file if file > 2 else 1)"
    )
    done, _, _ = shell(f"\"{sys.executable}\" -c '{code}' <&- >&- 2>&-")
    assert done > 2


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", "?l? ??"), ("latin-1", "\xf6l\xe9 ??"), ("utf-8", "\xf6l\xe9 \u6ed1\u52a8")]
)
def test_letters_that_an_encoding_lacks_become_question_marks(encoding: str, shown: str) -> None:
    """A session under a locale that is not UTF-8 ended at the first dot of its first line."""
    code = (
        "from chat.system.standard_streams import replace_unencodable\n"
        "replace_unencodable()\n"
        "print('\xf6l\xe9 \u6ed1\u52a8')"
    )
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
    assert done.stdout.decode(encoding) == shown + "\n"
