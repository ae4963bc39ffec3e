"""`/file` in a session."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from chat.tui.commands.attach_command import named_sources


@pytest.mark.slow
def test_files_are_attached_to_the_next_message_only(start: Any, tmp_path: Path) -> None:
    (tmp_path / "my notes.txt").write_text("line one\nline two\n")
    (tmp_path / "latin.txt").write_bytes("na\xefve\n".encode("latin-1"))
    (tmp_path / "image.png").write_bytes(b"\x89PNG\0\0")
    terminal = start()
    terminal.run("/file", "No files are attached.")
    terminal.run("/file my notes.txt", "my notes.txt · 18 characters, 4 tokens")
    terminal.run("/file latin.txt", "note: latin.txt is not UTF-8 from byte 2 on")
    terminal.run("/file clear", "No files are attached.")
    terminal.run("/read 'my notes.txt'", "with the next message.")
    terminal.run("/file image.png", "image.png: is binary, not text")
    terminal.run("/file nowhere.txt", "nowhere.txt: cannot be read: No such file or directory")
    terminal.run("/file latin.txt nowhere.txt", "nowhere.txt: cannot be read: No such file or directory")
    os.mkfifo(tmp_path / "pipe")
    terminal.run("/file pipe", "pipe: is not a file")
    terminal.run("/file .", "4 files (binary)")
    terminal.run("/file clear", "No files are attached.")
    terminal.run("/file 'my notes.txt'", "with the next message.")
    terminal.run("/file !echo from a command > output; exit 2", "ended with code 2")
    terminal.run("/file -", "-: cannot be read: No such file or directory")
    terminal.run(f"/file {'n' * 300}", "File name too long")
    terminal.run("/file ~no-user/x", "~no-user/x: cannot be read: No such file or directory")
    terminal.run("/set draft ~no-user/x", "~no-user/x: no such file")
    terminal.run("/file *.rs", "no file matches `*.rs`")
    terminal.run("/file", "with the next message.")  # the notes, and nothing of what failed
    assert "latin.txt" not in terminal.text().rsplit("> /file", 1)[1]
    terminal.run("What is it?", "line two")
    terminal.run("And now?", "You said: And now?")
    terminal.run("/sessions", "▸ What is it?")
    terminal.run(f"/export {'n' * 300}.md", ".md: File name too")
    terminal.run("/export ~no-user/x.md", "~no-user/x.md: cannot be written: No such file or directory")


@pytest.mark.slow
def test_a_pattern_attaches_what_it_matches(start: Any, tmp_path: Path) -> None:
    for name in ("b.py", "a.py", "[x].py", "other.txt"):
        (tmp_path / name).write_text(f"# {name}\n")
    (tmp_path / "folder.py").mkdir()
    terminal = start()
    terminal.run("/file *.py", "with the next message.")
    shown = terminal.text().rsplit("/file *.py", 1)[1]
    assert re.findall(r"^(\S+) · \d+ characters", shown, re.MULTILINE) == ["[x].py", "a.py", "b.py"]
    terminal.run("/file clear", "No files are attached.")
    terminal.run("/file [x].py", "with the next message.")
    assert "a.py · " not in terminal.text().rsplit("> /file [x].py", 1)[1]


@pytest.mark.slow
def test_long_files_stay_attached_and_each_message_gets_the_passages_that_match_it(start: Any, tmp_path: Path) -> None:
    """The words decide alone: the table of English words does not know these, and the model has no other one."""
    items = (
        f"Paket {number} wiegt {number * 7} Gramm, und die Katze sieht es sich jeden Tag an.{' ' * 200}"
        for number in range(300)
    )
    (tmp_path / "b.md").write_text("\n\n".join(items))
    terminal = start()
    terminal.run("/set find on", "on  /set")
    terminal.run("/file b.md", "/file clear drops it")
    terminal.run("Was wiegt Paket 250?", "Paket 250 wiegt 1750 Gramm")
    terminal.run("Was wiegt Paket 251?", "Paket 251 wiegt 1757 Gramm")
    terminal.say("Xylophon?")
    terminal.wait("b.md: no passage has a word of the question")
    terminal.wait(lambda: terminal.cursor_line() == "> Xylophon?")  # back in the editor


@pytest.mark.parametrize("text", ['"!dir /b a//b *.x"', "!dir /b a//b *.x"])
def test_a_command_in_quotes_stays_as_it_was_typed(text: str) -> None:
    """It was taken for a path: `a//b` became `a/b`, on Windows `/b` became `\\b`, and `*.x` matched no file."""
    assert named_sources(text) == ["!dir /b a//b *.x"]
