"""Say which files a person means by what stands behind a command. Knows names, not what is in the files."""

from __future__ import annotations

import glob
import os
import shlex

from chat.errors import UsageError
from chat.system.paths import expand_path
from chat.system.terminal_text import escape_line


def meant_files(text: str) -> list[str]:
    """One file whose name has spaces if there is such a file, else several as a shell splits and matches them.

    Raises:
        UsageError: a pattern matches no file.
    """
    whole = str(expand_path(text))
    if os.path.lexists(whole):
        return [whole]
    try:
        words = shlex.split(text)
    except ValueError:  # a quote that is part of the name
        words = [text]
    return [file for word in words for file in _matches(str(expand_path(word)))]


def _matches(word: str) -> list[str]:
    """The files of a pattern in the order of names; what is no pattern, or a file's own name, as it is."""
    if os.path.lexists(word) or not glob.has_magic(word):
        return [word]
    found = sorted(each for each in glob.glob(word) if not os.path.isdir(each))  # noqa: PTH112, PTH207
    if not found:
        raise UsageError(f"no file matches `{escape_line(word)}`")
    return found
