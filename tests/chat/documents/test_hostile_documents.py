"""Hostile documents, folders and pages are read, or refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chat.documents.try_hostile_documents import try_documents
from tests.grids import FULL


@pytest.mark.engine
@pytest.mark.slow
def test_documents_of_any_content_are_read_or_refused_in_one_sentence(own_home: Path) -> None:
    """`python -m tests.chat.documents.try_hostile_documents` tries more of them."""
    trial = try_documents(own_home, 3000 if FULL else 25, seed=1)
    assert trial.faults == []
    assert {code.split()[0] for code in trial.codes} == {"file", "folder", "page"}
