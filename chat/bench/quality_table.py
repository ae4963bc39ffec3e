"""Format a report of quality as plain text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chat.bench.table import aligned
from chat.system.terminal_text import counted, escape_line, size_text

if TYPE_CHECKING:
    from chat.bench.quality_results import Estimate, FileQuality, QualityReport

NOTES = (
    "KL: Kullback-Leibler divergence from the reference in nats, token by token; same top: how often\n"
    "both have the same likeliest token; after ± the standard error"
)


def table(report: QualityReport) -> str:
    """The whole report."""
    head = (
        f"{counted(report.chunks, 'chunk')} of {report.context:,} tokens, the second half of each scored: "
        f"{report.scored_tokens:,} of {counted(report.text_tokens, 'token')}"
    )
    if report.reference is not None:
        each = report.reference
        name = escape_line(Path(each.path).name)
        head += f"\nReference: {name} ({each.type}, {size_text(each.size)}), perplexity {estimate(each.perplexity, 4)}"
    parts = [head]
    columns = ["file", "type", "size", "perplexity"]
    has_windows = any(each.window is not None and each.window < report.context for each in report.files)
    columns += ["window"] if has_windows else []
    columns += ["KL mean", "KL median", "KL 99%", "KL maximum", "same top"] if report.reference is not None else []
    parts.append(aligned([columns, *(_row(each, has_windows) for each in report.files)]))
    if report.reference is not None:
        parts.append(NOTES)
    return "\n\n".join(parts)


def _row(each: FileQuality, has_windows: bool) -> list[str]:
    cells = [escape_line(Path(each.path).name), each.type, size_text(each.size), estimate(each.perplexity, 4)]
    if has_windows:
        cells.append("-" if each.window is None else f"{each.window:,}")
    found = each.divergence
    if found is not None:
        cells += [
            estimate(found.mean, 6),
            f"{found.median:.6f}",
            f"{found.percentile_99:.4f}",
            f"{found.maximum:.4f}",
            f"{estimate(found.same_top, 2, 100)}%",
        ]
    return cells


def estimate(found: Estimate, digits: int, factor: int = 1) -> str:
    """`12.3456 ± 0.1234`."""
    value = round(found.value * factor, digits) + 0.0  # no `-0.00`
    return f"{value:,.{digits}f} ± {found.error * factor:,.{digits}f}"
