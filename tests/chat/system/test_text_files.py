"""A file is written completely, or the earlier one stays."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from chat.errors import FileError, UsageError
from chat.system.text_files import replaced_file, write_file


def test_a_file_is_private_and_replaces_another_only_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "talk.md"
    write_file(path, "one\r\n\ud800é")
    assert path.read_bytes() == "one\r\n?é".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(UsageError, match=r"talk\.md exists$") as caught:
        write_file(path, "two")
    assert caught.value.hint == "choose another name, or add `--overwrite`"
    write_file(path, "two", overwrite=True)
    assert path.read_text() == "two"
    with pytest.raises(FileError, match=r"nowhere/talk\.md: cannot be written: No such file or directory$"):
        write_file(tmp_path / "nowhere" / "talk.md", "x")
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(FileError, match=r"folder\.md: cannot be written: Is a directory$"):
        write_file(tmp_path / "folder.md", "x", overwrite=True)
    assert sorted(file.name for file in tmp_path.glob("*.md")) == ["folder.md", "talk.md"]
    assert not list(tmp_path.glob(".*"))


def test_an_error_leaves_the_earlier_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("old")
    with pytest.raises(ValueError, match="torn"), replaced_file(path) as file:
        file.write(b"new")
        raise ValueError("torn")
    assert (path.read_text(), [each.name for each in tmp_path.iterdir()]) == ("old", ["results.jsonl"])
