"""The prompt from stdin, files and the argument."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat.app.prompt_input import compose
from chat.documents.open_document import open_document
from chat.documents.plain_text import decode
from chat.errors import ContextError, DataError, FileError, UsageError
from chat.system.environment import Environment
from chat.system.text_files import read_text


def test_stdin_comes_first_then_a_blank_line_then_the_argument() -> None:
    assert compose(["sum", "it up"], [], b"a text\n").text == "a text\n\nsum it up"


def test_the_final_newline_of_stdin_is_not_in_the_prompt() -> None:
    assert compose([], [], b"hello\n").text == "hello"
    assert compose([], [], b"hello\r\n").text == "hello"


def test_a_raw_prompt_keeps_stdin_as_it_is() -> None:
    assert compose([], [], b" x\n\n", keep_newlines=True).text == " x\n\n"


def test_files_are_fenced_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("print(1)")
    text = compose(["explain"], [str(tmp_path / "a.py")], b"").text
    assert text == "File `a.py`:\n```py\nprint(1)\n```\n\nexplain"


def test_a_fence_is_longer_than_any_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("````\nx\n````\n")
    assert open_document(str(tmp_path / "a.md")).fenced() == "File `a.md`:\n`````md\n````\nx\n````\n`````"


def test_a_dash_attaches_stdin_and_does_not_repeat_it() -> None:
    assert compose(["why"], ["-"], b"x").text == "File `stdin`:\n```\nx\n```\n\nwhy"


@pytest.mark.parametrize(
    ("data", "text", "warnings"),
    [
        (b"\xef\xbb\xbfhi", "hi", ()),
        (b"a\0b", "a\0b", ()),
        (b"a\r\nb", "a\r\nb", ()),
        (b"a\xffb\xfe", "a\ufffdb\ufffd", ("stdin is not UTF-8 from byte 1 on; unreadable bytes became U+FFFD",)),
        ("hé".encode("utf-16"), "hé", ("stdin was read as UTF-16",)),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd", ("stdin is not UTF-8 from byte 0 on; unreadable bytes became U+FFFD",)),
    ],
)
def test_bytes_become_text_with_at_most_one_warning(data: bytes, text: str, warnings: tuple[str, ...]) -> None:
    decoded = decode(data, "stdin")
    assert (decoded.text, decoded.warnings) == (text, warnings)


def test_an_argument_that_is_no_utf8_becomes_text() -> None:
    assert compose(["a\udcffb"], [], b"").text == "a\ufffdb"


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(UsageError, match="the prompt is empty"):
        compose([], [], b" \n")


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be read: No such file"):
        open_document(str(tmp_path / "no"))
    (tmp_path / "b").write_bytes(b"\1\2\0\0")
    with pytest.raises(DataError, match="is binary, not text"):
        open_document(str(tmp_path / "b"))


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="has no such device")
def test_an_input_without_end_is_refused_at_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-f /dev/zero`, or a file of any size, was read into memory as a whole."""
    monkeypatch.setattr("chat.system.text_files.MOST_TEXT_BYTES", 1 << 20)  # the default of parameters stays
    sentence = r"^/dev/zero: is larger than the limit of 64 MiB$"
    with pytest.raises(ContextError, match=sentence):
        open_document("/dev/zero")
    with pytest.raises(DataError, match=sentence):
        read_text(Path("/dev/zero"))
    with Path("/dev/zero").open() as zeros:
        with pytest.raises(ContextError, match=r"^stdin: is larger than the limit of 1 MiB$"):
            Environment(stdin=zeros).read_stdin()
        with pytest.raises(DataError, match=r"^stdin: is larger than the limit of 3 MiB$"):
            Environment(stdin=zeros).read_stdin(3 << 20)
    (tmp_path / "a.txt").write_bytes(b"x" * 700_000)
    monkeypatch.setattr("chat.app.prompt_input.MOST_TEXT_BYTES", 1 << 20)
    with pytest.raises(ContextError, match=r"^the files together are larger than the limit of 1 MiB$"):
        compose([], [str(tmp_path / "a.txt")] * 2, b"")
