"""Print rows as aligned columns on a terminal, and as one record on a line in a pipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.system.terminal_text import cell_width, escape_line, filled

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
    elif environment.is_accessible:  # each row as a sentence, because nobody hears columns
        for row in shown:
            cells = (f"{name.lower()} {cell}" for name, cell in zip(head, row, strict=True) if cell and cell != "-")
            environment.print(", ".join(cells))
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
    widths = [max((size for size in map(cell_width, column) if size <= width // 2), default=0) for column in columns]
    lines = []
    for row in rows:
        shown = _fitting(row, widths, width)
        cells = (cell + " " * (size - cell_width(cell)) for cell, size in zip(row[:shown], widths, strict=False))
        lines.append("  ".join(cells).rstrip())
        if rest := "  ".join(cell for cell in row[shown:] if cell):
            lines += filled(rest, max(width, 20), head=_INDENT, indent=_INDENT).split("\n")
    return lines


def _fitting(row: Sequence[str], widths: Sequence[int], width: int) -> int:
    """How many cells of a row stand in their columns on one line; the first always does."""
    column = 0
    for number, (cell, size) in enumerate(zip(row, widths, strict=True)):
        if number and column + cell_width(cell) > width:
            return number
        if cell_width(cell) > size:
            return number + 1
        column += size + len("  ")
    return len(row)
