"""A model that calls functions in a session: the calls are shown, their results typed, and nothing goes on between."""

from __future__ import annotations

from typing import Any

import pytest

from tests.chat.tui.commands.test_table import do


@pytest.mark.slow
def test_results_are_given_one_after_the_other_and_then_the_model_goes_on(start: Any) -> None:
    calls = [["call", "weather", '{"city": "Paris"}', "abcdefghi"], ["call", "now", "{}", "123456789"]]
    terminal = start([*calls], [["text", "20 degrees at noon"]])
    do(terminal, "/result 20", "function calls that wait for one: 0")
    do(terminal, "weather?", "/result TEXT answers it")
    assert 'asks for weather({"city": "Paris"})' in terminal.text() and "asks for now({})" in terminal.text()
    do(terminal, "well?", 'no result yet for weather({"city": "Paris"}) and 1 more')
    do(terminal, "/result", "needs what the function gave back")
    do(terminal, "/result 20", "no result yet for now({})")
    do(terminal, "/tool noon", "20 degrees at noon")
    do(terminal, "thanks", "You said: thanks")
    do(terminal, "/undo 2", "undone: 2 turns")
    do(terminal, "anew", "You said: anew")


@pytest.mark.slow
def test_calls_and_results_are_shown_where_a_session_is_opened_again(start: Any) -> None:
    terminal = start([["call", "weather", '{"city": "Paris"}', "abcdefghi"]], [["text", "Warm."]], lines=60)
    do(terminal, "weather?", "/result TEXT answers it")
    do(terminal, "/context", 'asks for weather({"city": "Paris"})')
    do(terminal, "/result 20 degrees", "Warm.")
    do(terminal, "/search weather", "/load NUMBER opens one there")
    do(terminal, "/load 1", "Warm.")
    shown = terminal.text().rsplit("/load 1", 1)[1]
    assert [line for line in shown.splitlines()[2:] if line][:4] == [
        "> weather?", 'asks for weather({"city": "Paris"})', "result: 20 degrees", "Warm.",
    ]  # fmt: skip
