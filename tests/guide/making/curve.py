"""Draw the loss curve of a training run as SVG.

python tests/guide/making/curve.py FOLDER/training.json > tests/guide/making/loss.svg
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDTH, HEIGHT, MARGIN = 720, 360, 56
TICKS = (5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02)

Point = tuple[float, float]


def draw(curve: Sequence[tuple[int, float, float | None]]) -> str:
    """The picture of a curve of (step, training loss, held-back loss); the losses on a logarithmic scale."""
    trained = [(float(step), loss) for step, loss, _ in curve]
    held = [(float(step), loss) for step, _, loss in curve if loss is not None]
    losses = [loss for _, loss in (*trained, *held)]
    low, high = min(losses) * 0.9, max(losses) * 1.1
    last = trained[-1][0]

    def place(point: Point) -> Point:
        across = MARGIN + (WIDTH - 2 * MARGIN) * point[0] / last
        share = (math.log(point[1]) - math.log(low)) / (math.log(high) - math.log(low))
        return round(across, 1), round(HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * share, 1)

    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
            'font-size="12">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            f'<text x="{MARGIN}" y="28" font-size="15" fill="#222222">Loss of the guide, answers only '
            "(mean negative log-likelihood per token)</text>",
            *(_tick(place((0.0, loss)), loss) for loss in TICKS if low < loss < high),
            *(_step(place((last * part / 4, low)), last * part / 4) for part in range(5)),
            _line([place(point) for point in trained], "#c2410c", 1.5),
            _line([place(point) for point in held], "#1d4ed8", 2.5),
            _label(28, "#c2410c", "training, mean of 50 steps"),
            _label(46, "#1d4ed8", "dialogues of another seed"),
            "</svg>",
            "",
        )
    )


def _tick(at: Point, loss: float) -> str:
    y = at[1]
    return (
        f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y}" y2="{y}" stroke="#dddddd"/>'
        f'<text x="{MARGIN - 8}" y="{y + 4}" text-anchor="end" fill="#555555">{loss:g}</text>'
    )


def _step(at: Point, step: float) -> str:
    return f'<text x="{at[0]}" y="{HEIGHT - MARGIN + 20}" text-anchor="middle" fill="#555555">step {step:.0f}</text>'


def _line(points: Sequence[Point], colour: str, width: float) -> str:
    path = " ".join(f"{x},{y}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _label(down: int, colour: str, text: str) -> str:
    return f'<text x="{WIDTH - MARGIN}" y="{MARGIN + down - 12}" text-anchor="end" fill="{colour}">{text}</text>'


if __name__ == "__main__":
    print(draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["curve"]), end="")
