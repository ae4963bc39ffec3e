"""The functions that the program has itself: read and search files under the working folder, calculate, the date."""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat import platform
from chat.documents.ignore_rules import IgnoreRules
from chat.documents.kinds import HEAD_BYTES, Kind, kind_of
from chat.documents.plain_text import decode
from chat.errors import DataError, reason_text
from chat.system.terminal_text import counted, size_text
from chat.tools.calculator import calculate
from chat.tools.path_argument import PathArgument
from chat.tools.tool import BUILT_IN, SourceTool, ToolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chat.tools.tool import CallControl

MOST_FILE_BYTES = 4 << 20  # that is read, or searched
MOST_SEARCHED_BYTES = 256 << 20
MOST_ENTRIES = 2000  # of a list
MOST_VISITED = 50_000  # files and folders of a walk
MOST_MATCHES = 200
LONGEST_LINE = 300  # characters of a matching line
_FOLDER = {"type": "string", "description": "A folder under the working folder; the working folder itself by default."}


def _schema(required: tuple[str, ...] = (), **properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


TOOLS = (
    SourceTool(
        "read_file",
        "Read a text file under the working folder. Long files are cut; first_line and last_line choose a part.",
        _schema(
            ("path",),
            path={"type": "string", "description": "The file's path from the working folder."},
            first_line={"type": "integer", "description": "The first line to read, counted from 1."},
            last_line={"type": "integer", "description": "The last line to read."},
        ),
    ),
    SourceTool(
        "list_files",
        "List files and folders with their sizes, without hidden ones and what .gitignore names.",
        _schema(
            path=_FOLDER,
            depth={"type": "integer", "description": "How many folders deep: 1, the default, is the folder alone."},
            pattern={"type": "string", "description": "Only files whose names match, such as *.py."},
        ),
    ),
    SourceTool(
        "search_files",
        "Find lines that contain a text in all text files of a folder and below it, in upper or lower case.",
        _schema(
            ("text",),
            text={"type": "string", "description": "The text, as it stands in a line; no pattern."},
            path=_FOLDER,
            pattern={"type": "string", "description": "Only files whose names match, such as *.py."},
        ),
    ),
    SourceTool(
        "calculate",
        "Calculate an arithmetic expression, with functions such as sqrt, log, sin, factorial and round.",
        _schema(("expression",), expression={"type": "string", "description": "For example: 2 * (3 + 4) ** 2"}),
    ),
    SourceTool("current_date", "The date, the day of the week and the time here.", _schema()),
)
OF_FILES = ("read_file", "list_files", "search_files")


class BuiltInTools:
    """The program's own functions; those of files see one folder."""

    name = BUILT_IN
    origin = ""

    def __init__(self, folder: Path | None = None) -> None:
        """Take the folder that files are read in; the working folder by default."""
        self._folder = folder or Path.cwd()

    def start(self) -> None:
        """Do nothing."""

    def tools(self) -> tuple[SourceTool, ...]:
        """All of them."""
        return TOOLS

    def call(self, name: str, arguments: Mapping[str, Any], control: CallControl) -> str:
        """The result.

        Raises:
            ToolError: there is none.
        """
        if name == "calculate":
            return calculate(arguments["expression"])
        if name == "current_date":
            return datetime.now().astimezone().strftime("%A, %Y-%m-%d %H:%M:%S %Z (UTC%z)")
        files = _Files(self._folder, control, arguments)
        try:
            if name == "read_file":
                return files.read(**arguments)
            return files.entries(**arguments) if name == "list_files" else files.search(**arguments)
        except OSError as error:
            raise ToolError(f"{arguments.get('path', '.')}: {reason_text(error)}") from error

    def path_argument(self, name: str, arguments: Mapping[str, Any]) -> PathArgument | None:
        """The path of a call of files."""
        if name not in OF_FILES:
            return None
        root, text = self._folder.resolve(), str(arguments.get("path", "."))
        real: Path | None = None
        with suppress(ValueError):  # no file can have the name
            real = _real(root, text)
        return PathArgument("path", root, real, _is_hidden(text))

    def close(self) -> None:
        """Do nothing."""


def _real(root: Path, path: str) -> Path:
    """What a path from the root leads to, links resolved.

    Raises:
        ValueError: no file can have such a name.
    """
    found = Path(os.path.realpath(root / os.path.expanduser(path)))  # noqa: PTH111
    if "\0" in path or platform.names_stream(found):
        raise ValueError(f"{path}: names no file, or a stream of one")
    return found


def _is_hidden(path: str) -> bool:
    return any(part.startswith(".") for part in Path(os.path.normpath(path or ".")).parts if part not in (".", ".."))


class _Files:
    """Reads, lists and searches under one folder."""

    def __init__(self, folder: Path, control: CallControl, arguments: Mapping[str, Any]) -> None:
        self._root = folder.resolve()
        self._control = control
        self._arguments = arguments
        self._deadline = time.monotonic() + control.limits.seconds
        self._visited = 0

    def read(self, path: str, first_line: float = 1, last_line: float | None = None) -> str:
        """The text of a file, or some lines of it."""
        real = self._place(path)
        if real.is_dir():
            raise ToolError(f"{path} is a folder; list_files lists it")
        text = _text(real, path)
        if first_line == 1 and last_line is None:
            return text
        lines = text.splitlines(keepends=True)
        first, last = max(1, int(first_line)), len(lines) if last_line is None else int(last_line)
        if first > len(lines):
            raise ToolError(f"{path} has {counted(len(lines), 'line')}")
        return "".join(lines[first - 1 : last])

    def entries(self, path: str = ".", depth: float = 1, pattern: str = "*") -> str:
        """The files and folders, one in a line; a folder ends with a slash."""
        folder = self._place(path)
        if not folder.is_dir():
            raise ToolError(f"{path} is not a folder")
        lines: list[str] = []
        for found in self._walk(folder, int(depth)):
            is_folder = found.is_dir()
            if not is_folder and not fnmatchcase(found.name, pattern):
                continue
            if len(lines) == MOST_ENTRIES:
                lines.append(f"[cut after {MOST_ENTRIES:,} entries; list a folder below it]")
                break
            name = found.relative_to(folder).as_posix()
            lines.append(f"{name}/" if is_folder else f"{name} ({size_text(found.stat().st_size)})")
        return "\n".join(lines) or "there are no files but hidden or ignored ones"

    def search(self, text: str, path: str = ".", pattern: str = "*") -> str:
        """The lines that contain a text, each with its file and number."""
        place, wanted = self._place(path), text.casefold()
        if not wanted:
            raise ToolError("the text to find is empty")
        lines: list[str] = []
        total, left_out = 0, 0
        for found in [place] if place.is_file() else self._walk(place, 64):
            if found.is_dir() or not fnmatchcase(found.name, pattern):
                continue
            name = found.relative_to(self._root).as_posix()
            try:
                content = _text(found, name)
            except (OSError, ToolError):  # binary, too large, or not ours to read
                left_out += 1
                continue
            total += len(content)
            for number, line in enumerate(content.splitlines(), 1):
                if wanted in line.casefold():
                    lines.append(f"{name}:{number}: {line.strip()[:LONGEST_LINE]}")
                    if len(lines) == MOST_MATCHES:
                        break
            if len(lines) >= MOST_MATCHES or total > MOST_SEARCHED_BYTES:
                return "\n".join([*lines, "[cut here; there may be more: search in fewer files]"])
        more = [f"[not searched: {counted(left_out, 'file')}, binary or too large]"] if left_out else []
        return "\n".join([*(lines or ["no line contains it"]), *more])

    def _place(self, path: str) -> Path:
        """The real path of what is named, links resolved, under the folder.

        Raises:
            ToolError: it is elsewhere, or not there.
        """
        try:
            real = _real(self._root, path)
            if real != self._root and self._root not in real.parents:
                raise ToolError(f"{path} is not under the working folder")
            if _is_hidden(str(real.relative_to(self._root))) and not _is_hidden(path):
                raise ToolError(f"{path} is a link to a hidden file")
            if not real.exists():
                raise ToolError(f"{path}: there is no such file")
        except ValueError as error:
            raise ToolError(f"{path!r}: no file has such a name") from error
        return real

    def _is_forbidden(self, path: Path) -> bool:
        return self._control.forbids({**self._arguments, "path": path.relative_to(self._root).as_posix()})

    def _walk(self, folder: Path, depth: int) -> Iterator[Path]:
        """Files and folders but hidden, ignored and forbidden ones and links; a folder comes before what is in it."""
        yield from self._below(folder, depth, IgnoreRules(folder), folder.stat().st_dev)

    def _below(self, folder: Path, depth: int, rules: IgnoreRules, device: int) -> Iterator[Path]:
        with rules.inside(folder) as real:
            try:
                entries = sorted(real.iterdir(), key=lambda each: each.name)
            except OSError:
                return
            for path in entries:
                self._visited += 1
                if self._visited > MOST_VISITED:
                    raise ToolError(f"there are more than {MOST_VISITED:,} files; name a folder below it")
                if self._control.stopped.is_set():
                    raise ToolError("stopped")
                if time.monotonic() > self._deadline:
                    raise ToolError(f"it took longer than {self._control.limits.seconds:g} s and was ended")
                if path.name.startswith(".") or path.is_symlink() or not (path.is_dir() or path.is_file()):
                    continue
                is_folder = path.is_dir()
                if rules.leave_out(path, is_folder=is_folder) or self._is_forbidden(path):
                    continue
                yield path
                if is_folder and depth > 1 and path.stat().st_dev == device:
                    yield from self._below(path, depth - 1, rules, device)


def _text(path: Path, name: str) -> str:
    """The text of a regular file.

    Raises:
        ToolError: it is none, is too large, or is no text.
        OSError: it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | platform.NON_BLOCKING | platform.NO_FOLLOW | platform.BINARY)
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise ToolError(f"{name} is not a file")
        if facts.st_size > MOST_FILE_BYTES:
            raise ToolError(f"{name} has {size_text(facts.st_size)}, and the limit is {size_text(MOST_FILE_BYTES)}")
        data = file.read(MOST_FILE_BYTES)
    try:
        is_text = kind_of(data[:HEAD_BYTES], path.name) is Kind.TEXT
    except DataError as error:
        raise ToolError(f"{name} is binary") from error
    if not is_text:
        raise ToolError(f"{name} is a document, not text; the user can attach it")
    return decode(data, name).text
