"""Check the installed versions of the program and of llama-cpp-python, without importing them."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, requires, version

from chat.doctor.finding import Finding

ENGINE = "llama-cpp-python"


def check_program() -> Finding:
    """Our own version, Python's, and the system."""
    ours = installed("mistral-chat") or "of unknown version (not installed)"
    where = f"{platform.system()} {platform.machine()}"
    return Finding("program", "ok", f"mistral-chat {ours}, Python {platform.python_version()}, {where}")


def check_engine_library(found: str | None, wanted: str | None) -> Finding:
    """Whether the engine's library is the one that we are tested with."""
    if found is None:
        hint = f"`pip install {ENGINE}{f'=={wanted}' if wanted else ''}`"
        return Finding("library", "problem", f"{ENGINE} is not installed", hint)
    if wanted is not None and found != wanted:
        words = f"{ENGINE} is {found}, but what we know of it was measured on {wanted}"
        return Finding("library", "note", words, f"`pip install {ENGINE}=={wanted}`")
    return Finding("library", "ok", f"{ENGINE} {found}" + (", the version we are tested with" if wanted else ""))


def installed(name: str) -> str | None:
    """The version of an installed distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def pinned(name: str = ENGINE) -> str | None:
    """The version of a library that we require, from our own metadata."""
    try:
        wanted = requires("mistral-chat") or []
    except PackageNotFoundError:
        return None
    found = (re.fullmatch(rf"{re.escape(name)}==([\w.+-]+)", each.partition(";")[0].strip()) for each in wanted)
    return next((match[1] for match in found if match), None)
