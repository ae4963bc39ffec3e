"""What every test stands on: a home of its own, and no variable of the person who runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CHECKPOINTS = Path(__file__).parent / "checkpoints"


def pytest_configure() -> None:
    """Let Ctrl+C reach the programs under test, also where a shell started pytest in the background without it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home that our folders, the hub's cache and child processes live in."""
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith(("MISTRAL_CHAT_", "HF_", "XDG_")) and name != "MISTRAL_CHAT_TEST_FULL":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("MISTRAL_CHAT_HOME", str(home / "mistral-chat"))
    monkeypatch.setenv("HF_HOME", str(home / "hub"))
    monkeypatch.setenv("MISTRAL_CHAT_THREADS", "1")  # two workers of tests share two cores; waiting threads spin
    return home


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real model with a window of 64, converted from the v0.1 checkpoint beside the tests."""
    return _converted("mistral-v0.1", tmp_path_factory)


@pytest.fixture(scope="session")
def tiny_v3_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real model without a window and with v3's control tokens."""
    return _converted("mistral-v0.3", tmp_path_factory)


def _converted(name: str, folders: pytest.TempPathFactory) -> Path:
    output = folders.mktemp("models") / f"{name}.gguf"
    command = [sys.executable, "-m", "chat", "convert", str(CHECKPOINTS / name), "-t", "F32", "-o", str(output)]
    subprocess.run(command, check=True, capture_output=True, cwd=CHECKPOINTS.parent.parent)
    return output
