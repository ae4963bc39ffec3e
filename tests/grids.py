"""Whether generated cases are run whole: `pytest --full` sets `FULL` before any test module is imported."""

from __future__ import annotations

FULL = False
