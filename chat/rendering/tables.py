"""Render a table in a given width: as columns while they are legible, else as one record per row."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from chat.rendering.styled_text import Line, Span, line_width, plain, text_of, wrap

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP = 2  # columns between columns
LEGIBLE_CELLS = 12  # a column may break words from this width on


def table_lines(rows: Sequence[Sequence[Line]], aligned: Sequence[str], width: int) -> list[Line]:
    """Render a table.

    Args:
        rows: the cells of each row; the first row is the head.
        aligned: "left", "right", "center" or "" for each column.
        width: columns of the terminal.
    """
    columns = max(len(row) for row in rows)
    full = [[*row, *([()] * (columns - len(row)))] for row in rows]
    widths = _column_widths(full, width - GAP * (columns - 1))
    if widths is None:
        return _records(full, width)
    head, *body = full
    lines = _row([tuple(Span(s.text, f"{s.style} bold".strip()) for s in cell) for cell in head], aligned, widths)
    lines.append(plain((" " * GAP).join("─" * cells for cells in widths), "dim"))
    for row in body:
        lines += _row(row, aligned, widths)
    return lines


def _column_widths(rows: Sequence[Sequence[Line]], cells: int) -> list[int] | None:
    """Widths that fit into so many cells; the widest columns shrink first. None if one would be illegible."""
    columns = list(zip(*rows, strict=True))
    widths = [max(1, *(line_width(part) for cell in column for part in wrap(cell, 10_000))) for column in columns]
    lowest = [min(width, max(LEGIBLE_CELLS, _longest_word(column) if width <= 2 * LEGIBLE_CELLS else 0), cells)
              for width, column in zip(widths, columns, strict=True)]  # fmt: skip
    if sum(lowest) > cells:
        return None
    while (excess := sum(widths) - cells) > 0:
        slacks = [width - least for width, least in zip(widths, lowest, strict=True)]
        widest = slacks.index(max(slacks))
        second = sorted(slacks, reverse=True)[1] if len(slacks) > 1 else 0
        widths[widest] -= min(max(1, min(excess, slacks[widest] - second)), slacks[widest])
    return widths


def _longest_word(column: Sequence[Line]) -> int:
    words = [word for cell in column for word in text_of(cell).split()]
    return max((line_width(plain(word)) for word in words), default=1)


def _row(cells: Sequence[Line], aligned: Sequence[str], widths: Sequence[int]) -> list[Line]:
    """A row, with as many lines as its tallest cell."""
    wrapped = [wrap(cell, width) for cell, width in zip(cells, widths, strict=True)]
    lines = []
    for parts in zip_longest(*wrapped, fillvalue=()):
        line: list[Span] = []
        for index, (part, width) in enumerate(zip(parts, widths, strict=True)):
            before, after = _padding(width - line_width(part), aligned[index] if index < len(aligned) else "")
            is_last = index == len(widths) - 1
            line += [Span(" " * before), *part, Span("" if is_last else " " * (after + GAP))]
        lines.append(tuple(span for span in line if span.text))
    return lines


def _padding(cells: int, aligned: str) -> tuple[int, int]:
    """Empty cells before and after a part."""
    cells = max(0, cells)
    if aligned == "right":
        return cells, 0
    if aligned == "center":
        return cells // 2, cells - cells // 2
    return 0, cells


def _records(rows: Sequence[Sequence[Line]], width: int) -> list[Line]:
    """Each row as lines of "head: cell", with an empty line between rows."""
    head, *body = rows
    lines: list[Line] = []
    for row in body:
        if lines:
            lines.append(())
        for head_cell, cell in zip(head, row, strict=True):
            label = tuple(Span(span.text, "bold") for span in head_cell)
            lines += wrap((*label, Span(": " if label else ""), *cell), width)
    return lines or wrap(tuple(span for cell in head for span in (*cell, Span("  "))), width)
