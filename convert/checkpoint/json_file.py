"""Read JSON objects from untrusted files: limited in size, no duplicate keys, one sentence per error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from chat.errors import DataError, FileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LIMIT_BYTES = 100_000_000
VALUE_LIMIT = 4_000_000  # the largest tokenizer.json in use, of 262,000 pieces and 515,000 merges, has 1.8 million


class TooManyValuesError(ValueError):
    """JSON that would fill the memory."""


class _DuplicateKeyError(ValueError):
    """An object names a key twice."""


def parse_json_object(text: bytes, what: str) -> dict[str, Any]:
    """Parse a JSON object; `what` begins every error message.

    Raises:
        DataError: not UTF-8, half a character, not JSON, not an object, a key twice, or nested too deeply.
    """
    try:
        value = load_json(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except UnicodeDecodeError as error:
        raise DataError(f"{what} is not UTF-8 (byte {error.start})") from error
    except UnicodeEncodeError as error:
        raise DataError(f"{what} holds half of a character (a lone surrogate)") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{what} is not JSON (line {error.lineno}, column {error.colno}: {error.msg})") from error
    except _DuplicateKeyError as error:
        raise DataError(f"{what} names the key `{error}` twice") from error
    except TooManyValuesError as error:
        raise DataError(f"{what} holds {error}") from error
    except ValueError as error:  # a number of more digits than Python converts
        raise DataError(f"{what} holds a number that is too long") from error
    except RecursionError as error:
        raise DataError(f"{what} is nested too deeply") from error
    if not isinstance(value, dict):
        raise DataError(f"{what} is not a JSON object")
    return value


def load_json(text: str, object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The value that an untrusted JSON text says, which takes less than a gigabyte in memory.

    Raises:
        ValueError: not JSON, more values than `VALUE_LIMIT`, or half of a character, which no other file can hold.
        RecursionError: nested too deeply.
    """
    if sum(map(text.count, ",[{")) > VALUE_LIMIT:
        raise TooManyValuesError(f"more than {VALUE_LIMIT:,} values")
    value = json.loads(text, object_pairs_hook=object_pairs_hook)
    if "\\ud" in text or "\\uD" in text:
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    known = dict(pairs)
    if len(known) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _DuplicateKeyError(key[:80])
            seen.add(key)
    return known


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file.

    Raises:
        FileError: it cannot be read.
        DataError: it is not a regular file, too large, or `parse_json_object` refuses it.
    """
    return parse_json_object(read_small_file(path), str(path))


def read_small_file(path: Path, limit_bytes: int = LIMIT_BYTES) -> bytes:
    """The bytes of a file that is not expected to be large.

    Raises:
        FileError: it cannot be read.
        DataError: it is not a regular file or larger than the limit.
    """
    if not path.is_file():  # a FIFO would hang in open()
        problem = "is not a regular file" if path.exists() else "does not exist"
        raise DataError(f"{path}: {problem}")
    try:
        with path.open("rb") as file:
            content = file.read(limit_bytes + 1)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from error
    if len(content) > limit_bytes:
        raise DataError(f"{path}: larger than {limit_bytes:,} bytes")
    return content
