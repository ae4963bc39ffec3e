"""The files of a batch: the lines to answer, the results, and the ids of finished results."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from chat.documents.kinds import HEAD_BYTES, picture_type
from chat.errors import DataError, FileError, UsageError
from chat.system.characters import json_text, whole_characters
from chat.system.text_files import MOST_TEXT_BYTES, can_be_read, is_stream, read_beginning, replaced_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from chat.system.environment import Environment

BLOCK_BYTES = 1 << 20
LONGEST_LINE_BYTES = 1 << 30  # a longer line is an error of the batch, not of its record
RESUME_HINT = "the results so far are kept; `--resume` continues the batch"


class LongLine(str):
    """The beginning of a line that is too long for a prompt."""

    __slots__ = ()


@contextmanager
def open_lines(
    path: str, environment: Environment, warn: Callable[[str], None]
) -> Iterator[tuple[Iterator[str], int | None]]:
    """Open a batch; `-` is stdin.

    Args:
        warn: called with a sentence if the batch is not UTF-8.

    Yields:
        The lines, and how many of them are not empty; None if that is not known before the end.

    Raises:
        FileError: the file cannot be read.
    """
    if path == "-":
        yield _decoded(environment.stdin.buffer, "stdin", warn), None
        return
    try:
        total = _count(Path(path))
        stream = Path(path).open("rb")  # noqa: SIM115 - closed below; errors of the block must not be caught here
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    with stream:
        yield _decoded(stream, path, warn), total


def has_pictures(path: str) -> bool:
    """Whether a line of a batch has a picture; of one that can be read only once, that is not known before."""
    if not Path(path).is_file():
        return False
    with suppress(OSError), Path(path).open("rb") as stream:
        for line in iter(lambda: stream.readline(MOST_TEXT_BYTES + 1), b""):
            if b'"image_url"' in line or (b'"files"' in line and any(map(_is_picture, _files_of(line)))):
                return True
    return False


def _files_of(line: bytes) -> list[Any]:
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError):
        return []
    files = plain.get("files") if isinstance(plain, dict) else None
    return files if isinstance(files, list) else []


def _is_picture(name: Any) -> bool:
    with suppress(OSError):
        if isinstance(name, str) and can_be_read(name):
            return bool(picture_type(read_beginning(Path(name).resolve(), HEAD_BYTES)))
    return False


def _count(path: Path) -> int | None:
    if not path.is_file():  # a pipe can be read only once
        return None
    count, is_blank = 0, True
    with path.open("rb") as stream:
        while part := stream.readline(BLOCK_BYTES):  # a line may be as long as the file
            is_blank = is_blank and not part.strip()
            if part.endswith(b"\n"):
                count, is_blank = count + (not is_blank), True
    return count + (not is_blank)


def _decoded(stream: IO[bytes], name: str, warn: Callable[[str], None]) -> Iterator[str]:
    is_text = True
    for number, line in enumerate(iter(lambda: stream.readline(MOST_TEXT_BYTES + 1), b""), 1):
        encoding = "utf-8-sig" if number == 1 else "utf-8"
        if len(line) > MOST_TEXT_BYTES:
            _skip_line(stream, f"{name}, line {number}")
            yield LongLine(line[:1].decode("latin-1"))
            continue
        try:
            yield line.decode(encoding)
        except UnicodeDecodeError:
            if is_text:
                warn(f"{name} is not UTF-8 in line {number}; unreadable bytes became U+FFFD")
            is_text = False
            yield line.decode(encoding, errors="replace")


def _skip_line(stream: IO[bytes], place: str) -> None:
    """Read up to the end of a line.

    Raises:
        DataError: it seems to have none.
    """
    size = MOST_TEXT_BYTES
    while (part := stream.readline(BLOCK_BYTES)) and not part.endswith(b"\n"):
        size += len(part)
        if size > LONGEST_LINE_BYTES:
            raise DataError(f"{place}: has no end within {LONGEST_LINE_BYTES >> 20} MiB")


@contextmanager
def result_writer(
    output: Path | None, environment: Environment, *, resume: bool
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Open the place for results: `output`, or stdout if it is None. Devices and pipes may exist already.

    With `resume`, what is not finished in the file is removed first: errors, and a last line without its newline.

    Yields:
        A function that writes one result as a line and flushes it; it raises FileError if that fails.

    Raises:
        UsageError: the file exists and `resume` is false.
        FileError: it cannot be written.
    """
    encoding = environment.stdout.encoding
    if output is None:

        def write_to_stdout(plain: Mapping[str, Any]) -> None:
            environment.print_json(plain)
            environment.stdout.flush()

        yield write_to_stdout
        return
    try:
        if resume:
            _remove_failed(output)
            _cut_torn_line(output)
        may_exist = resume or is_stream(output)
        file = output.open("a" if may_exist else "x", encoding="utf-8")  # closed below
    except FileExistsError as error:
        raise UsageError(f"{output} exists", hint="`--resume` continues it") from error
    except OSError as error:
        raise FileError(f"{output}: cannot be written: {error.strerror}") from error

    def write(plain: Mapping[str, Any]) -> None:
        try:
            file.write(json_text(plain, encoding=encoding) + "\n")
            file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise FileError(f"{output}: cannot be written: {error.strerror}", hint=RESUME_HINT) from error

    try:
        yield write
    finally:
        with suppress(OSError):  # what could not be written before was reported already
            file.close()


def _remove_failed(path: Path) -> None:
    """Replace the file by one without its errors, in one step: those lines are answered again.

    Where lines share an id, nobody can tell which of them failed, so that all their results go.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        failed = {id_key(plain.get("id")) for plain in map(_result, file) if plain is not None and "error" in plain}
    if not failed:
        return
    with path.open("rb") as old, replaced_file(path) as new:
        shutil.copymode(path, new.name)
        for line in old:
            plain = _result(line)
            if plain is None or id_key(plain.get("id")) not in failed:
                new.write(line)


def _cut_torn_line(path: Path) -> None:
    """Remove a last line that a crash left without its newline; its record is answered again."""
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
    """How many answers the output file holds for each id.

    Neither results of an id that has an error count, nor a last line without its newline.

    Raises:
        FileError: it cannot be read.
    """
    keys: Counter[str] = Counter()
    if not resume or output is None or not output.is_file():
        return keys
    failed = set()
    try:
        with output.open("rb") as file:
            for plain in map(_result, file):
                if plain is not None:
                    keys[key := id_key(plain.get("id"))] += 1
                    if "error" in plain:
                        failed.add(key)
    except OSError as error:
        raise FileError(f"{output}: cannot be read: {error.strerror}") from error
    for key in failed:
        del keys[key]
    return keys


def _result(line: bytes) -> dict[str, Any] | None:
    """The result on a line of an output file; None if the line is incomplete or something else."""
    try:
        plain = json.loads(line.decode("utf-8", "replace")) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    return plain if isinstance(plain, dict) else None


def id_key(record_id: Any) -> str:
    """A text that is equal for equal ids, which may be any JSON value."""
    return whole_characters(json.dumps(record_id, sort_keys=True, ensure_ascii=False))
