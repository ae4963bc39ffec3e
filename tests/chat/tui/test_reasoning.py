"""Reasoning in a session: dim before its answer, folded away later, and gone on with where it was cut off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.chat.tui.pseudo_terminal import CTRL_T


def test_reasoning_is_shown_before_its_answer_and_folded_away_later(start: Any) -> None:
    terminal = start([["think", "It may\nbe "], ["think", "so."], ["text", "Yes."]])
    terminal.say("Is it?")
    terminal.wait("Thought for 0.0 s (4 words). /think show prints it.\n\nYes.")
    terminal.wait_for_prompt()
    terminal.run("/think show", "It may\nbe so.")
    terminal.run("/sessions", "/load NUMBER opens one.")
    terminal.run("/load 1", "Thought before it answered (4 words).\n\nYes.")
    terminal.send("typed")
    for key in f"{CTRL_T} and typed meanwhile":
        terminal.child.send(key)  # once the terminal itself echoed the first of them
    terminal.wait(lambda: terminal.cursor_line() == "> typed and typed meanwhile")
    assert terminal.text().count("It may\nbe so.") == 2


@pytest.mark.slow
def test_reasoning_is_seen_while_it_grows(start: Any, tmp_path: Path) -> None:
    terminal = start(
        [["think", "".join(f"line {n}\n" for n in range(20))], ["until", str(tmp_path / "go")], ["text", "Yes."]]
    )
    terminal.say("Is it?")
    terminal.wait("line 12\nline 13\nline 14\nline 15\nline 16\nline 17\nline 18\nline 19")
    assert b"\x1b[2mline 19" in terminal.output and "line 11" not in terminal.text()
    terminal.wait("\nthinking · ")
    (tmp_path / "go").touch()
    terminal.wait("> Is it?\n\nThought for")
    assert "line 19" not in terminal.text()


def test_hidden_reasoning_is_not_shown_but_can_be_printed(start: Any) -> None:
    terminal = start([["think", "Hm."], ["text", "Yes."]], flags={"think": "hide"})
    terminal.run("Is it?", "\n\nYes.\n\n2 tokens")
    terminal.run("/think show", "Hm.")


def test_think_changes_its_options(start: Any) -> None:
    terminal = start()
    terminal.run("/think show", "No answer here has any thinking.")
    terminal.run("/think off", "think            off  /think")
    terminal.run("/think limit 100", "think-limit      100  /think")
    terminal.run("/think limit", "Most tokens of thinking")  # this once removed the limit
    terminal.run("/think limit off", "think-limit      -  /think")
    terminal.run("/think", "think            off  /think")
    terminal.run("/think limit many", "error: ")
    terminal.run(
        "/think loudly",
        "error: `/think` does not take `loudly`\nhint: use show, auto, on, off, hide, or `limit` and a number",
    )


def test_an_answer_that_was_all_reasoning_says_so_and_is_gone_on_with(start: Any) -> None:
    """Nothing was stored of an answer without text, so it could not be continued."""
    terminal = start([["think", "Hm"], ["length"]], [["think", "m."], ["text", "Yes."]], [["think", "Hm."]])
    terminal.run("Is it?", "The limit was reached while thinking. /continue resumes.")
    terminal.run("/continue", "(1 word). /think show prints it.\n\nYes.")
    terminal.run("/export out.json", "out.json")
    terminal.run("again", "The model thought but gave no answer. /regen tries again.")


def test_the_models_own_system_prompt_is_shown_left_out_and_taken_back(start: Any) -> None:
    terminal = start(system_prompt="Be the model.")
    terminal.wait("/ 32,768")
    terminal.run("/system", "Be the model.\nThe model's own; /system none leaves it out.")
    terminal.run("hi", "You said: hi")
    terminal.run("/context", "system          3  Be the model.")
    terminal.run("/system none", "There is no system prompt.")
    terminal.run("/system default", "The model's own; /system none leaves it out.")


def test_an_effort_is_one_of_the_models(start: Any) -> None:
    terminal = start(efforts=["none", "high"])
    terminal.wait("/ 32,768")
    terminal.run("/set effort max", "the model has no reasoning effort 'max'\nhint: one of none, high")
    terminal.run("/set effort high", "effort           high  /set")
    terminal.run("/set effort default", "effort           -  /set")
