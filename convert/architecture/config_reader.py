"""Read checked values from a JSON object; report those that are missing and filled with defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chat.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

TOLD_LETTERS = 60
SIZE_LIMIT = 1 << 24  # no axis of a model comes near it


def told(value: Any) -> str:
    """A value that may be anything, for a message."""
    text = repr(value)
    return text if len(text) <= TOLD_LETTERS else f"{text[:TOLD_LETTERS]}…"


class ConfigReader:
    """Take checked values out of one JSON object, whichever of several names they have."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        self.path = path
        self.values = values

    def get(self, *names: str) -> Any:
        """The first value among `names` that is there and not null."""
        return next((self.values[name] for name in names if self.values.get(name) is not None), None)

    def inner(self, *names: str) -> ConfigReader:
        """What an object among the values says; nothing where it is missing.

        Raises:
            DataError: it is no object.
        """
        value = self.get(*names) or {}
        if not isinstance(value, dict):
            raise DataError(f"{self.path}: `{names[0]}` is {told(value)}, but must be an object")
        return ConfigReader(self.path, value)

    def count(self, *names: str, limit: int = SIZE_LIMIT) -> int | None:
        """A whole number from 1 to `limit`, or None when it is missing.

        Raises:
            DataError: it is something else.
        """
        value = self.get(*names)
        if value is None:
            return None
        if type(value) is not int or not 1 <= value <= limit:
            raise DataError(f"{self.path}: `{names[0]}` is {told(value)}, but must be a whole number from 1 to {limit}")
        return value

    def number(self, *names: str) -> float | None:
        """A positive number, or None when it is missing.

        Raises:
            DataError: it is something else.
        """
        value = self.get(*names)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
            raise DataError(f"{self.path}: `{names[0]}` is {told(value)}, but must be a positive number")
        return float(value)


@dataclass
class Defaults:
    """Fills missing values and remembers which, in words, in `said`."""

    path: Path
    find_shape: Callable[[str], tuple[int, ...] | None]
    said: list[str]

    def from_shape(self, value: int | None, what: str, tensor: str, axis: int) -> int:
        """`value`, or the length of a tensor's axis.

        Raises:
            DataError: there is neither.
        """
        if value is not None:
            return value
        shape = self.find_shape(tensor)
        if shape is None or axis >= len(shape):
            raise DataError(f"{self.path}: does not give the {what}, and there is no tensor to tell it from")
        return self.known(None, what, shape[axis])

    def known(self, value: int | None, what: str, default: int) -> int:
        """`value`, or a whole number that is known."""
        return round(self.number(value, what, default))

    def number(self, value: float | None, what: str, default: float) -> float:
        """`value`, or a number that is known."""
        if value is not None:
            return value
        self.said.append(f"{what} {default:g}" if isinstance(default, float) else f"{what} {default}")
        return default
