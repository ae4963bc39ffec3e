"""Damaged histories of each version are read as far as they are whole."""

from __future__ import annotations

from pathlib import Path

from tests.chat.history.try_hostile_histories import try_histories
from tests.grids import FULL


def test_damaged_histories_are_read_as_far_as_they_are_whole(own_home: Path) -> None:
    """`python -m tests.chat.history.try_hostile_histories` tries more of them."""
    trial = try_histories(own_home, 2000 if FULL else 15, seed=1)
    assert trial.faults == []
    assert len(trial.codes) > 4
