"""Load files with llama.cpp in a child process and report the result of each. For tests only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHILD = Path(__file__).with_name("load_ggufs.py")


def results(lines: list[str], *, timeout_seconds: float = 120) -> dict[str, str]:
    """What llama.cpp did with every path: `decoded 0`, `refused`, ..., or `killed` with its last words.

    Args:
        lines: as the child reads them; the first ones that begin with `base` are given to every child anew.
    """
    bases = [line for line in lines if line.startswith("base ")]
    waiting = [line for line in lines if not line.startswith("base ")]
    found: dict[str, str] = {}
    while waiting:
        try:
            child = subprocess.run(
                [sys.executable, str(CHILD)],
                input="\n".join([*bases, *waiting]) + "\n",
                capture_output=True,
                text=True,
                errors="replace",
                env={**os.environ, "GGML_NO_BACKTRACE": "1"},
                timeout=timeout_seconds,
                check=False,
            )
            output, last_words = child.stdout, f"killed, status {child.returncode}: {child.stderr[-300:].strip()}"
        except subprocess.TimeoutExpired as error:
            output, last_words = (error.stdout or b"").decode(), "hangs"
        lines = output.split("\n")
        started = [line.removeprefix("start ") for line in lines if line.startswith("start ")]
        done = [line.removeprefix("done ") for line in lines if line.startswith("done ")]
        found |= dict(zip(started, done, strict=False))
        if len(done) < len(started):
            found[started[-1]] = last_words
        elif not started:
            raise AssertionError(last_words)
        waiting = [line for line in waiting if line.rpartition(" ")[2] not in found]
    return found
