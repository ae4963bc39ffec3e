"""Format a benchmark report as plain text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chat.system.terminal_text import escape_line, size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.bench.results import BenchReport, Beside, DraftGain, Point, RowTimes, Subject


def table(report: BenchReport) -> str:
    """The whole report; speeds are tokens a second."""
    parts = [_head(report.subject), _beside(report.beside), _points(report.points)]
    if report.resume is not None:
        resume = report.resume
        parts.append(
            f"Resuming a saved state of {resume.tokens:,} tokens ({size_text(resume.state_bytes)}): "
            f"{_seconds(resume.seconds)}; reading them again: {_seconds(resume.reading_seconds)}, "
            f"{resume.reading_seconds / resume.seconds:,.0f} times as long"
        )
    parts += [_batches(report.batches, report.sweet_spot), _ahead(report.ahead)]
    return "\n\n".join(parts)


def _head(subject: Subject) -> str:
    window = f"a window of {subject.window:,}" if subject.window else "no window"
    gpu = f"{subject.gpu_layers} layers on the GPU" if subject.gpu_layers else "no GPU"
    repack = "repacked" if subject.repack else "not repacked"
    return escape_line(
        f"{Path(subject.path).name} ({subject.architecture}, {subject.type}, {window}): {subject.threads} "
        f"{'thread' if subject.threads == 1 else 'threads'}, batch {subject.batch}, {subject.kv_type} cache, "
        f"{gpu}, {repack}; loaded in {_seconds(subject.load_seconds)}"
    )


def _beside(beside: Beside) -> str:
    rows = [
        ("", "tokens/s", "bare C loop", "ratio"),
        (
            f"reading {beside.prompt_tokens} tokens",
            _speed(beside.read),
            _speed(beside.bare_read),
            f"{beside.read_ratio:.3f}",
        ),
        (
            f"decoding {beside.tokens} tokens",
            _speed(beside.decode),
            _speed(beside.bare_decode),
            f"{beside.decode_ratio:.3f}",
        ),
    ]
    return f"{aligned(rows)}\nPython takes {beside.python_ms:.3f} ms a token; best of {beside.rounds} rounds in turns"


def _points(points: Sequence[Point]) -> str:
    rows = [("context", "reading/s", "decoding/s", "resident", "private")]
    rows += [
        (
            f"{point.context:,}",
            _speed(point.read),
            _speed(point.decode),
            _bytes(point.resident_bytes),
            _bytes(point.private_bytes),
        )
        for point in points
    ]
    return aligned(rows)


def _batches(batches: Sequence[RowTimes], sweet_spot: int) -> str:
    single = batches[0].seconds
    rows = [("batch of", "ms", "times one", "tokens/s", "")]
    rows += [
        (
            str(each.rows),
            f"{each.seconds * 1e3:,.2f}",
            f"{each.seconds / single:.2f}",
            _speed(each.speed),
            "most tokens a second" if each.rows == sweet_spot else "",
        )
        for each in batches
    ]
    return aligned(rows)


def _ahead(ahead: DraftGain) -> str:
    if ahead.repeating is None or ahead.unforeseen is None:
        return f"Drafting is {ahead.reason}."
    return (
        f"Drafting ({ahead.reason}) is {ahead.repeating:.2f} times as fast if an answer repeats earlier text, "
        f"and {ahead.unforeseen:.2f} times if it does not"
    )


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """The first column on the left, the others on the right; a last one of words follows as it is."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _speed(value: float) -> str:
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


def _bytes(value: int | None) -> str:
    return "-" if value is None else size_text(value)


def _seconds(value: float) -> str:
    return f"{value * 1e3:.1f} ms" if value < 1 else f"{value:,.1f} s"
