"""The three standard streams where a caller closed them or nobody reads them. Knows file descriptors, not words."""

from __future__ import annotations

import io
import os
import sys

# name, how it is opened where it is missing, how it is used
_STREAMS = (("stdin", os.O_RDONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_WRONLY, "w"))


def open_missing_streams() -> None:
    """Open each standard stream that the caller closed, so that no file of ours gets its number.

    stdin is then empty, stderr is not heard, and writing to stdout fails, as it should.
    """
    for number, (name, flags, mode) in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, flags), number)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))


def replace_unencodable() -> None:
    """Let stdout show a question mark for what its encoding lacks, under a locale that is not UTF-8."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def say(text: str) -> None:
    """Write a line to stderr; where that fails, nobody listens and the work goes on."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        _silence(2)


def silence_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush does not fail."""
    _silence(1)


def _silence(number: int) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
