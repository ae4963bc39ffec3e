"""The command that installs a package where this program runs."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from chat import platform


def pip_install(arguments: str) -> str:
    """A command for the Python that runs this program, whichever `pip` is on PATH.

    Args:
        arguments: of `pip install`, as a shell reads them.
    """
    if getattr(sys, "frozen", False):  # the program is one file: what it lacks, the Python that builds it needs
        return f"pip install {arguments}"
    python = platform.quoted(sys.executable)
    if find_spec("pip") is None:  # uv makes environments without it
        return f"uv pip install --python {python} {arguments}"
    command = shutil.which("pip")
    if command is not None and Path(command).parent == Path(sys.executable).parent:
        return f"pip install {arguments}"
    return f"{python} -m pip install {arguments}"


def install_extra(*extras: str) -> str:
    """The command that installs optional parts of this program, such as `documents`."""
    return pip_install(platform.quoted(f"mistral-chat[{','.join(extras)}]"))
