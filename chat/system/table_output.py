"""Print rows as aligned columns on a terminal, and as one record on a line in a pipe."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from chat.system.terminal_text import escape_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.system.environment import Environment

_INDENT = " " * 4


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]], environment: Environment) -> None:
    """Print the rows to stdout: aligned under their head on a terminal, else with tabs between cells and no head.

    Cells that do not fit the terminal follow on lines of their own, indented.
    """
    shown = [[escape_line(cell) for cell in row] for row in rows]
    if not environment.stdout.isatty():
        for row in shown:
            environment.print("\t".join(row))
    elif shown:
        environment.print("\n".join(table_lines([list(head), *shown], environment.columns())))


def table_lines(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The rows as lines of a terminal.

    A cell wider than half the terminal does not widen its column; the cells behind it go on the next line.

    Args:
        rows: cells; every row has as many as the first.
        width: columns of the terminal.
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
    """How many cells of a row stand in their columns on one line; the first always does."""
    column = 0
    for number, (cell, size) in enumerate(zip(row, widths, strict=True)):
        if number and column + len(cell) > width:
            return number
        if len(cell) > size:
            return number + 1
        column += size + len("  ")
    return len(row)
