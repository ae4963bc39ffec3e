"""An argument of a call that is a path, as rules see it: what it leads to, and by which other names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path


@dataclass(frozen=True)
class PathArgument:
    """A path in the arguments of a call.

    Attributes:
        key: the argument.
        root: the folder that paths start from, without links.
        real: what the path leads to, without links and `..`; None where no file can have the name.
        is_hidden: whether the call names a hidden file, such as `.env`, which only a rule with a pattern for such
            files allows.
    """

    key: str
    root: Path
    real: Path | None
    is_hidden: bool

    @property
    def written(self) -> tuple[str, ...]:
        """The path in all ways to write it: from the root folder if it is under it, and absolute."""
        return self._written(self.real) if self.real is not None else ()

    @property
    def other_names(self) -> tuple[str, ...]:
        """The same file by other names: as its folder spells it, where case does not count, and hard links there."""
        if self.real is None:
            return ()
        return tuple(text for path in _entries_of(self.real) if path != self.real for text in self._written(path))

    def is_same(self, pattern: str) -> bool:
        """Whether a pattern without wildcards is another name of the same file, wherever it is."""
        try:
            return self.real is not None and os.path.samefile(self.root / os.path.expanduser(pattern), self.real)  # noqa: PTH111, PTH121
        except (OSError, ValueError):  # there is no such file
            return False

    def _written(self, path: Path) -> tuple[str, ...]:
        inner = (path.relative_to(self.root).as_posix(),) if path.is_relative_to(self.root) else ()
        return (*inner, path.as_posix())


def _entries_of(path: Path) -> list[Path]:
    """A path with the names that its folders list for it; several for a file with hard links beside each other."""
    folders = [path]
    try:
        while folders[0].parent != folders[0]:
            folders.insert(0, folders[0].parent)
        found = folders[0]
        for each in folders[1:-1]:
            found /= _names(found, each)[0]
        return [found / name for name in _names(found, path)] if len(folders) > 1 else [path]
    except OSError:  # a folder that cannot be listed, or nothing of the name
        return []


def _names(folder: Path, path: Path) -> list[str]:
    """The names of a file in a folder; its own first, if the folder lists it so.

    Raises:
        OSError: there is no such file, or the folder cannot be read.
    """
    facts = path.lstat()
    listed = _listed(str(folder), folder.stat().st_mtime_ns)
    names = listed.get(facts.st_ino, ())
    if path.name in names and (facts.st_nlink == 1 or path.is_dir()):
        return [path.name]
    same = [name for name in names if os.path.samestat(facts, (folder / name).lstat())]
    return sorted(same, key=lambda name: name != path.name) or [path.name]


@lru_cache(maxsize=64)
def _listed(folder: str, _changed_at: int) -> dict[int, tuple[str, ...]]:
    """The names in a folder by the number of their file; kept while the folder does not change."""
    found: dict[int, tuple[str, ...]] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            number = entry.inode()  # `entry.stat()` has none on Windows
            found[number] = (*found.get(number, ()), entry.name)
    return found
