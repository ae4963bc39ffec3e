"""One line of the doctor's report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """What one check found: `words` is a sentence without full stop, `hint` the way out."""

    check: str
    state: State
    words: str
    hint: str | None = None
