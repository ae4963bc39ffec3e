"""Folders with arbitrary files: converted or refused with one sentence, fast, in little memory, nothing else read."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat.errors import ExitCode
from tests.convert.hostile_kinds import KINDS
from tests.convert.try_hostile import try_kind
from tests.grids import FULL

COUNT = 1000 if FULL else 6  # of each kind
BOMBS = 40 if FULL else 0


@pytest.mark.parametrize("name", [name for name in KINDS if name != "bombs" or BOMBS])
@pytest.mark.slow
def test_a_folder_may_hold_anything(name: str, tmp_path: Path) -> None:
    """`python -m tests.convert.try_hostile` tries more of them."""
    trial = try_kind(tmp_path, name, BOMBS if name == "bombs" else COUNT, seed=1)
    print(trial)
    assert trial.faults == []
    assert trial.codes.total() > trial.codes[ExitCode.DONE] > 0
