"""Folders follow the environment, and asking for one creates nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from stat import S_IMODE
from typing import TYPE_CHECKING

import platformdirs
import pytest

from chat.errors import FileError
from chat.system import paths

if TYPE_CHECKING:
    from collections.abc import Callable

ALL = (paths.data_folder, paths.config_folder, paths.cache_folder, paths.models_folder, paths.state_folder)


def test_all_folders_are_below_the_home_variable_and_none_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("MISTRAL_CHAT_HOME", str(home))
    assert [folder() for folder in ALL] == [
        home / "data", home / "config", home / "cache", home / "data" / "models", home / "cache" / "states",
    ]  # fmt: skip
    assert not home.exists()


def test_a_relative_home_variable_is_below_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MISTRAL_CHAT_HOME", "here")
    assert paths.data_folder() == tmp_path / "here" / "data"


@pytest.mark.skipif(sys.platform == "win32", reason="there folders are those of the system, whatever the variables")
def test_the_platform_decides_without_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MISTRAL_CHAT_HOME", raising=False)
    for variable in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = [folder() for folder in ALL]
    assert all(folder.is_relative_to(tmp_path) and "mistral-chat" in folder.parts for folder in found)
    assert list(tmp_path.iterdir()) == []


def _raise(*_: object, **__: object) -> Path:
    raise RuntimeError("could not determine the home directory")


@pytest.mark.parametrize("found", [_raise, lambda *_, **__: Path("~/.local/share/mistral-chat")])
def test_a_missing_home_is_one_error(found: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions of platformdirs differ: newer ones raise, older ones return `~` as it is."""
    monkeypatch.delenv("MISTRAL_CHAT_HOME", raising=False)
    monkeypatch.setattr(platformdirs, "user_data_path", found)
    with pytest.raises(FileError, match=r"^there is no home folder for the data of mistral-chat$") as caught:
        paths.data_folder()
    assert caught.value.hint == "set MISTRAL_CHAT_HOME to a folder of your own"


@pytest.mark.skipif(sys.platform == "win32", reason="a folder has the rights of the one around it there")
def test_a_folder_is_made_for_its_owner_or_the_error_names_it(tmp_path: Path) -> None:
    paths.require_private_folder(tmp_path / "a" / "b")
    assert [S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b")] == [0o700, 0o700]
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"file/c: cannot be made: Not a directory$"):
        paths.require_private_folder(tmp_path / "file" / "c")
