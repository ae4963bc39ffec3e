"""Load files with llama.cpp in a child process and report the result of each. For tests only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHILD = Path(__file__).with_name("load_ggufs.py")


@contextmanager
def loading(base: Path | None = None, sees: Path | None = None) -> Iterator[Callable[[str], str]]:
    """A function that says what llama.cpp does with a path: `decoded 0`, `refused`, `hangs`, or `killed` and why.

    Args:
        base: the model that an `adapter PATH` is for.
        sees: the model that an `encoder PATH` is for.
    """
    with subprocess.Popen(
        [sys.executable, str(CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        for kind, model in (("base", base), ("sees", sees)):
            if model is not None:
                print(kind, model, file=child.stdin)

        def load(line: str) -> str:
            print(line, file=child.stdin, flush=True)
            path, result = json.loads(child.stdout.readline())
            assert line.endswith(path)
            return str(result)

        yield load
        child.stdin.close()


def results(lines: list[str], base: Path | None = None) -> dict[str, str]:
    """What llama.cpp did with every path."""
    with loading(base) as load:
        return {line.rpartition(" ")[2]: load(line) for line in lines}
