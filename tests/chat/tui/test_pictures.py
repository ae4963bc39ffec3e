"""A session with pictures, with a real tiny model that sees."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chat.documents import document_makers as make
from tests.chat.seeing import file_of, picture_of_noise
from tests.chat.tui.pseudo_terminal import CTRL_D, CTRL_U, ENTER, Terminal
from tests.grids import FULL

Begin = Callable[..., Terminal]


@pytest.fixture
def begin(tmp_path: Path, seeing_model: Callable[..., Path]) -> Iterator[Begin]:
    begun: list[Terminal] = []
    for name, size in (("photo.png", (112, 84, 1)), ("two words.png", (56, 140, 2))):
        (tmp_path / name).write_bytes(file_of(picture_of_noise(*size)))
    (tmp_path / "cut.png").write_bytes((tmp_path / "photo.png").read_bytes()[:300])

    def run(*flags: str) -> Terminal:
        command = [
            sys.executable,
            "-m",
            "chat",
            "-m",
            str(seeing_model()),
            "-n",
            "5",
            "--temperature",
            "0",
            "--stats",
            *flags,
        ]
        environment = {"MISTRAL_CHAT_HOME": str(tmp_path / "home"), "MISTRAL_CHAT_THREADS": "1"}
        terminal = Terminal(command, columns=200, lines=50, environment=environment, folder=tmp_path)
        begun.append(terminal)
        terminal.wait_for_prompt()
        return terminal

    yield run
    for terminal in begun:
        terminal.kill()


def run(terminal: Terminal, line: str, expected: str) -> None:
    """Send a line, or the end of one, and wait for a text after it and the next prompt."""
    terminal.send(line.removeprefix("and this?") if terminal.cursor_line() != ">" else line, ENTER)
    terminal.wait(lambda: expected in terminal.everything().rsplit(f"> {line}", 1)[-1])
    terminal.wait_for_prompt()


def test_pictures_are_attached_asked_about_edited_and_kept(begin: Begin, tmp_path: Path) -> None:
    terminal = begin()
    (tmp_path / "scan.pdf").write_bytes(make.pdf([""], "100 100 200 300 re f"))
    run(terminal, "/file scan.pdf", "scan.pdf · 1 page, ")
    assert "note: scan.pdf: has no text; its page is read as a picture" in terminal.text()
    run(terminal, "/file clear", "No files are attached.")
    run(terminal, "/file photo.png", "photo.png · 112x84, 15 tokens")
    run(terminal, "/file cut.png", "error: cut.png: the picture is damaged, or not complete")
    run(terminal, f"and this? '{tmp_path}/two words.png'", "first token after")  # dropped after words
    assert "two words.png · 56x140, 15 tokens" in terminal.text()
    run(terminal, "/context", "[photo.png] [two words.png] and this?")
    run(terminal, "/file", "No files are attached.")
    terminal.send("/edit", ENTER)
    terminal.wait(lambda: terminal.cursor_line().endswith("and this?"))
    run(terminal, "and this? now", "first token after")
    run(terminal, "/context", "[photo.png] [two words.png] and this? now")
    run(terminal, "/set mmproj off", "off")
    terminal.send(f"what {tmp_path}/photo.png", ENTER)
    terminal.wait("error: photo.png: the model reads only text, not pictures")
    terminal.wait(lambda: terminal.cursor_line().endswith("photo.png"))  # back in the editor
    terminal.send(CTRL_U, CTRL_D)
    assert terminal.end() == 0


@pytest.mark.skipif(not FULL, reason="only with --full")
def test_a_picture_that_is_dropped_alone_waits_for_its_question(begin: Begin, tmp_path: Path) -> None:
    terminal = begin()
    run(terminal, f"'{tmp_path}/two words.png'", "two words.png · 56x140, 15 tokens")
    run(terminal, "hello there", "first token after")
    run(terminal, "/undo", "Removed “hello there”")
    run(terminal, "/model info", "read by ")
    run(terminal, "/branches 1", "[two words.png]")
    terminal.send(CTRL_D)
    assert terminal.end() == 0
    again = begin("-c")
    again.wait("[two words.png]")
    run(again, "/regen", "first token after")
