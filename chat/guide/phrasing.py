"""Expand `{a|b}` patterns into sentences."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_GROUP = re.compile(r"\{([^{}]*)\}")
_SLOT = re.compile(r"<([a-z]+)>")


def patterns(block: str) -> tuple[str, ...]:
    """The patterns of a block, one a line."""
    return tuple(line.strip() for line in block.splitlines() if line.strip())


def unfold(pattern: str, pick: Callable[[Sequence[str]], str], slots: Mapping[str, Sequence[str]] | None = None) -> str:
    """One sentence of a pattern.

    Args:
        pattern: `{a|b}` stands for one of its parts, which may be empty, and `<name>` for a line of that slot.
        pick: chooses among the parts.
    """
    text = _GROUP.sub(lambda match: pick(match[1].split("|")), pattern)
    if slots:
        text = _SLOT.sub(lambda match: pick(slots[match[1]]) if match[1] in slots else match[0], text)
    return " ".join(text.split())


def covering(pattern: str, limit: int, slots: Mapping[str, Sequence[str]] | None = None) -> Iterator[str]:
    """A few sentences of a pattern, in which each part occurs once at least where the limit allows it."""
    widths = [len(match[1].split("|")) for match in _GROUP.finditer(pattern)]
    for number in range(min(limit, max(widths, default=1))):
        yield unfold(pattern, lambda parts, number=number: parts[number % len(parts)], slots)  # type: ignore[misc]
