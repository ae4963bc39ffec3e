"""The command that installs a package is one for the Python that runs this program."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from chat import platform
from chat.system import installer
from chat.system.installer import install_extra, pip_install


def test_pip_of_this_environment_is_named_where_the_shell_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer, "find_spec", lambda _: True)
    monkeypatch.setattr(installer.shutil, "which", lambda _: str(Path(sys.executable).parent / "pip"))
    assert install_extra("tools", "keyring") == "pip install 'mistral-chat[tools,keyring]'"


@pytest.mark.parametrize("command", [None, "/usr/bin/pip"])
def test_another_pip_on_the_path_is_not_named(command: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installer, "find_spec", lambda _: True)
    monkeypatch.setattr(installer.shutil, "which", lambda _: command)
    assert pip_install("mcp") == f"{platform.quoted(sys.executable)} -m pip install mcp"


def test_an_environment_of_uv_has_no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `uv tool install`, `doctor` named `pip`, which does not exist there or belongs to another Python."""
    monkeypatch.setattr(installer, "find_spec", lambda _: None)
    assert pip_install("mcp") == f"uv pip install --python {platform.quoted(sys.executable)} mcp"


def test_one_file_is_no_python_to_install_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was named as the Python of `uv pip install`."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(installer, "find_spec", lambda _: None)
    assert pip_install("mcp") == "pip install mcp"


def test_extras_are_quoted_for_the_shell_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows `cmd.exe` hands single quotes to pip, which refuses them."""
    monkeypatch.setattr(installer, "find_spec", lambda _: True)
    monkeypatch.setattr(installer.shutil, "which", lambda _: str(Path(sys.executable).parent / "pip"))
    monkeypatch.setattr(platform, "quoted", lambda word: f'"{word}"')
    assert install_extra("tools") == 'pip install "mistral-chat[tools]"'
