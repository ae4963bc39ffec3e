"""The system prompt of a release is used where the user gives none, in Mistral's own formats."""

from __future__ import annotations

from datetime import date

import pytest

from chat.core.conversation import Message
from chat.core.request import Prompt
from chat.prompts.default_system import default_system_prompt, with_default_system

KEY = "mistral_chat.system_prompt"
USER, OWN = Message("user", "hi"), Message("system", "own")


def test_dates_are_those_of_the_day_and_nothing_else_is_filled_in() -> None:
    text = default_system_prompt({KEY: "Now {today}, not {yesterday}. {x} {{}}"}, "v13", date(2025, 3, 1))
    assert text == "Now 2025-03-01, not 2025-02-28. {x} {{}}"


@pytest.mark.parametrize("name", ["raw", "chatml", "template"])
def test_formats_of_other_families_get_none(name: str) -> None:
    assert default_system_prompt({KEY: "text"}, name, date(2025, 3, 1)) == ""
    assert default_system_prompt({KEY: 7}, "v13", date(2025, 3, 1)) == ""


@pytest.mark.parametrize(
    ("prompt", "messages"),
    [
        (Prompt((USER,), default_system=True), (OWN, USER)),
        (Prompt((USER,)), (USER,)),
        (Prompt((Message("system", "x"), USER), default_system=True), (Message("system", "x"), USER)),
        (Prompt(text="x", default_system=True), None),
        (Prompt(ids=(1,), default_system=True), None),
    ],
)
def test_only_messages_without_a_decision_get_it(prompt: Prompt, messages: tuple[Message, ...] | None) -> None:
    assert with_default_system(prompt, "own").messages == messages
    assert with_default_system(prompt, "") == prompt
