"""`/new`, `/clear`, `/save`, `/load`, `/sessions` and `/search` in a session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.chat.tui.pseudo_terminal import CTRL_D, ENTER


@pytest.mark.slow
def test_an_opened_session_shows_a_long_question_without_its_middle(start: Any) -> None:
    terminal = start([["text", "short"]])
    terminal.wait("/ 32,768")
    terminal.paste("\n".join(f"row {number}" for number in range(100)))
    terminal.send(ENTER)
    terminal.wait("short")
    terminal.run("/load 1", "there is no session `1`")
    terminal.run("/sessions", "/load NUMBER opens one.")
    terminal.run("/load 1", "short")
    shown = terminal.text().rsplit("/load 1", 1)[1].split("short")[0].split()
    assert " ".join(shown) == ("Opened “row 0”. > row 0 row 1 row 2 row 3 … 92 more lines row 96 row 97 row 98 row 99")


@pytest.mark.slow
def test_sessions_are_saved_listed_searched_and_opened(start: Any) -> None:
    terminal = start(lines=60)
    terminal.run("the needle is here", "You said: the needle")
    terminal.run("/save hay stack", "`mistral-chat --session 'hay stack'` continues it")
    terminal.run("/save haystack", "Saved as `haystack`.")
    terminal.run("/new", "New session.")
    terminal.run("something else", "You said: something else")
    terminal.run("/sessions", "/load NUMBER opens one.")
    assert (
        "  1 ▸ something else  2 messages · just now\n  2   haystack · the needle is here  2 messages"
        in terminal.text()
    )
    terminal.run("/search needle", "/load NUMBER opens the session there.")
    terminal.run("/load 1", "Opened “haystack”.")
    terminal.run("more", "You said: more")
    terminal.run("/search needle", "/load NUMBER opens the session there.")
    terminal.run("/load 1", "… 2 later messages; your message goes after the last one")
    shown = terminal.text().rsplit("/load 1", 1)[1]
    assert "> the needle is here" in shown and "You said: more" not in shown
    terminal.run("/load nosuch", "there is no session `nosuch`")
    terminal.run("/load model.gguf", "is a model, not a session")
    terminal.run("/search", "`/search` needs words to search for")
    terminal.run("/search unfindable", "Nothing found for unfindable.")
    terminal.run("/new haystack", "error: ")
    terminal.run("/clear", "Cleared.")
    assert "needle" not in terminal.text()
    terminal.run("/branches 1", "You said: more")
    terminal.send(CTRL_D)
    assert terminal.end() == 0
    again = start(resume="haystack")
    again.wait("You said: more")
    again.wait("… 2 earlier messages")


@pytest.mark.slow
def test_save_in_memory_does_not_say_saved(start: Any) -> None:
    terminal = start(flags={"no_history": True})
    terminal.run("hello", "You said: hello")
    terminal.run("/save greeting", "This session (`greeting`) is in memory only")
    assert "saved" not in terminal.text()


@pytest.mark.slow
def test_names_may_be_quoted(start: Any, tmp_path: Path) -> None:
    terminal = start()
    terminal.run("hello", "You said: hello")
    terminal.run('/save "two words"', "Saved as `two words`.")
    terminal.run("/load 'two words'", "Opened “two words”.")
    terminal.run(f"/export '{tmp_path}/a b.md'", "Wrote")
    assert (tmp_path / "a b.md").exists()
    terminal.run("/model 'no such'", "there is no model `no such`")
