"""Print rows: columns on a terminal, one record a line in a pipe. Knows widths, not what the cells mean."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

from chat.ground.visible import visible_line

if TYPE_CHECKING:
    from collections.abc import Sequence

_INDENT = " " * 4


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print the rows to stdout: aligned under their head on a terminal, else with tabs between and no head.

    Columns that a terminal has no room for follow on lines of their own, indented.
    """
    shown = [[visible_line(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in shown:
            print("\t".join(row))
    elif shown:
        print("\n".join(table_lines([list(head), *shown], shutil.get_terminal_size((80, 24)).columns)))


def table_lines(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The rows as lines of a terminal that is `width` wide; every row has as many cells as the first."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    fitting = max([n for n in range(1, len(widths) + 1) if sum(widths[:n]) + 2 * (n - 1) <= width], default=1)
    lines = []
    for row in rows:
        cells = [cell.ljust(size) for cell, size in zip(row, widths, strict=True)]
        lines.append("  ".join(cells[:fitting]).rstrip())
        rest = "  ".join(cell for cell in row[fitting:] if cell)
        lines += textwrap.wrap(rest, max(width, 20), initial_indent=_INDENT, subsequent_indent=_INDENT)
    return lines
