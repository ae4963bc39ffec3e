"""`convert OWNER/NAME` fetches what it reads from a hub, and a name that is nothing keeps one clear sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat.cli import run
from chat.ground.gguf_reader import read_gguf
from convert.pipeline import Options, convert
from convert.source_name import find_source
from tests.convert.samples import V01
from tests.hub_server import Fault, HubServer, hub_server

NAME = "mistralai/Mistral-7B-Instruct-v0.1"
FILES = ("config.json", "model.safetensors", "tokenizer.model")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A hub with the tiny v0.1 under its official name; the current folder is empty."""
    from huggingface_hub import constants

    with hub_server() as running:
        others = {"consolidated.00.pth": b"never" * 999, "README.md": b"never"}
        running.add(NAME, {name: (V01 / name).read_bytes() for name in FILES} | others)
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(Path(os.environ["HF_HOME"]) / "token"))
        monkeypatch.chdir(tmp_path)
        yield running


@pytest.mark.parametrize("source", [NAME, f"hf:{NAME}", f"{NAME}@main"])
def test_a_repository_becomes_the_file_that_its_folder_becomes(
    source: str, server: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", source]) == 0
    shown = capsys.readouterr()
    assert shown.out == "Mistral-7B-Instruct-v0.1-Q4_K_M.gguf\n"
    assert shown.err.startswith(f"downloading 3 files of {NAME}, ")
    assert read_gguf(tmp_path / shown.out.strip()).metadata["mistral_chat.source"] == NAME
    convert(Options(V01, tmp_path / "direct.gguf"))
    made, direct = read_gguf(tmp_path / shown.out.strip()), read_gguf(tmp_path / "direct.gguf")
    raw, expected = made.path.read_bytes()[made.data_offset :], direct.path.read_bytes()[direct.data_offset :]
    assert raw == expected
    assert not [path for path in server.paths() if "consolidated" in path or "README" in path]


def test_what_was_fetched_is_not_fetched_again_and_quiet_is_quiet(
    server: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["convert", NAME, "-q", "-o", "a.gguf"]) == 0
    fetched = len(server.ranges())
    assert fetched > 0
    assert run(["convert", NAME, "-q", "-o", "b.gguf"]) == 0
    assert len(server.ranges()) == fetched
    assert capsys.readouterr() == ("a.gguf\nb.gguf\n", "")


def test_a_folder_of_the_same_name_comes_first(server: HubServer, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir(parents=True)
    assert find_source(NAME) == Path(NAME)
    assert server.seen == []
    assert find_source(f"hf:{NAME}").parent.name == "snapshots"


def test_a_gguf_of_a_repository_is_fetched_where_its_type_is_named(server: HubServer, tmp_path: Path) -> None:
    convert(Options(V01, tmp_path / "x.gguf", "Q8_0", verify=False))
    server.add("someone/Tiny-GGUF", {"tiny.Q8_0.gguf": (tmp_path / "x.gguf").read_bytes(), "tiny.Q4_0.gguf": b"x"})
    found = find_source("hf:someone/Tiny-GGUF:Q8_0")
    assert (found.name, found.read_bytes()) == ("tiny.Q8_0.gguf", (tmp_path / "x.gguf").read_bytes())


@pytest.mark.parametrize(
    ("source", "fault", "code", "words"),
    [
        ("mistralai/None", None, 3, "error: the hub has no repository"),
        (NAME, Fault(status=401), 3, "error: "),
        (NAME, Fault(status=403), 3, "error: "),
        ("hf:a b", None, 2, "error: `hf:a b` names no repository\nhint: "),
        ("no-such-folder", None, 3, "error: no-such-folder: no such folder\nhint: name the folder of a checkpoint"),
        ("./a/b", None, 3, "error: a/b: no such folder\nhint: "),
        ("a/b/c", None, 3, "error: a/b/c: no such folder\nhint: "),
    ],
)
def test_what_cannot_be_had_is_one_sentence(
    source: str, fault: Fault | None, code: int, words: str, server: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    if fault:
        server.faults["list"] = [fault]
    assert run(["convert", source]) == code
    shown = capsys.readouterr()
    assert (shown.out, shown.err[: len(words)]) == ("", words)
    assert len(shown.err.splitlines()) <= 2
    assert list(Path().iterdir()) == []


def test_wrong_bytes_are_never_converted(server: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    good = (V01 / "model.safetensors").read_bytes()
    server.faults["model.safetensors"] = [Fault(body=b"x" * len(good)) for _ in range(9)]
    assert run(["convert", NAME]) in (6, 7)
    assert list(Path().iterdir()) == []
    assert len([line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]) == 1
