"""The question that a person without a model is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.cli.first_run import choose_model
from chat.guide import NAME as GUIDE

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_an_answer_that_is_no_choice_is_told_so_and_asked_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A first question typed here was met by the same prompt again, without a word."""
    file = tmp_path / "model.gguf"
    file.touch()
    answers = iter(["Why is the sky blue?", "3", str(tmp_path / "none.gguf"), "3", str(file)])
    monkeypatch.setattr("builtins.input", lambda _: next(answers))
    assert choose_model() == str(file)
    assert capsys.readouterr().out.splitlines()[4:] == [
        "type 1, 2 or 3; questions come after the choice",
        f"no file at {tmp_path / 'none.gguf'}",
    ]


def test_enter_is_the_guide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda _: "")
    assert choose_model() == GUIDE


def test_one_column_is_enough(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """There the program ended with an unexpected ValueError."""
    monkeypatch.setenv("COLUMNS", "1")
    monkeypatch.setattr("builtins.input", lambda _: "1")
    assert choose_model() == GUIDE
    assert "".join(capsys.readouterr().out.split()).startswith("Thereisnomodelhereyet.1talktotheguide,")


def test_words_stay_whole_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setattr("builtins.input", lambda _: "1")
    choose_model()
    assert capsys.readouterr().out.splitlines() == [
        "There is no model here yet.",
        "  1  talk to the guide, a small model",
        "     inside this program that explains",
        "     it",
        "  2  download mistral-7b-instruct-v0.3:",
        "     14.5 GB, kept as 4.4 GB",
        "  3  use a GGUF file",
        "note: the guide answers: a small model",
        "that knows this program and the Mistral",
        "7B family, and nothing else;",
        "`mistral-chat models pull mistral` gets",
        "a full one",
    ]
