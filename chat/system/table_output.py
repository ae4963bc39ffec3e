"""Print rows: columns on a terminal, one record a line in a pipe. Knows widths, not what the cells mean."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

from chat.system.terminal_text import escape_line

if TYPE_CHECKING:
    from collections.abc import Sequence

_INDENT = " " * 4


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print the rows to stdout: aligned under their head on a terminal, else with tabs between and no head.

    Cells that a terminal has no room for follow on lines of their own, indented.
    """
    shown = [[escape_line(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in shown:
            print("\t".join(row))
    elif shown:
        print("\n".join(table_lines([list(head), *shown], shutil.get_terminal_size((80, 24)).columns)))


def table_lines(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The rows as lines of a terminal that is `width` wide; every row has as many cells as the first.

    A cell of more than half of it does not widen its column, and what stands behind it goes below.
    """
    columns = zip(*rows, strict=True)
    widths = [max((len(cell) for cell in column if len(cell) <= width // 2), default=0) for column in columns]
    lines = []
    for row in rows:
        shown = _fitting(row, widths, width)
        lines.append("  ".join(cell.ljust(size) for cell, size in zip(row[:shown], widths, strict=False)).rstrip())
        rest = "  ".join(cell for cell in row[shown:] if cell)
        lines += textwrap.wrap(rest, max(width, 20), initial_indent=_INDENT, subsequent_indent=_INDENT)
    return lines


def _fitting(row: Sequence[str], widths: Sequence[int], width: int) -> int:
    """How many cells of a row stand in their columns on one line; the first does always."""
    begin = 0
    for number, (cell, size) in enumerate(zip(row, widths, strict=True)):
        if number and begin + len(cell) > width:
            return number
        if len(cell) > size:
            return number + 1
        begin += size + len("  ")
    return len(row)
