"""The table of commands, `/help`, and what holds for every command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chat.tui.commands.table import COMMANDS, HELP_CELLS, NAME_CELLS, NAMES
from tests.chat.tui.pseudo_terminal import CTRL_C, ENTER, TAB


def test_all_commands_exist_and_are_explained() -> None:
    wanted = (
        "help new clear system model set show file undo edit regen continue branches save load sessions search export"
    )
    wanted += " copy context stats bye raw preset result think tools"
    assert set(COMMANDS) == set(wanted.split())
    assert {"?", "exit", "quit", "read"} <= set(NAMES)
    assert len(NAMES) == sum(1 + len(command.aliases) for command in COMMANDS.values()), "an alias stands for two"
    for command in COMMANDS.values():
        assert len(command.help) <= HELP_CELLS and len(command.name) + 1 < NAME_CELLS, command.name
        assert command.details.endswith("."), command.name


def test_help_lists_all_commands_and_explains_one(start: Any) -> None:
    terminal = start()
    terminal.run("/?", "Ctrl+D quits")
    for command in COMMANDS.values():  # all of it stands on a screen of 80x24 at once
        assert f"/{command.name}" in terminal.text() and command.help in terminal.text()
    terminal.run("/help undo", "also /u")
    assert "Goes back to before the last turn, or the last n." in terminal.text()


@pytest.mark.slow
def test_unknown_commands_name_the_nearest_and_slashes_can_be_sent(start: Any) -> None:
    terminal = start()
    terminal.run("/regn", "did you mean `/regen`?")
    terminal.run("/temperature 0.3", "did you mean `/set temperature`?")
    terminal.run("/xyzzy", "`/help` lists them")
    terminal.run("/clear the last one", "`/clear` takes no argument, but got `the last one`")
    terminal.run("//regen", "You said: /regen")
    terminal.run("/etc/hosts is what?", "You said: /etc/hosts is what?")


def test_commands_options_paths_and_sessions_are_completed(start: Any, tmp_path: Path) -> None:
    (tmp_path / "chapter.txt").write_text("x")
    terminal = start()
    terminal.wait("/ 32,768")
    for typed, completed in (
        ("/bra", "> /branches"),
        ("/set temp", "> /set temperature"),
        ("/file cha", "> /file chapter.txt"),
    ):
        terminal.send(typed)
        terminal.wait(typed)
        terminal.send(TAB)
        terminal.wait(completed)
        terminal.send(CTRL_C)
        terminal.wait_for_prompt()


@pytest.mark.slow
def test_escapes_in_messages_and_titles_are_shown_as_symbols(start: Any) -> None:
    terminal = start([["text", "ok"]])
    terminal.wait("/ 32,768")
    terminal.paste("a\x1b[31mb\x07c \u202e d")
    terminal.send(ENTER)
    terminal.wait("ok")
    terminal.run("/sessions", "a␛[31mb␇c")
    terminal.run("/search ok", "/load NUMBER opens the session there.")
    terminal.run("/load 1", "a␛[31mb␇c")
    terminal.run("/context", "a␛[31mb␇c")
    terminal.run("/branches", "There is only one branch.")
    assert b"\x1b[31mb" not in terminal.output and "\u202e".encode() not in terminal.output


@pytest.mark.slow
def test_sentences_wrap_between_words_in_a_narrow_terminal(start: Any, tmp_path: Path) -> None:
    (tmp_path / "a-file-with-a-name.txt").write_text("word " * 900)
    terminal = start([["text", ""]], columns=30)
    terminal.run("/file a-file-with-a-name.txt", "/file clear drops it")
    terminal.say("go")
    terminal.wait("The answer is empty. /regen\ntries again.")
    terminal.say("/edit")
    terminal.wait("Edit and send. An empty\nmessage changes nothing.")
    assert "a-file-with-a-name.txt · 4,500\ncharacters, 1,125 tokens" in terminal.everything()
