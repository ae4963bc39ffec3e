"""The files of a batch: lines in, results out, and what is there already. Knows nothing of prompts."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from chat.app.json_report import json_line
from chat.errors import FileError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

BLOCK_BYTES = 1 << 20
GO_ON = "what is written stays; `--resume` goes on with it"


@contextmanager
def opened(path: str, tell: Callable[[str], None]) -> Iterator[tuple[Iterator[str], int | None]]:
    """The lines of the batch, and how many there are where that can be told; `-` is stdin.

    Args:
        tell: hears that not all of it is text.

    Raises:
        FileError: it cannot be read.
    """
    if path == "-":
        yield _decoded(sys.stdin.buffer, "stdin", tell), None
        return
    try:
        total = _count(Path(path))
        stream = Path(path).open("rb")  # noqa: SIM115  # closed below; faults of the block are not ours to name
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    with stream:
        yield _decoded(stream, path, tell), total


def _count(path: Path) -> int | None:
    if not path.is_file():  # a pipe can be read only once
        return None
    with path.open("rb") as stream:
        return sum(1 for line in stream if line.strip())


def _decoded(stream: IO[bytes], name: str, tell: Callable[[str], None]) -> Iterator[str]:
    is_text = True
    for number, line in enumerate(stream, 1):
        encoding = "utf-8-sig" if number == 1 else "utf-8"
        try:
            yield line.decode(encoding)
        except UnicodeDecodeError:
            if is_text:
                tell(f"{name} is not UTF-8 in line {number}; unreadable bytes became U+FFFD")
            is_text = False
            yield line.decode(encoding, errors="replace")


@contextmanager
def writer(output: Path | None, *, resume: bool) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Write one result as a line and flush it, to stdout or to a file; a device or a pipe is written to as it is.

    Raises:
        UsageError: the file exists and is not to be gone on with.
        FileError: it cannot be written.
    """
    if output is None:
        yield lambda plain: print(json_line(plain), flush=True)
        return
    try:
        if resume:
            _cut_torn_line(output)
        may_exist = resume or (output.exists() and not output.is_file() and not output.is_dir())
        file = output.open("a" if may_exist else "x", encoding="utf-8")  # closed below
    except FileExistsError as error:
        raise UsageError(f"{output} exists", hint="`--resume` goes on with it") from error
    except OSError as error:
        raise FileError(f"{output}: cannot be written: {error.strerror}") from error

    def write(plain: Mapping[str, Any]) -> None:
        try:
            file.write(json_line(plain) + "\n")
            file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise FileError(f"{output}: cannot be written: {error.strerror}", hint=GO_ON) from error

    try:
        yield write
    finally:
        with suppress(OSError):  # what was not taken before is not taken now, and has been told of
            file.close()


def _cut_torn_line(path: Path) -> None:
    """Cut off a last line that a crash left without its end; its record is answered again."""
    if not path.is_file():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - BLOCK_BYTES)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        file.truncate(end)


def finished_ids(output: Path | None, *, resume: bool) -> Counter[str]:
    """How many results the output file holds for each id; a last line without its end does not count.

    Raises:
        FileError: it cannot be read.
    """
    keys: Counter[str] = Counter()
    if not resume or output is None or not output.is_file():
        return keys
    try:
        with output.open("rb") as file:
            for line in file:
                if line.endswith(b"\n") and isinstance(plain := _json_or_none(line), dict):
                    keys[key_of(plain.get("id"))] += 1
    except OSError as error:
        raise FileError(f"{output}: cannot be read: {error.strerror}") from error
    return keys


def _json_or_none(line: bytes) -> Any:
    try:
        return json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def key_of(record_id: Any) -> str:
    """An id of any JSON type as something to compare by."""
    return json.dumps(record_id, sort_keys=True)
