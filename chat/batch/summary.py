"""Add up the figures of a batch's results, for the line at its end. Knows records as they are printed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chat.rendering.status_text import counted, duration, rate

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass
class BatchSummary:
    """What came so far; tokens that a server does not tell count as none."""

    answered: int = 0
    failed: int = 0
    prompt: int = 0
    cached: int = 0
    generated: int = 0

    def add(self, result: Mapping[str, Any], *, is_failed: bool) -> None:
        """Count one result, as `--json` has it."""
        self.answered += "error" not in result
        self.failed += is_failed
        tokens = result.get("tokens")
        if isinstance(tokens, dict):  # a dry run has a number here
            self.prompt += tokens["prompt"]
            self.cached += tokens["cached"]
            self.generated += tokens["generated"]

    def words(self, seconds: float) -> str:
        """All of it in one line, with the time that the whole took."""
        cached = f" ({self.cached:,} cached)" if self.cached else ""
        parts = [
            counted(self.answered, "answer"),
            f"{self.failed:,} failed" if self.failed else "",
            counted(self.generated, "token") if self.generated else "",
            f"{rate(self.generated, seconds)}/s" if self.generated else "",
            duration(seconds),
            f"prompts {self.prompt:,}{cached}" if self.prompt else "",
        ]
        return " · ".join(part for part in parts if part)
