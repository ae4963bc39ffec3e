"""A file is written completely, or the earlier one stays."""

from __future__ import annotations

import os
import socket
import stat
import sys
import threading
from pathlib import Path

import pytest

from chat.errors import FileError, UsageError
from chat.system.text_files import open_log, read_bytes, replaced_file, write_file


@pytest.mark.skipif(
    sys.platform == "win32", reason="a file has the rights of its folder there, and errors have other words"
)
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


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127])
def test_a_file_may_have_the_longest_name(tmp_path: Path, name: str) -> None:
    """Once the name of the temporary file was too long from 246 bytes on."""
    write_file(tmp_path / name, "text")
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_name_with_a_nul_is_no_file(tmp_path: Path) -> None:
    """Once it was an unexpected ValueError."""
    path = tmp_path / "a\0b"
    for use in (read_bytes, open_log, lambda name: write_file(name, "text")):
        with pytest.raises(FileError, match=r"cannot be (read|written): no file has such a name"):
            use(path)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_file_is_written_through_links(tmp_path: Path) -> None:
    """A link was replaced by a file, and the file that it stood for kept the old text."""
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    (tmp_path / "other").symlink_to("folder/file")
    link.symlink_to("other")
    write_file(link, "new")  # what it stands for is missing
    write_file(link, "newer", overwrite=True)
    assert (link.readlink(), (folder / "file").read_text()) == (Path("other"), "newer")
    assert [each.name for each in folder.iterdir()] == ["file"]
    link.unlink()
    link.symlink_to("link")
    with pytest.raises(FileError, match=r"link: cannot be written: Too many levels of symbolic links$"):
        write_file(link, "x", overwrite=True)


def leave_after_a_byte(reader: int) -> None:
    while not os.read(reader, 1):  # until somebody writes
        pass
    os.close(reader)


@pytest.mark.skipif(sys.platform == "win32", reason="has no such files")
def test_a_device_or_a_pipe_is_written_to_and_never_replaced(tmp_path: Path) -> None:
    """`--overwrite` replaced /dev/null by a file, and without it the device was said to exist."""
    null = Path("/dev/null").stat()
    for overwrite in (False, True):
        write_file(Path("/dev/null"), "x", overwrite=overwrite)
    assert Path("/dev/null").stat().st_rdev == null.st_rdev
    if Path("/dev/full").exists():
        with pytest.raises(FileError, match=r"^/dev/full: cannot be written: No space left on device$"):
            write_file(Path("/dev/full"), "x" * 100_000, overwrite=True)
    pipe, socket_file = tmp_path / "pipe", tmp_path / "socket"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_file(pipe, "text", overwrite=True)
    assert (os.read(reader, 9), stat.S_ISFIFO(pipe.stat().st_mode)) == (b"text", True)
    os.close(reader)
    for write in (open_log, lambda path: write_file(path, "text", waits=False)):
        with pytest.raises(FileError, match=r"pipe: cannot be written: nobody reads this pipe$"):
            write(pipe)
    for waits, expected in ((True, BrokenPipeError), (False, FileError)):  # a session goes on after it
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(reader, True)
        leaving = threading.Thread(target=leave_after_a_byte, args=[reader])
        leaving.start()
        with pytest.raises(expected):
            write_file(pipe, "x" * (1 << 20), waits=waits)
        leaving.join()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(socket_file))
        with pytest.raises(FileError, match=r"socket: is not a regular file$"):
            write_file(socket_file, "x", overwrite=True)


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors have no names there")
def test_a_descriptor_by_its_name_is_written_to_as_it_is(tmp_path: Path) -> None:
    """`sessions export -o /dev/stdout > FILE` said that the file exists, or replaced the one that the shell opened."""
    for at, name in enumerate(("/dev/fd/{}", "/proc/self/fd/{}", "link")):
        with (tmp_path / f"file{at}").open("w") as file:
            path = Path(name.format(file.fileno()))
            if name.startswith("/proc") and not path.exists():
                continue
            if name == "link":
                path = tmp_path / name
                path.symlink_to(f"/dev/fd/{file.fileno()}")
            file.write("before ")
            file.flush()
            for word in ("one ", "two"):
                write_file(path, word)
        assert (tmp_path / f"file{at}").read_text() == "before one two"
