"""The folders of the repository that tests read."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent
CHECKPOINTS = ROOT / "tests" / "checkpoints"
