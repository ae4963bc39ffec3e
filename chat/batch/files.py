"""The files of a batch: lines in, results out, and what is there already. Knows nothing of prompts."""

from __future__ import annotations

import json
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from chat.ground.errors import FileError, UsageError
from chat.report import json_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


@contextmanager
def opened(path: str) -> Iterator[tuple[Iterator[str], int | None]]:
    """The lines of the batch, and how many there are where that can be told; `-` is stdin.

    Raises:
        FileError: it cannot be read.
    """
    if path == "-":
        yield _decoded(sys.stdin.buffer), None
        return
    try:
        total = _count(Path(path))
        stream = Path(path).open("rb")  # noqa: SIM115  # noqa: SIM115  # closed below; faults of the block are not ours to name
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    with stream:
        yield _decoded(stream), total


def _count(path: Path) -> int | None:
    if not path.is_file():  # a pipe can be read only once
        return None
    with path.open("rb") as stream:
        return sum(1 for line in stream if line.strip())


def _decoded(stream: IO[bytes]) -> Iterator[str]:
    for number, line in enumerate(stream, 1):
        yield line.decode("utf-8-sig" if number == 1 else "utf-8", errors="replace")


@contextmanager
def writer(output: Path | None, *, resume: bool) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Write one result as a line and flush it, to stdout or to a file.

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
        file = output.open("a" if resume else "x", encoding="utf-8")  # closed below
    except FileExistsError as error:
        raise UsageError(f"{output} exists", hint="`--resume` goes on with it") from error
    except OSError as error:
        raise FileError(f"{output}: cannot be written: {error.strerror}") from error
    with file:

        def write(plain: Mapping[str, Any]) -> None:
            file.write(json_line(plain) + "\n")
            file.flush()

        yield write


def _cut_torn_line(path: Path) -> None:
    """Cut off a last line that a crash left without its end; its record is answered again."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        data = file.read()
        file.truncate(data.rfind(b"\n") + 1)


def finished_ids(output: Path | None, *, resume: bool) -> Counter[str]:
    """How many results the output file holds for each id; a last line without its end does not count."""
    keys: Counter[str] = Counter()
    if not resume or output is None or not output.exists():
        return keys
    for line in output.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
        try:
            plain = json.loads(line)
        except ValueError:
            continue
        if isinstance(plain, dict):
            keys[key_of(plain.get("id"))] += 1
    return keys


def key_of(record_id: Any) -> str:
    """An id of any JSON type as something to compare by."""
    return json.dumps(record_id, sort_keys=True)
