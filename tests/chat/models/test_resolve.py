"""A model's name leads to one file, or one sentence says where to go."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chat.errors import ChatError, ExitCode
from chat.guide import PATH as GUIDE_FILE
from chat.hub import hub_cache
from chat.models.inventory import NO_SIMILAR_MODEL, WAYS_TO_A_MODEL
from chat.models.resolve import resolve
from tests.chat.models.conftest import HUB_NAME
from tests.folders import ROOT
from tests.hub_server import HubServer

Put = Callable[[str], Path]


def refusal(name: str | None) -> tuple[int, str, str | None]:
    with pytest.raises(ChatError) as caught:
        resolve(name)
    return int(caught.value.exit_code), caught.value.message, caught.value.hint


def test_a_path_is_taken_as_it_is(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve(str(gguf)) == gguf
    monkeypatch.setenv("HOME", str(gguf.parent))
    assert resolve(f"~/{gguf.name}") == gguf


@pytest.mark.parametrize("name", ["mine-Q4_K_M", "mine-Q4_K_M.gguf", "MINE-q4_k_m", "mine", "m"])
def test_a_name_in_the_models_folder_is_found_whole_or_by_its_beginning(pulled: Put, name: str) -> None:
    path = pulled("mine-Q4_K_M")
    pulled("other")
    assert resolve(name) == path


def test_a_whole_name_goes_before_a_longer_one(pulled: Put) -> None:
    short, _ = pulled("mine"), pulled("mine-too")
    assert resolve("mine") == short


def test_a_beginning_of_several_names_is_refused(pulled: Put) -> None:
    pulled("mine-a")
    pulled("mine-b")
    assert refusal("mine") == (
        ExitCode.MODEL,
        "`mine` matches 2 models: mine-a, mine-b",
        "type more of the name",
    )


@pytest.mark.parametrize("name", ["mistral", "7b", "mistral-7b-instruct-v0.3", "mistralai/Mistral-7B-Instruct-v0.3"])
def test_an_official_name_means_what_was_pulled(pulled: Put, name: str) -> None:
    pulled("mistral-7b-instruct-v0.1-Q4_K_M")
    path = pulled("mistral-7b-instruct-v0.3-Q4_K_M")
    assert resolve(name) == path


def test_an_official_name_that_was_not_pulled_says_what_pulling_takes() -> None:
    assert refusal("nemo") == (
        ExitCode.MODEL,
        "mistral-nemo-instruct-2407 is not here yet",
        "`mistral-chat models pull nemo` fetches it: a download of 24.5 GB, kept as 7.5 GB",
    )


def test_no_name_means_the_only_model(pulled: Put) -> None:
    path = pulled("mine")
    assert resolve(None) == path


def test_a_split_model_counts_as_one(pulled: Put) -> None:
    path = pulled("mine-00001-of-00002")
    pulled("mine-00002-of-00002")
    assert resolve(None) == resolve("mine") == path


def test_no_name_and_no_model_means_the_guide() -> None:
    assert resolve(None) == resolve("guide") == GUIDE_FILE


def test_no_name_and_no_model_at_all_shows_the_ways_to_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("chat.models.inventory.GUIDE_FILE", tmp_path / "left-out.gguf")
    assert refusal(None) == (ExitCode.MODEL, "no model is named", WAYS_TO_A_MODEL)
    assert "`mistral-chat models pull mistral` fetches mistral-7b-instruct-v0.3" in WAYS_TO_A_MODEL


def test_no_name_and_several_models_asks_for_one(pulled: Put) -> None:
    pulled("a")
    pulled("b")
    assert refusal(None) == (
        ExitCode.MODEL,
        "no model is named, but there are 2 here",
        "choose one with `-m a` or `-m b`; `export MISTRAL_CHAT_MODEL=NAME` names it for good",
    )


def test_a_folder_is_to_be_converted(tmp_path: Path) -> None:
    assert refusal(str(tmp_path)) == (
        ExitCode.MODEL,
        f"{tmp_path} is a folder, not a GGUF file",
        f"`mistral-chat convert {tmp_path}` makes one of it",
    )


@pytest.mark.parametrize("name", ["mistrall", "mistrel", "mine-Q4_K_N"])
def test_a_slip_of_the_finger_is_shown_the_nearest_names(pulled: Put, name: str) -> None:
    pulled("mine-Q4_K_M")
    code, message, hint = refusal(name)
    assert (code, message) == (ExitCode.MODEL, f"there is no model `{name}`")
    assert hint and hint.startswith("did you mean `mi")


def test_the_beginning_of_a_name_that_is_not_enough_is_shown_what_it_begins(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`smol` for `smol-f16.gguf` in the current folder was answered with `small`, a model of the catalogue."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smol-f16.gguf").write_bytes(gguf.read_bytes())
    assert refusal("smol")[2] == "did you mean `smol-f16.gguf` or `small`?"
    assert refusal("guid")[2] == "did you mean `guide`?"


@pytest.mark.parametrize("name", ["/nowhere/x.gguf", "a\0b", "x" * 5000, "~nobody/x", ""])
def test_what_is_no_name_at_all_is_one_sentence(name: str) -> None:
    assert refusal(name) == (ExitCode.MODEL, f"there is no model `{name}`", NO_SIMILAR_MODEL)


def test_a_repository_without_its_prefix_is_recognised() -> None:
    assert refusal("someone/Model") == (
        ExitCode.MODEL,
        "there is no model `someone/Model`",
        "on the hub it would be `hf:someone/Model` (GGUF files) or `mistral-chat convert someone/Model` (a checkpoint)",
    )


def test_a_gguf_on_the_hub_is_fetched_once_with_a_word_about_its_size(
    server: HubServer, gguf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = resolve(f"hf:{HUB_NAME}")
    assert path.read_bytes() == gguf.read_bytes()
    assert path.is_relative_to(hub_cache())
    assert capsys.readouterr() == ("", f"downloading 1 file of {HUB_NAME}, 1 MB\n")
    server.seen.clear()
    for name in (f"hf:{HUB_NAME}", f"hf:{HUB_NAME}:Q4_K_M", f"hf:{HUB_NAME}:tiny.Q4_K_M.gguf", f"hf:{HUB_NAME}@main"):
        assert resolve(name) == path
    assert (server.seen, capsys.readouterr()) == ([], ("", "")), "no network is asked for what is here"


def test_another_quantization_is_fetched_beside(server: HubServer) -> None:
    first = resolve(f"hf:{HUB_NAME}")
    assert resolve(f"hf:{HUB_NAME}:q8_0").name == "tiny.Q8_0.gguf"
    assert resolve(f"hf:{HUB_NAME}") == first


def test_a_pipe_is_not_opened_to_find_out(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    assert resolve(str(path)) == path  # the strict reader refuses it by name


def test_a_path_is_found_without_what_looks_at_the_hub(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").touch()
    code = (
        "import sys; from chat.app import backends; from chat.models.resolve import resolve; resolve('a.gguf');"
        "print([name for name in sys.modules if name.startswith('chat.hub')])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
