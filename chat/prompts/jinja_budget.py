"""The work that a chat template may do in one rendering: steps, time and sizes. Knows values, not templates."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MOST_STEPS = 2_000_000  # turns of loops, calls and filters
MOST_SECONDS = 2.0  # of processor time
MOST_CHARACTERS = 30_000_000  # in all texts that a template makes, beside 50 for each one of its input
MOST_RANGE = 100_000  # as in Jinja2's sandbox
_LARGEST_COUNT = 10_000  # widths, indents and the like
_LONGEST_PADDING = 100  # characters that are written again and again
_MOST_BITS = 4096
_WIDTH = re.compile(r"\d{5,}|\*")
_WHITE = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029 \t"
_PART = 50  # bytes of a short text, roughly
_ITEM = 8  # bytes of a place in a list
_SIZED_METHODS = {"center", "expandtabs", "ljust", "rjust", "zfill"}


class LimitError(Exception):
    """A template that does more than it may; the text is a clause about it."""


class Budget:
    """Counts the work of one rendering at a time.

    What Python does in one go is checked before it is done, since nothing could interrupt it.
    """

    def __init__(self) -> None:
        self._given: frozenset[int] = frozenset()
        self._steps = 0
        self._characters = 0
        self._deadline = 0.0

    def start(self, variables: Mapping[str, Any]) -> None:
        """Begin to count for a template that is given these variables."""
        self._deadline = time.thread_time() + MOST_SECONDS
        self._steps = self._characters = 0
        self._given = frozenset()
        given: set[int] = set()
        self._measure(list(variables.values()), given)
        self._given = frozenset(given)
        self._steps, self._characters = 0, -50 * self._characters

    def step(self) -> None:
        """Count one turn of a loop, call or filter.

        Raises:
            LimitError: there were too many, or they took too long.
        """
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise LimitError(f"it takes more than {MOST_STEPS:,} steps")
        if self._steps % 256 == 0 and time.thread_time() > self._deadline:
            raise LimitError(f"it takes more than {MOST_SECONDS:g} seconds")

    def charge(self, characters: int) -> None:
        """Count characters, or items of a list, that are made.

        Raises:
            LimitError: there were too many.
        """
        self._characters += characters
        if self._characters > MOST_CHARACTERS:
            raise LimitError(f"it writes more than {MOST_CHARACTERS:,} characters")

    def charge_result(self, value: Any) -> Any:
        """Count the characters or items of a value that was made; the same value."""
        if isinstance(value, str | list):
            self.charge(len(value))
        elif isinstance(value, int):
            _check_bits(value.bit_length())
        return value

    def checked(self, value: Any) -> Any:
        """The same value, if an operation that visits all of it is cheap enough."""
        if isinstance(value, list | tuple | dict):
            self._measure(value, None)
        return value

    def _measure(self, value: Any, seen: set[int] | None) -> None:
        """Count the parts of a nested value, each as often as it occurs; those of the input count once.

        Args:
            value: a list, tuple or dictionary.
            seen: collects the identities of its containers; then characters count in full.
        """
        stack = [value]
        while stack:
            part = stack.pop()
            if isinstance(part, str):
                self.charge(len(part) if seen is not None else len(part) // 64 + 1)
            elif isinstance(part, list | tuple | dict) and id(part) not in self._given:
                self.step()
                self.charge(_ITEM * len(part))
                if seen is not None:
                    seen.add(id(part))
                stack += [*part.keys(), *part.values()] if isinstance(part, dict) else part

    def listed(self, values: Iterable[Any]) -> list[Any]:
        """The values, which may be made one by one, as a list."""
        listed: list[Any] = []
        for value in values:
            self.step()
            listed.append(value)
        return listed

    # --- before an operation

    def before_method(self, text: str, method: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of a method of a text, if its result is not too long."""
        if method in _SIZED_METHODS:
            check_counts(args)
            self.charge(text.count("\t") * _LARGEST_COUNT if method == "expandtabs" else 0)
        elif method == "replace" and len(args) > 1 and all(isinstance(each, str) for each in args[:2]):
            self.before_replace(text, args[0], args[1])
        elif method == "join" and len(args) == 1:
            args = (self.listed(args[0]),)
            self.before_join(text, args[0])
        elif method in ("split", "rsplit", "splitlines"):
            separators = (args[0],) if args and isinstance(args[0], str) and args[0] else _WHITE
            self.charge(_PART * sum(map(text.count, separators)))
        elif method == "translate":
            self.charge(len(text) * sum(len(str(value)) for value in dict(*args).values()))
        return args

    def before_replace(self, text: str, old: str, new: str) -> None:
        """Count what a replacement writes, and the parts between."""
        self.charge((text.count(old) if old else len(text) + 1) * (len(new) + _ITEM))

    def before_join(self, separator: str, parts: Sequence[Any]) -> None:
        """Count what joining texts writes."""
        self.charge(len(separator) * len(parts) + sum(len(part) for part in parts if isinstance(part, str)))

    def before_operator(self, operator: str, left: Any, right: Any) -> None:
        """Count what an operator makes of two values.

        Raises:
            LimitError: it is too much.
        """
        if operator == "+" and isinstance(left, str | list | tuple) and isinstance(right, str | list | tuple):
            self.charge((len(left) + len(right)) * (1 if isinstance(left, str) else _ITEM))
        elif operator == "*":
            for times, value in ((left, right), (right, left)):
                if isinstance(times, int) and isinstance(value, str | list | tuple):
                    self.charge(max(times, 0) * len(value) * (1 if isinstance(value, str) else _ITEM))
        elif operator == "**" and isinstance(left, int) and isinstance(right, int) and right > 0:
            _check_bits(left.bit_length() * right)
        elif operator == "%" and isinstance(left, str):
            check_widths(left)
            self.checked(right)


def check_counts(values: Iterable[Any]) -> None:
    """Refuse widths, indents and numbers of parts that are too large.

    Raises:
        LimitError: one is.
    """
    for value in values:
        if isinstance(value, int) and abs(value) > _LARGEST_COUNT:
            raise LimitError(f"it asks for a width or a number of parts over {_LARGEST_COUNT:,}")
        if isinstance(value, str) and len(value) > _LONGEST_PADDING:
            raise LimitError(f"it pads with a text of more than {_LONGEST_PADDING} characters")


def check_widths(text: str) -> None:
    """Refuse format strings that pad a text too far.

    Raises:
        LimitError: one may.
    """
    if _WIDTH.search(text):
        raise LimitError(f"it asks for a width over {_LARGEST_COUNT:,}")


def limited_range(*args: int) -> range:
    """A range that is not too long.

    Raises:
        LimitError: it is.
    """
    numbers = range(*args)
    if len(numbers) > MOST_RANGE:
        raise LimitError(f"it counts through a range of more than {MOST_RANGE:,} numbers")
    return numbers


def _check_bits(bits: int) -> None:
    if bits > _MOST_BITS:
        raise LimitError(f"it computes a number of more than {_MOST_BITS:,} bits")
