"""What a repository's `.gitignore` files leave out."""

from __future__ import annotations

import functools
import re
import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from chat.system.text_files import read_beginning

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pathspec import GitIgnoreSpec
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

MOST_BYTES = 1 << 20  # of a file of patterns
STAR = "[^/]*"  # in pathspec's regular expressions
VERSION_CONTROL = {".git", ".hg", ".svn", ".jj"}


class IgnoreRules:
    """The patterns that count in a folder while it is walked."""

    def __init__(self, root: Path) -> None:
        """Read the patterns of the repository that `root` lies in, without its own."""
        self._specs = _specs_above(root.resolve())

    @contextmanager
    def inside(self, folder: Path) -> Iterator[Path]:
        """Add the patterns of a folder while the block runs.

        Yields:
            The folder's real path.
        """
        real = folder.resolve()
        spec = _spec_of(real)
        self._specs += [(real, spec)] if spec else []
        try:
            yield real
        finally:
            if spec:
                self._specs.pop()

    def leave_out(self, path: Path, *, is_folder: bool) -> bool:
        """Whether the last pattern that matches, of the innermost folder's file or of one above it, ignores the path.

        Args:
            path: real up to its last part.
        """
        if path.name in VERSION_CONTROL:
            return True
        for folder, spec in reversed(self._specs):
            relative = path.relative_to(folder).as_posix() + ("/" if is_folder else "")
            decision = spec.check_file(relative).include
            if decision is not None:
                return bool(decision)
        return False


def _specs_above(root: Path) -> list[tuple[Path, GitIgnoreSpec]]:
    """The patterns of the repository that the folder lies in, outermost first, without its own."""
    folders = []
    if not (root / ".git").exists():
        for folder in root.parents:
            folders.append(folder)
            if (folder / ".git").exists():
                return [(each, spec) for each in reversed(folders) if (spec := _spec_of(each))]
    return []


def _spec_of(folder: Path) -> GitIgnoreSpec | None:
    """The patterns of a folder's own file, without those that Git does not know either; None if there is none."""
    from pathspec import GitIgnoreSpec

    try:
        text = read_beginning(folder / ".gitignore", MOST_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
    patterns: list[GitIgnoreSpecPattern] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of re, about brackets in brackets
        for line in text.splitlines():
            with suppress(ValueError, re.error):
                patterns += GitIgnoreSpec.from_lines([line], _pattern_class()).patterns
    return GitIgnoreSpec(patterns)


@functools.cache
def _pattern_class() -> type[GitIgnoreSpecPattern]:
    """Git's patterns as pathspec knows them, but in a time that does not grow exponentially with their stars."""
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    class LinearPattern(GitIgnoreSpecPattern):
        @classmethod
        def pattern_to_regex(cls, pattern: Any) -> tuple[Any, bool | None]:
            regex, include = super().pattern_to_regex(pattern)
            return (regex and _without_backtracking(regex)), include

    return LinearPattern


def _without_backtracking(regex: str) -> str:
    """A regular expression of pathspec in which all stars but the last one take the first place that fits.

    No other place lets more of the rest match. A star ends with its part of the path, a double one with the pattern.
    """
    first, *pieces = re.split(r"(\(\?:\.\+/\)\?|\(\?:/\.\+\)\?)", regex)
    marks, texts = pieces[::2], [_within_parts(text) for text in pieces[1::2]]
    made = _within_parts(first)
    for number, (mark, text) in enumerate(zip(marks, texts, strict=True), 1):
        lazy = mark.replace("+", "+?") + "?"
        made += mark + text if number == len(marks) else f"(?>{lazy}{text}(?=/))"
    return made


def _within_parts(regex: str) -> str:
    first, *pieces = regex.split(STAR)
    made = first
    for number, piece in enumerate(pieces, 1):
        ends_part = "/" in piece.replace("[^/]", "")
        made += f"{STAR}{piece}" if ends_part or number == len(pieces) else f"(?>{STAR}?{piece})"
    return made
