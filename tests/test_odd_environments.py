"""In odd environments the program gives an answer, or one sentence and the right exit code."""

from __future__ import annotations

import sys

import pytest

from tests.grids import FULL
from tests.try_odd_environments import KINDS, try_environments


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="sets limits and capabilities with the programs of Linux")
@pytest.mark.parametrize("kind", KINDS)
def test_no_environment_ends_in_a_traceback_or_loses_a_word(kind: str) -> None:
    """`python -m tests.try_odd_environments` tries all of them."""
    assert try_environments(50 if FULL else 1, 2, kind) == []
