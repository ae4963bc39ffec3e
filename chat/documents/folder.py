"""The text files and documents of a folder, with a tree of them; what .gitignore names is left out."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from chat.documents.document import Document
from chat.documents.ignore_rules import IgnoreRules
from chat.documents.kinds import HEAD_BYTES, READ_BY_SUFFIX, Kind, kind_of
from chat.documents.plain_text import decode
from chat.errors import ChatError, ContextError, DataError, FileError, reason_text
from chat.system.terminal_text import counted, size_text
from chat.system.text_files import MOST_TEXT_BYTES, read_beginning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOST_FILE_BYTES = 1 << 20  # of a text; what is larger is data or generated, and named only
MOST_ENTRIES = 10_000
MOST_DEPTH = 100  # folders in each other


@dataclass
class _Entry:
    """A file or a folder in the tree."""

    path: Path
    note: str = ""
    document: Document | None = None
    below: list[_Entry] = field(default_factory=list)

    def files(self) -> Iterator[_Entry]:
        yield self
        for entry in self.below:
            yield from entry.files()


def read_folder(name: str, read_file: Callable[[str], Document]) -> Document:
    """A tree of the folder, then each text file and document in it, in the order of their names.

    Links are not followed, and no other file system is entered. Binary files, texts of over 1 MiB and documents that
    cannot be read are named in the tree only.

    Args:
        name: the folder.
        read_file: reads a document by its path, and raises a `ChatError` if it cannot.

    Raises:
        FileError: it cannot be read.
        ContextError: no context holds that much.
        DataError: it has nothing that can be read.
    """
    root = Path(name)
    top = _Entry(root)
    try:
        walk = _Walk(root, read_file)
        top.below = walk.entries_of(root)
    except OSError as error:
        raise FileError(f"{name}: cannot be read: {reason_text(error)}") from error
    label = f"{root.resolve().name}/"
    files = tuple(
        replace(entry.document, name=label + entry.path.relative_to(root).as_posix())
        for entry in top.files()
        if entry.document is not None
    )
    if not files:
        raise DataError(f"{name}: has no text files or documents in it", hint="; ".join(walk.unread) or None)
    size = sum(len(file.text.encode()) for file in files)
    notes = [f"{label} has {counted(len(files), 'file')} with {size_text(size)} of text"]
    notes += [f"left out: {', '.join(walk.left_out_text())}"] if walk.left_out else []
    warnings = ("; ".join(notes), *walk.unread, *(warning for file in files for warning in file.warnings))
    tree = "\n".join([label, *_tree(top.below)])
    return Document(label, tree, os.path.realpath(root), "Folder", "text", warnings=warnings, parts=files)


class _Walk:
    """Reads a folder and those below it."""

    def __init__(self, root: Path, read_file: Callable[[str], Document]) -> None:
        self._read_file = read_file
        self.left_out: dict[str, int] = {}
        self.unread: list[str] = []  # why documents could not be read
        self._bytes = 0
        self._count = 0
        self._rules = IgnoreRules(root)
        self._root = root
        self._device = root.stat().st_dev

    def entries_of(self, folder: Path) -> list[_Entry]:
        """The entries of one folder; a folder below it that cannot be read is named only."""
        entries: list[_Entry] = []
        with self._rules.inside(folder) as real:
            for path in sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name)):
                self._count += 1
                if self._count > MOST_ENTRIES:
                    hint = "attach a folder below it, or name the files with a pattern"
                    raise ContextError(f"{self._root}: has more than {MOST_ENTRIES:,} files", hint=hint)
                if self._rules.leave_out(real / path.name, is_folder=path.is_dir()):
                    continue
                if path.is_symlink() or not (path.is_dir() or path.is_file()):
                    continue
                entries.append(self._entry_of(path))
        return [entry for entry in entries if entry.below or not entry.path.is_dir()]

    def _entry_of(self, path: Path) -> _Entry:
        if path.stat().st_dev != self._device:
            return self._without(path, "another file system")
        if path.is_dir() and len(path.relative_to(self._root).parts) > MOST_DEPTH:
            return self._without(path, f"over {MOST_DEPTH} folders deep")
        if path.is_dir():
            try:
                return _Entry(path, below=self.entries_of(path))
            except OSError:
                return self._without(path, "unreadable")
        try:
            size = path.stat().st_size
            suffix = path.suffix if path.suffix.lower() in READ_BY_SUFFIX else ""
            kind = kind_of(read_beginning(path, HEAD_BYTES), path.name, suffix)
            if kind is Kind.PICTURE:
                return self._without(path, "picture", size)
            if kind is Kind.TEXT and size > MOST_FILE_BYTES:
                return self._without(path, f"over {MOST_FILE_BYTES >> 20} MiB", size)
            document = self._document(path, kind)
        except OSError:
            return self._without(path, "unreadable")
        except DataError:
            return self._without(path, "binary", size)
        if document is None:
            return self._without(path, "document that cannot be read", size)
        if document.pages:
            return self._without(path, "document without text", size)
        self._bytes += len(document.text.encode())
        if self._bytes > MOST_TEXT_BYTES:
            raise ContextError(f"{self._root}: its files together are larger than {MOST_TEXT_BYTES >> 20} MiB")
        return _Entry(path, size_text(size), document)

    def _document(self, path: Path, kind: Kind) -> Document | None:
        """A text or a document; None for a document that cannot be read."""
        if kind is Kind.TEXT:
            text = decode(read_beginning(path, MOST_FILE_BYTES), path.name).text
            return Document(path.name, text, os.path.realpath(path), language=_language(path))
        try:
            return self._read_file(str(path))
        except ChatError as error:
            self.unread.append(error.message)
            return None

    def _without(self, path: Path, why: str, size: int = 0) -> _Entry:
        self.left_out[why] = self.left_out.get(why, 0) + 1
        return _Entry(path, f"{size_text(size)}, {why}, left out" if size else f"{why}, left out")

    def left_out_text(self) -> list[str]:
        """How many files were left out for each reason."""
        return [f"{counted(count, 'file')} ({why})" for why, count in sorted(self.left_out.items())]


def _tree(entries: list[_Entry], indent: str = "") -> Iterator[str]:
    for number, entry in enumerate(entries, 1):
        is_last = number == len(entries)
        mark, below = ("└── ", "    ") if is_last else ("├── ", "│   ")
        note = f" ({entry.note})" if entry.note else ""
        yield f"{indent}{mark}{entry.path.name}{'/' if entry.below else ''}{note}"
        yield from _tree(entry.below, indent + below)


def _language(path: Path) -> str:
    suffix = path.suffix.removeprefix(".")
    return suffix if suffix.isalnum() else ""
