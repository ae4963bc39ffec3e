"""Pictures as attachments: their type and size, and the paths of dropped ones in what is typed."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from PIL import Image

from chat.documents.open_document import open_document, text_of_stdin
from chat.documents.pictures import picture_size, split_dropped
from chat.errors import DataError
from tests.chat.seeing import file_of

TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif", "BMP": "image/bmp"}
SHELL = pytest.mark.skipif(sys.platform == "win32", reason="a backslash is a part of a path there")


@pytest.mark.parametrize("kind", TYPES)
def test_a_picture_is_attached_as_its_file(kind: str, tmp_path: Path) -> None:
    data = file_of(Image.new("RGB", (30, 20)), kind)
    (tmp_path / "a file.xyz").write_bytes(data)
    document = open_document(str(tmp_path / "a file.xyz"))
    assert (document.name, document.kind, document.text, document.warnings) == ("a file.xyz", "Picture", "", ())
    assert document.picture is not None
    assert (document.picture.media_type, document.picture.name) == (TYPES[kind], "a file.xyz")
    assert document.picture.data == data
    assert text_of_stdin(data).pictures[0].sha256 == document.picture.sha256


@pytest.mark.parametrize("kind", [*TYPES, "lossless", "alpha", "progressive"])
def test_the_size_is_read_from_the_file(kind: str) -> None:
    dice = random.Random(kind)
    for _ in range(20):
        size = (dice.randrange(1, 300), dice.randrange(1, 300))
        if kind == "lossless":
            data = file_of(Image.new("RGB", size), "WEBP", lossless=True)
        elif kind == "alpha":
            data = file_of(Image.new("RGBA", size, (1, 2, 3, 100)), "WEBP")
        elif kind == "progressive":
            data = file_of(Image.new("RGB", size), "JPEG", progressive=True, exif=b"Exif\0\0" + bytes(500))
        else:
            data = file_of(Image.new("RGB", size), kind)
        assert picture_size(data) == size
        for end in range(40):
            picture_size(data[:end])  # of a file that is cut nothing may fail


def test_a_picture_over_the_limit_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "large.png").open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n\0")
        file.truncate((32 << 20) + 1)
    with pytest.raises(DataError, match=r"^large\.png: the picture's file is larger than the limit of 32 MiB$"):
        open_document(str(tmp_path / "large.png"))


@pytest.mark.parametrize(
    ("typed", "rest", "names"),
    [
        ("{f}/a.png", "", ["a.png"]),
        ("  {f}/a.png \n", "", ["a.png"]),
        ("'{f}/a.png' ", "", ["a.png"]),
        ('"{f}/with space.jpg"', "", ["with space.jpg"]),
        pytest.param("{f}/with\\ space.jpg", "", ["with space.jpg"], marks=SHELL),
        ("{f}/with space.jpg", "", ["with space.jpg"]),
        ("{u}/with%20space.jpg", "", ["with space.jpg"]),
        ("'{f}/a.png' '{f}/with space.jpg'", "", ["a.png", "with space.jpg"]),
        ("{f}/a.png what is it?", "what is it?", ["a.png"]),
        ("what is it? {f}/a.png", "what is it?", ["a.png"]),
        ("what is it?\nsay more '{f}/with space.jpg' {f}/a.png", "what is it?\nsay more", ["with space.jpg", "a.png"]),
        pytest.param(
            "{f}/a.png compare them {f}/with\\ space.jpg", "compare them", ["a.png", "with space.jpg"], marks=SHELL
        ),
        ("{f}/notes.txt", "{f}/notes.txt", []),
        ("{f}/gone.png", "{f}/gone.png", []),
        ("a.png", "a.png", []),
        ("is {f}/a.png a picture?", "is {f}/a.png a picture?", []),
        ("it's {f}/a.png", "it's", ["a.png"]),
        ("{f}", "{f}", []),
        ("/", "/", []),
        ("/help", "/help", []),
        ("file://", "file://", []),
        ("'unclosed {f}/a.png", "'unclosed", ["a.png"]),
        ("\0/a.png", "\0/a.png", []),
        ("", "", []),
    ],
)
def test_dropped_pictures_are_taken_from_a_message(typed: str, rest: str, names: list[str], tmp_path: Path) -> None:
    for name in ("a.png", "with space.jpg"):
        (tmp_path / name).write_bytes(file_of(Image.new("RGB", (3, 3))))
    (tmp_path / "notes.txt").write_text("notes")
    found = split_dropped(typed.format(f=tmp_path, u=tmp_path.as_uri()))
    assert found == (rest.format(f=tmp_path), [str(tmp_path / name) for name in names])


def test_a_path_in_the_home_folder_is_found(own_home: Path) -> None:
    (own_home / "a.png").write_bytes(file_of(Image.new("RGB", (3, 3))))
    assert split_dropped("~/a.png hello") == ("hello", [str(own_home / "a.png")])


def test_a_long_text_is_split_at_once() -> None:
    for text in ("/a" * 2_000_000, "'" * 1_000_000, "x " * 1_000_000):
        assert split_dropped(text) == (text, [])
