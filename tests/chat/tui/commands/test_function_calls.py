"""A model calls functions in a session: the calls are shown, the user types their results, then it answers."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.slow
def test_results_are_sent_one_by_one_and_then_the_model_answers(start: Any) -> None:
    calls = [["call", "weather", '{"city": "Paris"}', "abcdefghi"], ["call", "now", "{}", "123456789"]]
    terminal = start([*calls], [["text", "20 degrees at noon"]])
    terminal.run("/result 20", "No function call is waiting for a result.")
    terminal.run("weather?", "/result TEXT answers it")
    assert 'asks for weather({"city": "Paris"})' in terminal.text() and "asks for now({})" in terminal.text()
    terminal.run("well?", 'no result yet for weather({"city": "Paris"}) and 1 more')
    terminal.run("/result", "`/result` needs the result of the function")
    terminal.run("/result 20", "There is no result yet for now({}).")
    terminal.run("/tool noon", "20 degrees at noon")
    terminal.run("thanks", "You said: thanks")
    terminal.run("/undo 2", "Removed 2 turns")
    terminal.run("anew", "You said: anew")


@pytest.mark.slow
def test_an_opened_session_shows_calls_and_results(start: Any) -> None:
    terminal = start([["call", "weather", '{"city": "Paris"}', "abcdefghi"]], [["text", "Warm."]], lines=60)
    terminal.run("weather?", "/result TEXT answers it")
    terminal.run("/context", 'asks for weather({"city": "Paris"})')
    terminal.run("/result 20 degrees", "Warm.")
    terminal.run("/search weather", "/load NUMBER opens the session there.")
    terminal.run("/load 1", "Warm.")
    shown = terminal.text().rsplit("/load 1", 1)[1]
    assert [line for line in shown.splitlines()[2:] if line][:4] == [
        "> weather?", 'asks for weather({"city": "Paris"})', "result: 20 degrees", "Warm.",
    ]  # fmt: skip
