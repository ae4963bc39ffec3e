"""`models pull`: a GGUF as it is, an official checkpoint converted, with a notice before."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from chat.errors import ChatError, ExitCode
from chat.hub import CachedRepository, hub_cache
from chat.models.fetch import pull
from chat.system.paths import models_folder
from tests.chat.models.conftest import HUB_NAME
from tests.hub_server import HubServer

OFFICIAL = "mistralai/Mistral-7B-Instruct-v0.3"


def refuse(arguments: Sequence[str]) -> None:
    raise AssertionError(arguments)


def refusal(attempt: Callable[[], object]) -> tuple[int, str, str | None]:
    with pytest.raises(ChatError) as caught:
        attempt()
    return int(caught.value.exit_code), caught.value.message, caught.value.hint


@pytest.mark.parametrize("name", [f"hf:{HUB_NAME}", HUB_NAME, f"https://huggingface.co/{HUB_NAME}"])
def test_a_gguf_comes_as_it_is_into_the_hubs_cache(server: HubServer, gguf: Path, name: str) -> None:
    notices: list[str] = []
    path = pull(name, refuse, say=notices.append)
    assert path.read_bytes() == gguf.read_bytes()
    assert path.is_relative_to(hub_cache())
    assert notices == [f"downloading 1 file of {HUB_NAME}, 1 MB"]
    assert pull(name, refuse, say=notices.append) == path
    assert notices[1:] == [f"hf:{HUB_NAME} is already here"]


def test_a_gguf_comes_with_its_picture_encoder(server: HubServer, gguf: Path) -> None:
    files = {"small-Q4_K_M.gguf": gguf.read_bytes(), "mmproj-F16.gguf": b"GGUF" + bytes(5000), "mmproj-F32.gguf": b"x"}
    server.add("somebody/Mistral-Small-3.2-GGUF", files)
    notices: list[str] = []
    path = pull("hf:somebody/Mistral-Small-3.2-GGUF", refuse, say=notices.append)
    assert path.name == "small-Q4_K_M.gguf"
    assert sorted(each.name for each in path.parent.iterdir()) == ["mmproj-F16.gguf", "small-Q4_K_M.gguf"]
    assert notices == [
        "with mmproj-F16.gguf, 5 kB, the model reads pictures",
        "downloading 2 files of somebody/Mistral-Small-3.2-GGUF, 1 MB",
    ]


def test_an_official_model_is_announced_with_sizes_then_converted(server: HubServer, gguf: Path) -> None:
    notices: list[str] = []
    calls: list[Sequence[str]] = []

    def convert(arguments: Sequence[str]) -> None:
        calls.append(arguments)
        shutil.copy(gguf, arguments[2])

    path = pull("mistral", convert, say=notices.append)
    assert path == models_folder() / "mistral-7b-instruct-v0.3-Q4_K_M.gguf"
    commit = server.repositories[OFFICIAL].commit
    assert calls == [[str(CachedRepository(OFFICIAL).snapshot(commit)), "-o", str(path), "-t", "Q4_K_M"]]
    assert notices == [
        f"{OFFICIAL} is a checkpoint of 4 MB, 4 MB to download; it becomes about 4.4 GB of Q4_K_M; "
        "the checkpoint stays in the hub's cache (`--discard` removes it afterwards)",
        f"downloading 6 files of {OFFICIAL}, 4 MB",
    ]
    assert pull("mistral", refuse, say=notices.append) == path
    assert notices[2:] == ["mistral-7b-instruct-v0.3 is already here"]


def test_a_checkpoint_can_be_discarded_after_its_conversion(server: HubServer, gguf: Path) -> None:
    notices: list[str] = []

    def convert(arguments: Sequence[str]) -> None:
        assert Path(arguments[0], "config.json").is_file()
        shutil.copy(gguf, arguments[2])

    pull("mistral", convert, discard=True, say=notices.append)
    assert notices[-1] == "removed the checkpoint and freed 4 MB"
    assert not CachedRepository(OFFICIAL).folder.exists()


def test_the_disk_is_measured_before_the_download(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 4_000_000_000))
    assert refusal(lambda: pull("mistral", refuse, say=lambda _: None)) == (
        ExitCode.FILE,
        f"the Q4_K_M of mistral-7b-instruct-v0.3 needs 4.4 GB more on the disk, but {models_folder()} has 4.0 GB free",
        "make room, or name a folder on a larger disk: `export MISTRAL_CHAT_HOME=FOLDER`",
    )


def test_a_name_that_nothing_has_is_one_sentence() -> None:
    assert refusal(lambda: pull("mixtrall", refuse)) == (
        ExitCode.MODEL,
        "there is no official model `mixtrall`",
        "did you mean `mixtral` or `mistral` or `ministral`? `mistral-chat models list --official` lists them",
    )


def test_a_repository_of_checkpoints_says_how_to_convert_it(server: HubServer) -> None:
    assert refusal(lambda: pull(f"hf:{OFFICIAL}", refuse, say=lambda _: None)) == (
        ExitCode.MODEL,
        f"{OFFICIAL} holds no GGUF file",
        f"if it holds a checkpoint: `mistral-chat convert {OFFICIAL}`",
    )
