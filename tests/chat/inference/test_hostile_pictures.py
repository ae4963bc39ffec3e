"""Hostile pictures are seen, or refused in one sentence, and the engine's process outlives them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chat.inference.try_hostile_pictures import try_pictures
from tests.grids import FULL


@pytest.mark.engine
@pytest.mark.slow
def test_pictures_of_any_content_are_seen_or_refused_in_one_sentence(
    own_home: Path, seeing_model: Callable[..., Path]
) -> None:
    """`python -m tests.chat.inference.try_hostile_pictures` tries more of them."""
    trial = try_pictures(own_home, 3000 if FULL else 30, seed=1, model=seeing_model())
    assert trial.faults == []
    assert trial.codes["decoded 0"] and trial.codes["decoded 6"]
