"""What a repository's `.gitignore` files leave out."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pathspec import GitIgnoreSpec

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
    from pathspec import GitIgnoreSpec

    try:
        return GitIgnoreSpec.from_lines((folder / ".gitignore").read_text("utf-8", "replace").splitlines())
    except (OSError, ValueError):  # none, or a pattern that Git does not know either
        return None
