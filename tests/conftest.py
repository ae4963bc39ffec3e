"""What every test stands on: a home of its own, and no variable of the person who runs it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home that our folders, the hub's cache and child processes live in."""
    home = tmp_path / "home"
    home.mkdir()
    for name in list(os.environ):
        if name.startswith(("MISTRAL_CHAT_", "HF_", "XDG_")) and name != "MISTRAL_CHAT_TEST_FULL":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("MISTRAL_CHAT_HOME", str(home / "mistral-chat"))
    monkeypatch.setenv("HF_HOME", str(home / "hub"))
    return home
