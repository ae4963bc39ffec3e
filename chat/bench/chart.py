"""Draw speed and memory against context length as an SVG that reads on light and dark backgrounds."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from math import log2
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.bench.results import BenchReport

WIDTH, HEIGHT = 760, 330
PANEL_WIDTH, PANEL_HEIGHT = 300, 190
TOP, LEFTS = 80, (60, 440)
STYLE = """\
text { font: 12px system-ui, "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; fill: #57606a }
.title { font-size: 14px; font-weight: 600 }
.grid { stroke: #8c959f; stroke-opacity: .35 }
polyline { fill: none; stroke-width: 2 }
polyline.first { stroke: #0969da } circle.first { fill: #0969da }
polyline.second { stroke: #bc4c00 } circle.second { fill: #bc4c00 }
@media (prefers-color-scheme: dark) {
  text { fill: #adbac7 }
  polyline.first { stroke: #539bf5 } circle.first { fill: #539bf5 }
  polyline.second { stroke: #e0823d } circle.second { fill: #e0823d }
}"""
CLASSES = ("first", "second")


@dataclass(frozen=True)
class Panel:
    """One pair of axes: what is drawn over the contexts, None where nothing was measured."""

    title: str
    lines: tuple[tuple[str, tuple[float | None, ...]], ...]


def draw(report: BenchReport) -> str:
    """The picture as SVG text."""
    contexts = [point.context for point in report.points]
    mebi = 1 << 20
    resident = tuple(_scaled(point.resident_bytes, mebi) for point in report.points)
    private = tuple(_scaled(point.private_bytes, mebi) for point in report.points)
    reading, decoding = (tuple(getattr(point, kind) for point in report.points) for kind in ("read", "decode"))
    panels = (
        Panel("tokens a second", (("reading", reading), ("decoding", decoding))),
        Panel("memory, MiB", (("resident", resident), ("private", private))),
    )
    subject = report.subject
    title = f"{Path(subject.path).name}: speed and memory against context length"
    body = "\n".join(_panel(panel, contexts, left) for panel, left in zip(panels, LEFTS, strict=True))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{xml_text(title)}">\n<style>{STYLE}</style>\n'
        f'<text class="title" x="20" y="26">{xml_text(title)}</text>\n{body}\n</svg>\n'
    )


def _panel(panel: Panel, contexts: Sequence[int], left: int) -> str:
    highest = nice_limit(max((value for _, line in panel.lines for value in line if value is not None), default=1.0))
    bottom = TOP + PANEL_HEIGHT
    xs = [left + round(PANEL_WIDTH * share, 1) for share in shares(contexts)]
    parts = [f'<text x="{left}" y="{TOP - 30}">{xml_text(panel.title)}</text>']
    for step in range(5):
        y = bottom - PANEL_HEIGHT * step / 4
        parts.append(f'<line class="grid" x1="{left}" x2="{left + PANEL_WIDTH}" y1="{y:g}" y2="{y:g}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:g}" text-anchor="end">{highest * step / 4:,.4g}</text>')
    for at, x in enumerate(xs):
        if at in (0, len(xs) - 1) or x - xs[at - 1] >= 45:
            parts.append(f'<text x="{x:g}" y="{bottom + 18}" text-anchor="middle">{contexts[at]:,}</text>')
    parts.append(
        f'<text x="{left + PANEL_WIDTH / 2:g}" y="{bottom + 38}" text-anchor="middle">tokens of context</text>'
    )
    for at, ((name, line), kind) in enumerate(zip(panel.lines, CLASSES, strict=True)):
        drawn = [
            (x, bottom - PANEL_HEIGHT * value / highest) for x, value in zip(xs, line, strict=True) if value is not None
        ]
        parts.append(f'<polyline class="{kind}" points="{" ".join(f"{x:g},{y:.1f}" for x, y in drawn)}"/>')
        parts += [f'<circle class="{kind}" cx="{x:g}" cy="{y:.1f}" r="3"/>' for x, y in drawn]
        legend = left + 150 + 80 * at
        parts.append(f'<circle class="{kind}" cx="{legend}" cy="{TOP - 34}" r="4"/>')
        parts.append(f'<text x="{legend + 9}" y="{TOP - 30}">{name}</text>')
    return "\n".join(parts)


def shares(contexts: Sequence[int]) -> list[float]:
    """The position of each context between the first (0) and the last (1), by its logarithm."""
    if contexts[0] == contexts[-1]:
        return [0.5] * len(contexts)
    width = log2(contexts[-1] / contexts[0])
    return [log2(each / contexts[0]) / width for each in contexts]


def nice_limit(value: float) -> float:
    """A round number at or above `value`: 1, 2, 4, 6 or 8 times a power of ten."""
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value and power > 1e-6:
        power /= 10
    return next(power * step for step in (1, 2, 4, 6, 8, 10) if power * step >= value)


def _scaled(value: int | None, unit: int) -> float | None:
    return None if value is None else value / unit


def xml_text(text: str) -> str:
    """Text as XML allows it, without control characters."""
    return escape("".join(letter if letter.isprintable() else "?" for letter in text))
