"""Reasoning in a session: dim before its answer, folded away later, and gone on with where it was cut off."""

from __future__ import annotations

from typing import Any


def test_reasoning_is_shown_before_its_answer_and_folded_away_later(start: Any) -> None:
    terminal = start([["think", "It may\nbe "], ["think", "so."], ["text", "Yes."]])
    terminal.say("Is it?")
    terminal.wait("It may\nbe so.\n\nYes.")
    terminal.wait("prompt 4")
    assert b"\x1b[2mIt may" in terminal.output
    terminal.run("/sessions", "/load NUMBER opens one")
    terminal.run("/load 1", "thought before it answered: 4 words, /export writes them\n\nYes.")


def test_an_answer_that_was_all_reasoning_says_so_and_is_gone_on_with(start: Any) -> None:
    """Nothing was stored of an answer without text, so it could not be continued."""
    terminal = start([["think", "Hm"], ["length"]], [["think", "m."], ["text", "Yes."]], [["think", "Hm."]])
    terminal.run("Is it?", "the model thought and gave no answer; cut at the limit, /continue resumes it")
    terminal.run("/continue", "m.\n\nYes.")
    terminal.run("/export out.json", "out.json")
    terminal.run("again", "the model thought and gave no answer; /regen asks again")


def test_the_models_own_system_prompt_is_shown_left_out_and_taken_back(start: Any) -> None:
    terminal = start(system_prompt="Be the model.")
    terminal.wait("/ 32,768")
    terminal.run("/system", "Be the model.\nthe model's own; /system none leaves it out")
    terminal.run("hi", "You said: hi")
    terminal.run("/context", "system          3  Be the model.")
    terminal.run("/system none", "no system prompt")
    terminal.run("/system default", "the model's own; /system none leaves it out")


def test_an_effort_is_one_of_the_models(start: Any) -> None:
    terminal = start(efforts=["none", "high"])
    terminal.wait("/ 32,768")
    terminal.run("/set effort max", "the model has no reasoning effort 'max'\nhint: one of none, high")
    terminal.run("/set effort high", "effort           high  /set")
    terminal.run("/set effort default", "effort           -  /set")
