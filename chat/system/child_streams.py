"""The pipes by which a child process of ours speaks with its parent."""

from __future__ import annotations

import os
from typing import BinaryIO


def take_streams() -> tuple[BinaryIO, BinaryIO]:
    """Take stdin and stdout for messages: from now on stdin is empty, and what is printed goes to stderr.

    Under Windows a library that looks at stdin while it is loaded, as numpy's does, waits until a thread that reads
    from that pipe has got something: https://github.com/numpy/numpy/issues/24290.

    Returns:
        What was stdin, and what was stdout.
    """
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, sink
