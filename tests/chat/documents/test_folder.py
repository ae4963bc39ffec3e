"""Folders of source files."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from random import Random

import pytest
from pathspec import GitIgnoreSpec

from chat.documents import folder as module
from chat.documents.ignore_rules import _pattern_class
from chat.documents.open_document import open_document, read_file
from chat.errors import ContextError, DataError
from tests.chat.documents import document_makers as make
from tests.chat.documents import office_makers as office
from tests.grids import FULL


def fill(folder: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def test_a_folder_is_its_tree_and_its_text_files(tmp_path: Path) -> None:
    fill(
        tmp_path / "src",
        {
            "b.py": "b = 1\n",
            "a.md": "# A\n",
            "sub/c.js": "c()\n",
            "sub/x.png": b"\x89PNG\r\n\x1a\n\0",
            "empty/.keep": "",
        },
    )
    found = open_document(f"{tmp_path}/src")
    assert found.fenced() == (
        "Folder `src/`:\n```text\nsrc/\n├── a.md (4 bytes)\n├── b.py (6 bytes)\n├── empty/\n│   └── .keep (0 bytes)\n"
        "└── sub/\n    ├── c.js (4 bytes)\n    └── x.png (9 bytes, picture, left out)\n```\n\n"
        "File `src/a.md`:\n```md\n# A\n```\n\nFile `src/b.py`:\n```py\nb = 1\n```\n\n"
        "File `src/empty/.keep`:\n```\n\n```\n\nFile `src/sub/c.js`:\n```js\nc()\n```"
    )
    assert found.warnings == ("src/ has 4 files with 14 bytes of text; left out: 1 file (picture)",)


def test_documents_in_a_folder_are_read_and_those_that_cannot_be_are_named(tmp_path: Path) -> None:
    """Someone's folder of reports was refused: it had no text files."""
    fill(
        tmp_path / "in",
        {
            "a.pdf": make.pdf(["First page"]),
            "b.ipynb": make.notebook(),
            "c.html": "<p>source</p>",
            "d.pdf": make.pdf([""]),
        },
    )
    office.xlsx(tmp_path / "in" / "e.xlsx", {"S": office.rows("Name", "Ann")})
    found = open_document(str(tmp_path / "in"))
    assert [part.name for part in found.parts] == ["in/a.pdf", "in/b.ipynb", "in/c.html", "in/e.xlsx"]
    assert found.parts[0].text == "[page 1]\nFirst page" and found.parts[0].places[0].label == "page 1"
    assert found.parts[2].text == "<p>source</p>"
    assert found.warnings[0].startswith("in/ has 4 files with ")
    assert found.warnings[0].endswith("; left out: 1 file (document that cannot be read)")
    assert found.warnings[1] == "d.pdf: has neither text nor pictures"
    assert ", document that cannot be read, left out)" in found.text


def test_what_git_ignores_is_left_out_also_by_files_above_and_below(tmp_path: Path) -> None:
    fill(
        tmp_path,
        {
            ".git/config": "x",
            ".gitignore": "*.log\n/build/\n!keep.log\n",
            "src/.gitignore": "secret.txt\n!other.log\n",
            "src/a.log": "x",
            "src/keep.log": "keep",
            "src/other.log": "other",
            "src/secret.txt": "x",
            "src/deep/secret.txt": "x",
            "src/deep/.gitignore": "!secret.txt\n",
            "src/build/b.txt": "in a folder that only the root's pattern does not name",
        },
    )
    parts = [part.name for part in open_document(str(tmp_path / "src")).parts]
    assert parts == [
        "src/.gitignore",
        "src/keep.log",
        "src/other.log",
        "src/build/b.txt",
        "src/deep/.gitignore",
        "src/deep/secret.txt",
    ]


def test_links_are_not_followed_and_large_files_only_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FILE_BYTES", 100)
    fill(tmp_path, {"out/secret": "x", "in/a.txt": "a", "in/large.csv": "1," * 100})
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    found = open_document(str(tmp_path / "in"))
    assert [part.name for part in found.parts] == ["in/a.txt"]
    assert "large.csv (200 bytes, over 0 MiB, left out)" in found.text and "secret" not in found.text


def test_a_folder_without_text_or_with_too_many_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="has no text files or documents in it"):
        open_document(str(tmp_path))
    fill(tmp_path, {f"{number}.txt": "x" for number in range(12)})
    monkeypatch.setattr(module, "MOST_ENTRIES", 10)
    with pytest.raises(ContextError, match="has more than 10 files"):
        open_document(str(tmp_path))


@pytest.mark.skipif(not Path("/proc/kmsg").exists(), reason="has no files that do not end")
def test_files_without_an_end_and_other_file_systems_are_not_waited_for() -> None:
    """`/file /` read the kernel's messages, and waited for the next one."""
    assert "another file system" in module._Walk(Path("/"), read_file)._entry_of(Path("/proc")).note
    assert module._Walk(Path("/proc"), read_file)._entry_of(Path("/proc/kmsg")).note  # without a wait


def test_a_pattern_that_git_does_not_know_matches_nothing(tmp_path: Path) -> None:
    """Once the program ended with an error of its own, and Python warned of the other one."""
    fill(tmp_path, {".gitignore": "[z-a]\n[[:alpha:]]x\n*.log\n", "a.log": "x", "z": "x"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = open_document(str(tmp_path))
    assert [part.name.partition("/")[2] for part in found.parts] == [".gitignore", "z"]


@pytest.mark.parametrize("pattern", ["*a" * 25 + "b", "a/**/" * 30 + "x"])
def test_patterns_of_many_stars_take_no_time(pattern: str, tmp_path: Path) -> None:
    """They once took longer than anybody lives; Git answers at once."""
    fill(tmp_path, {".gitignore": f"{pattern}\n", "a/" * 60 + "a" * 200: "x"})
    assert len(open_document(str(tmp_path)).parts) == 2


def test_patterns_mean_what_pathspec_says() -> None:
    random, made, matches = Random(4), _pattern_class(), 0
    for _ in range(5000 if FULL else 200):
        pattern = "".join(
            random.choices(["a", "b", "*", "?", "/", "**/", "/**", "[ab]", "a*", "!"], k=random.randint(1, 7))
        )
        path = "/".join("".join(random.choices("ab", k=random.randint(1, 4))) for _ in range(random.randint(1, 5)))
        path += random.choice(("", "/"))
        try:
            wanted = GitIgnoreSpec.from_lines([pattern]).check_file(path).include
        except ValueError:
            continue
        matches += wanted is not None
        assert GitIgnoreSpec.from_lines([pattern], made).check_file(path).include == wanted, (pattern, path)
    assert matches > 20


def test_odd_entries_of_a_folder_are_not_waited_for_and_named(tmp_path: Path) -> None:
    """A `.gitignore` that is a pipe was waited for; folders deep in each other and names that are no text raised."""
    os.mkfifo(tmp_path / ".gitignore")
    fill(tmp_path, {"d/" * 300 + "x": "deep", "a": "words"})
    (tmp_path / "\udc80.txt").write_text("x")
    found = open_document(str(tmp_path))
    assert [part.name.partition("/")[2] for part in found.parts] == ["a", "\ufffd.txt"]
    assert "left out: 1 file (over 100 folders deep)" in found.warnings[0]
    found.fenced().encode()
