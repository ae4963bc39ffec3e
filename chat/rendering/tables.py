"""Lay a table out in a width: columns where they stay legible, else one record after another. Knows styled cells."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from chat.rendering.styled_text import Line, Span, line_width, plain, text_of, wrap

if TYPE_CHECKING:
    from collections.abc import Sequence

GAP = 2  # columns between columns
LEGIBLE = 12  # a column this wide may break words


def table_lines(rows: Sequence[Sequence[Line]], aligned: Sequence[str], width: int) -> list[Line]:
    """A table whose first row is its head.

    Args:
        rows: styled cells.
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
    lines.append(plain((" " * GAP).join("─" * each for each in widths), "dim"))
    for row in body:
        lines += _row(row, aligned, widths)
    return lines


def _column_widths(rows: Sequence[Sequence[Line]], room: int) -> list[int] | None:
    """Widths that fit into `room`, the widest columns giving way first; None where one would be illegible."""
    columns = list(zip(*rows, strict=True))
    widths = [max(1, *(line_width(part) for cell in column for part in wrap(cell, 10_000))) for column in columns]
    lowest = [min(each, max(LEGIBLE, _longest_word(column) if each <= 2 * LEGIBLE else 0), room)
              for each, column in zip(widths, columns, strict=True)]  # fmt: skip
    if sum(lowest) > room:
        return None
    while (over := sum(widths) - room) > 0:
        widest = max(range(len(widths)), key=lambda at: widths[at] - lowest[at])
        rest = sorted((w - low for w, low in zip(widths, lowest, strict=True)), reverse=True)[1:2] or [0]
        step = max(1, min(over, (widths[widest] - lowest[widest]) - rest[0]))
        widths[widest] -= min(step, widths[widest] - lowest[widest])
    return widths


def _longest_word(column: Sequence[Line]) -> int:
    words = [word for cell in column for word in text_of(cell).split()]
    return max((line_width(plain(word)) for word in words), default=1)


def _row(cells: Sequence[Line], aligned: Sequence[str], widths: Sequence[int]) -> list[Line]:
    """One row, as many lines high as its tallest cell."""
    wrapped = [wrap(cell, width) for cell, width in zip(cells, widths, strict=True)]
    lines = []
    for parts in zip_longest(*wrapped, fillvalue=()):
        line: list[Span] = []
        for at, (part, width) in enumerate(zip(parts, widths, strict=True)):
            before, after = _padding(width - line_width(part), aligned[at] if at < len(aligned) else "")
            last = at == len(widths) - 1
            line += [Span(" " * before), *part, Span("" if last else " " * (after + GAP))]
        lines.append(tuple(span for span in line if span.text))
    return lines


def _padding(room: int, aligned: str) -> tuple[int, int]:
    room = max(0, room)
    if aligned == "right":
        return room, 0
    if aligned == "center":
        return room // 2, room - room // 2
    return 0, room


def _records(rows: Sequence[Sequence[Line]], width: int) -> list[Line]:
    """Every row as lines of "head: cell", a blank line between rows."""
    head, *body = rows
    lines: list[Line] = []
    for row in body:
        if lines:
            lines.append(())
        for name, cell in zip(head, row, strict=True):
            label = tuple(Span(span.text, "bold") for span in name)
            lines += wrap((*label, Span(": " if label else ""), *cell), width)
    return lines or wrap(tuple(span for cell in head for span in (*cell, Span("  "))), width)
