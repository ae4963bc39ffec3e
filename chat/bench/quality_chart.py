"""Draw size against loss as an SVG that reads on light and dark backgrounds."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log10
from pathlib import Path
from typing import TYPE_CHECKING

from chat.bench.chart import STYLE, nice_limit, xml_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.bench.quality_results import Estimate, FileQuality, QualityReport

WIDTH, HEIGHT = 760, 440
LEFT, TOP, RIGHT, BOTTOM = 80, 70, 730, 380
LETTER, LINE = 8, 13  # of a label, in pixels
LEAST = 1e-6  # nats; a smaller divergence is drawn here
LINE_STYLE = ".error { stroke: #0969da; stroke-width: 1.5 }"


@dataclass(frozen=True)
class Axis:
    """What lies between two places of the picture, linear or by the logarithm, and the values that are written."""

    start: float
    stop: float
    begin: float  # pixels
    end: float
    ticks: tuple[float, ...]
    is_logarithmic: bool = False

    def place(self, value: float) -> float:
        """The pixel of a value; values outside lie at the ends."""
        low, high, each = self.start, self.stop, min(max(value, self.start), self.stop)
        if self.is_logarithmic:
            low, high, each = log10(low), log10(high), log10(each)
        return self.begin + (self.end - self.begin) * (each - low) / (high - low)


def linear(values: Sequence[float], begin: float, end: float) -> Axis:
    """An axis around values with about five round ticks."""
    span = max(values) - min(values) or abs(max(values)) or 1.0
    step = nice_limit(span / 4)
    first, last = floor(min(values) / step), ceil(max(values) / step)
    ticks = tuple(step * at for at in range(first, max(last, first + 1) + 1))
    return Axis(ticks[0], ticks[-1], begin, end, ticks)


def logarithmic(values: Sequence[float], begin: float, end: float) -> Axis:
    """An axis of whole decades around values, which are clipped to `LEAST`."""
    low, high = (log10(max(limit(values), LEAST)) for limit in (min, max))
    first, last = floor(low), max(ceil(high), floor(low) + 1)
    return Axis(10.0**first, 10.0**last, begin, end, tuple(10.0**at for at in range(first, last + 1)), True)


def draw(report: QualityReport) -> str:
    """The picture as SVG text: for each file its size and mean divergence, or without a reference its perplexity."""
    unit, name = (1e9, "GB") if max(each.size for each in report.files) >= 1e9 else (1e6, "MB")
    sizes = [each.size / unit for each in report.files]
    losses = [_loss(each) for each in report.files]
    ends = [value for loss in losses for value in (loss.value - loss.error, loss.value + loss.error)]
    x = linear(sizes, LEFT, RIGHT)
    if report.reference is None:
        title, y = "Perplexity against size", linear(ends, BOTTOM, TOP)
    else:
        title = f"Mean KL divergence from {Path(report.reference.path).name}, in nats, against size"
        y = logarithmic([loss.value for loss in losses], BOTTOM, TOP)
    parts = [*_grid(x, y), f'<text x="{(LEFT + RIGHT) / 2:g}" y="{BOTTOM + 40}" text-anchor="middle">{name}</text>']
    points = [(x.place(size), y.place(loss.value)) for size, loss in zip(sizes, losses, strict=True)]
    for (at, middle), loss in zip(points, losses, strict=True):
        low, high = y.place(loss.value - loss.error), y.place(loss.value + loss.error)
        parts.append(f'<line class="error" x1="{at:.1f}" x2="{at:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
        parts.append(f'<circle class="first" cx="{at:.1f}" cy="{middle:.1f}" r="4"/>')
    for text, left, base in _labels(_names(report.files), points):
        parts.append(f'<text x="{left:.1f}" y="{base:.1f}">{xml_text(text)}</text>')
    label = xml_text(title)
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{label}">\n<style>{STYLE}\n{LINE_STYLE}</style>\n'
        f'<text class="title" x="20" y="26">{label}</text>\n{body}\n</svg>\n'
    )


def _loss(each: FileQuality) -> Estimate:
    return each.perplexity if each.divergence is None else each.divergence.mean


def _names(files: Sequence[FileQuality]) -> list[str]:
    """The types of the files, or their names where a type occurs twice."""
    types = [each.type for each in files]
    return types if len(set(types)) == len(types) else [Path(each.path).stem for each in files]


def _grid(x: Axis, y: Axis) -> list[str]:
    parts = []
    for tick in y.ticks:
        at = y.place(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{tick:,.4g}</text>')
    for tick in x.ticks:
        at = x.place(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{BOTTOM}"/>')
        parts.append(f'<text x="{at:.1f}" y="{BOTTOM + 18}" text-anchor="middle">{tick:,.4g}</text>')
    return parts


def _labels(names: Sequence[str], points: Sequence[tuple[float, float]]) -> list[tuple[str, float, float]]:
    """Each name with the left end of its baseline, beside its point and where possible not over another one."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]  # boxes: left, top, right, bottom
    placed = []
    for name, (x, y) in zip(names, points, strict=True):
        width = LETTER * len(name)
        choices = [
            (left, base)
            for base in (y + 4, y - 10, y + 18, y - 24, y + 32)
            for left in (x + 9, x - 9 - width, x - width / 2)
            if left >= 0 and left + width <= WIDTH and (base != y + 4 or left != x - width / 2)
        ] or [(max(WIDTH - width, 0.0), y - 10)]
        boxes = [(left, base - LINE + 2, left + width, base + 2) for left, base in choices]
        free = [at for at, box in enumerate(boxes) if not any(_overlap(box, other) for other in taken)]
        chosen = free[0] if free else 0
        taken.append(boxes[chosen])
        placed.append((name, *choices[chosen]))
    return placed


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
