"""Hostile files where the program looks by itself give one sentence, and nothing outside is removed."""

from __future__ import annotations

from pathlib import Path

from tests.chat.cli.try_hostile_files import try_files
from tests.grids import FULL


def test_files_of_any_content_are_taken_or_refused_in_one_sentence(own_home: Path) -> None:
    """`python -m tests.chat.cli.try_hostile_files` tries more of them."""
    trial = try_files(own_home, 3000 if FULL else 60, seed=1)
    assert trial.faults == []
    assert len({code.split()[0] for code in trial.codes}) == 6
