"""The question that a user without a model gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.cli.first_run import choose_model
from chat.guide import NAME as GUIDE
from tests.environments import terminal

if TYPE_CHECKING:
    from pathlib import Path


def test_an_answer_that_is_no_choice_is_explained_and_asked_again(tmp_path: Path) -> None:
    """A first question typed here got the same prompt again, without a word."""
    file = tmp_path / "model.gguf"
    file.touch()
    missing = tmp_path / "none.gguf"
    environment = terminal(f"Why is the sky blue?\n3\n{missing}\n3\n{file}\n", columns=200)
    assert choose_model(environment) == str(file)
    assert environment.out.splitlines()[4:] == [
        "Choice [1]: Why is the sky blue?",
        "type 1, 2 or 3; questions come after the choice",
        "Choice [1]: 3",
        f"File: {missing}",
        f"no file at {missing}",
        "Choice [1]: 3",
        f"File: {file}",
    ]


def test_enter_is_the_guide() -> None:
    assert choose_model(terminal("\n")) == GUIDE


def test_one_column_is_enough() -> None:
    """There the program ended with an unexpected ValueError."""
    environment = terminal("1\n", columns=1)
    assert choose_model(environment) == GUIDE
    assert "".join(environment.out.split()).startswith("Thereisnomodelhereyet.1talktotheguide,")


def test_words_stay_whole_on_a_narrow_terminal() -> None:
    environment = terminal("1\n", columns=40)
    choose_model(environment)
    assert environment.screen() == [
        "There is no model here yet.",
        "  1  talk to the guide, a small model",
        "     inside this program that explains",
        "     it",
        "  2  download mistral-7b-instruct-v0.3:",
        "     14.5 GB, kept as 4.4 GB",
        "  3  use a GGUF file",
        "Choice [1]: 1",
        "note: the guide answers: a small model",
        "that knows this program and the Mistral",
        "7B family, and nothing else;",
        "`mistral-chat models pull mistral` gets",
        "a full one",
    ]
