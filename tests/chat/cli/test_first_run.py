"""The question that a user without a model gets."""

from __future__ import annotations

from shutil import copyfile
from subprocess import CompletedProcess
from typing import TYPE_CHECKING

import pytest

from chat.cli.first_run import choose_model, completions
from chat.guide import NAME as GUIDE
from tests.environments import FakeEnvironment, terminal

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with nothing in it."""
    folder = tmp_path / "current"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def dialogue(environment: FakeEnvironment, skip: int) -> list[str]:
    """What was shown after the list of choices."""
    return environment.out.splitlines()[skip:]


def test_what_is_no_choice_is_explained_and_asked_again(tmp_path: Path, tiny_model: Path) -> None:
    """A first question typed here got the same prompt again, without a word."""
    web = tmp_path / "web.gguf"
    web.write_bytes(b"<html>")
    missing = tmp_path / "none.gguf"
    typed = ["Why is the sky blue?", "4", "0", "9" * 5000, "²", "3", "", "3", str(missing), str(web), "\0", "mistrall"]
    environment = terminal("\n".join([*typed, str(tiny_model)]) + "\n", columns=200)
    assert choose_model(environment) == str(tiny_model)
    sentence = "Please type 1, 2 or 3."
    assert dialogue(environment, 4) == [
        "Choice [1]: Why is the sky blue?",
        sentence,
        "Choice [1]: 4",
        sentence,
        "Choice [1]: 0",
        sentence,
        f"Choice [1]: {'9' * 5000}",
        sentence,
        "Choice [1]: ²",
        sentence,
        "Choice [1]: 3",
        "File: ",
        "No file was named.",
        "Choice [1]: 3",
        f"File: {missing}",
        f"There is no file {missing}.",
        f"Choice [1]: {web}",
        f"error: {web}: is not a GGUF file but a web page",
        "hint: the address may need a login, or does not exist",
        "Choice [1]: \0",
        sentence,
        "Choice [1]: mistrall",
        "error: there is no model `mistrall`",
        "hint: did you mean `mistral` or `ministral` or `magistral`?",
        f"Choice [1]: {tiny_model}",
    ]


def test_models_that_are_here_are_offered_first(
    empty_folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_folder / "mine.gguf").symlink_to(tiny_model)
    (empty_folder / "broken.gguf").write_bytes(b"<html>")
    environment = terminal("9\n\n")
    assert choose_model(environment) == "mine.gguf"
    assert environment.screen() == [
        "These models are on this machine:",
        "  1  mine.gguf (current folder): 8 MB, F32, window 64",
        "  2  ask the guide, a small model inside this program that explains it",
        "  3  download mistral-7b-instruct-v0.3: 14.5 GB, kept as 4.4 GB",
        "  4  use another GGUF file",
        "Choice [1]: 9",
        "Please type a number from 1 to 4.",
        "Choice [1]:",
    ]
    assert choose_model(terminal("mine\n")) == "mine"
    assert choose_model(terminal("2\n")) == GUIDE
    assert choose_model(terminal("guide\n")) == GUIDE


def test_of_many_models_some_have_numbers_and_all_have_names(
    empty_folder: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat.cli.first_run.HEADER_SECONDS", 0)
    for number in range(12):
        copyfile(tiny_model, empty_folder / f"m{number:02}.gguf")
    environment = terminal("m11.gguf\n")
    assert choose_model(environment) == "m11.gguf"
    assert environment.screen()[10:] == [
        " 10  m09.gguf (current folder): 8 MB",
        " 11  ask the guide, a small model inside this program that explains it",
        " 12  download mistral-7b-instruct-v0.3: 14.5 GB, kept as 4.4 GB",
        " 13  use another GGUF file",
        "2 more can be named: `mistral-chat models list` shows them",
        "Choice [1]: m11.gguf",
    ]
    narrow = terminal("m00.gguf\n", columns=40, lines=40)
    choose_model(narrow)
    assert "  6  ask the guide, a small model" in narrow.screen()


@pytest.mark.parametrize("typed", ["2", "nemo\ny", "hf:someone/Tiny-GGUF"])
def test_after_a_download_that_failed_the_choice_comes_again(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program ended."""
    names = []

    def fail(command: list[str], *, check: bool, env: dict[str, str]) -> CompletedProcess[bytes]:
        names.append(command[-1])
        return CompletedProcess(command, 1)

    monkeypatch.setattr("subprocess.run", fail)
    environment = terminal(f"{typed}\n1\n")
    assert choose_model(environment) == GUIDE
    assert "Nothing was downloaded. Please choose again." in environment.screen()
    assert names in (["mistral-7b-instruct-v0.3"], ["mistral-nemo-instruct-2407"], ["hf:someone/Tiny-GGUF"])


def test_a_name_of_the_catalogue_is_downloaded_after_a_yes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.run", lambda command, check, env: CompletedProcess(command, 0))
    environment = terminal("nemo\n\nnemo\ny\n")
    assert choose_model(environment) == "mistral-nemo-instruct-2407"
    assert environment.screen()[4:] == [
        "Choice [1]: nemo",
        "Download mistral-nemo-instruct-2407: 24.5 GB, kept as 7.5 GB? [y/N]",
        "Choice [1]: nemo",
        "Download mistral-nemo-instruct-2407: 24.5 GB, kept as 7.5 GB? [y/N] y",
    ]


def test_ctrl_d_ends_the_choice() -> None:
    with pytest.raises(EOFError):
        choose_model(terminal(""))


def test_tab_completes_folders_gguf_files_and_names(own_home: Path, empty_folder: Path) -> None:
    for name in ("a.gguf", "a.txt", ".hidden.gguf"):
        (empty_folder / name).touch()
    (empty_folder / "another").mkdir()
    (own_home / "home model.gguf").touch()
    assert completions("", ["ollama:x"]) == ["a.gguf", "another/", "ollama:x"]
    assert completions("a", ["a.gguf", "alpha"]) == ["a.gguf", "another/", "alpha"]
    assert completions(".h", []) == [".hidden.gguf"]
    assert completions("~/home", []) == ["~/home model.gguf"]
    assert "mistral-nemo-instruct-2407" in completions("mistral-n", [])
    assert completions("/nowhere/at/all/", []) == []
    assert completions("a\0/", []) == []


def test_enter_is_the_guide() -> None:
    assert choose_model(terminal("\n")) == GUIDE


def test_one_column_is_enough() -> None:
    """There the program ended with an unexpected ValueError."""
    environment = terminal("1\n", columns=1)
    assert choose_model(environment) == GUIDE
    assert "".join(environment.out.split()).startswith("Thereisnomodelhereyet.1asktheguide,")


def test_words_stay_whole_on_a_narrow_terminal() -> None:
    environment = terminal("1\n", columns=40)
    choose_model(environment)
    assert environment.screen() == [
        "There is no model here yet.",
        "  1  ask the guide, a small model",
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
