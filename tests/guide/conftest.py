"""The scripts of the guide's making, for tests: they are run from their own folder, and are no package."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

MAKING = Path(__file__).parent / "making"


@pytest.fixture(scope="module")
def script() -> Iterator[Callable[[str], Any]]:
    """Imports one by its name."""
    sys.path.insert(0, str(MAKING))
    try:
        yield import_module
    finally:
        sys.path.remove(str(MAKING))
