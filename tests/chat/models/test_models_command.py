"""`mistral-chat models`: whole outputs on a terminal's and a pipe's side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chat.cli.main import run
from chat.hub import CachedRepository, hub_cache
from chat.hub.names import CATALOGUE
from chat.system.paths import models_folder
from tests.chat.models.conftest import HUB_NAME, Said
from tests.environments import terminal
from tests.folders import ROOT
from tests.hub_server import GOOD_TOKEN, Fault, HubServer
from tests.program import Popen

Command = Callable[..., Said]
Put = Callable[[str], Path]


def on_terminal(*arguments: str, keys: bytes = b"") -> tuple[int, str]:
    """Exit code and everything shown on a terminal."""
    main, other = os.openpty()
    program = Popen(
        [sys.executable, "-m", "chat", *arguments],
        stdin=other,
        stdout=other,
        stderr=other,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    os.close(other)
    os.write(main, keys)
    shown = b""
    try:
        while piece := os.read(main, 65536):
            shown += piece
    except OSError:  # Linux says EIO when the other side is gone
        pass
    os.close(main)
    return program.wait(60), shown.decode().replace("\r\n", "\n")


def test_a_pipe_gets_one_line_of_tabs_for_each_model(command: Command, pulled: Put, server: HubServer) -> None:
    size = pulled("mine-Q4_K_M").stat().st_size
    (models_folder() / "broken.gguf").write_bytes(b"<html>")
    command("models", "pull", f"hf:{HUB_NAME}")
    assert command("models", "list") == Said(
        0,
        "broken\t6\tunusable\t\t\tis not a GGUF file but a web page\t\n"
        f"mine-Q4_K_M\t{size}\tQ4_K_M\t-\tv3\tmodels\t-\n"
        f"hf:{HUB_NAME}:Q4_K_M\t{size}\tQ4_K_M\t-\tv3\thub cache\t-\n",
        "",
    )


def test_a_terminal_gets_columns(pulled: Put) -> None:
    pulled("mine-Q4_K_M")
    assert on_terminal("models", "list") == (
        0,
        "NAME         SIZE  TYPE    WINDOW  FORMAT  WHERE   PICTURES\n"
        "mine-Q4_K_M  1 MB  Q4_K_M  -       v3      models  -\n",
    )


def test_a_terminal_without_models_is_told_how_to_begin() -> None:
    assert on_terminal("models", "list") == (
        0,
        "there are no models here yet; `mistral-chat models pull mistral` downloads a\ngood one\n",
    )


def test_json_lists_every_fact(command: Command, pulled: Put) -> None:
    path = pulled("mine-Q4_K_M")
    said = command("models", "list", "--json")
    assert (said.code, said.err) == (0, "")
    assert json.loads(said.out) == [
        {
            "name": "mine-Q4_K_M",
            "path": str(path),
            "where": "models",
            "size": path.stat().st_size,
            "type": "Q4_K_M",
            "window": None,
            "prompt_format": "v3",
            "architecture": "llama",
            "context": 32768,
            "problem": "",
            "mmproj": None,
        }
    ]


def test_a_terminal_shows_sizes_rounded(pulled: Put) -> None:
    """They were numbers of ten digits."""
    pulled("mine-Q4_K_M")
    screen = terminal(columns=100)
    assert run(["models", "show", "mine-Q4_K_M"], screen) == 0
    assert "size           1 MB" in screen.screen()
    screen = terminal(columns=100)
    assert run(["models", "show", "mistral"], screen) == 0
    assert {"download    14.5 GB", "q4          4.4 GB"} < set(screen.screen())


def test_a_model_of_another_program_is_listed_shown_and_never_removed(
    command: Command, gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "here.gguf"
    path.write_bytes(gguf.read_bytes())
    size = path.stat().st_size
    assert command("models", "list").out == f"here.gguf\t{size}\tQ4_K_M\t-\tv3\tcurrent folder\t-\n"
    assert command("models", "show", "here.gguf").out.splitlines()[0] == "name           here.gguf"
    assert command("models", "rm", "here", "-y") == Said(
        3,
        "",
        f"error: here is not a model of ours (current folder)\nhint: remove it there: {path}\n",
    )
    assert path.exists()


def test_a_name_that_steers_a_terminal_is_only_seen(pulled: Put) -> None:
    pulled("a\x1b]0;owned\x07")
    code, shown = on_terminal("models", "list")
    assert code == 0
    assert "a␛]0;owned␇" in shown
    assert "\x1b" not in shown


def test_the_official_models_are_listed(command: Command) -> None:
    said = command("models", "list", "--official")
    rows = [line.split("\t") for line in said.out.splitlines()]
    assert rows[0][:-1] == [
        "mistral-7b-instruct-v0.3",
        "14496047104",
        "4372054016",
        "5945795840",
        "Apache 2.0",
        "the default: chat, tools, every laptop",
    ]
    assert [row[0] for row in rows] == [each.name for each in CATALOGUE]
    assert {row[-1] for row in rows} <= {"yes", "if freed", "no"}
    plain = json.loads(command("models", "list", "--official", "--json").out)
    assert [each["repository"] for each in plain] == [each.repository for each in CATALOGUE]


@pytest.mark.parametrize(("free", "fits"), [(1 << 62, "yes"), (0, "if freed")])
def test_what_fits_the_memory_is_in_the_list(
    command: Command, monkeypatch: pytest.MonkeyPatch, free: int, fits: str
) -> None:
    monkeypatch.setattr("chat.llama.hardware.host_free_bytes", lambda **_: free)
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 30_000_000_000, "SC_PAGE_SIZE": 1}.__getitem__)
    listed = json.loads(command("models", "list", "--official", "--json").out)
    assert {each["fits"] for each in listed if each["memory_bytes"] <= 30_000_000_000} == {fits}
    assert {each["fits"] for each in listed if each["memory_bytes"] > 30_000_000_000} == {"yes" if free else "no"}


def test_pull_prints_the_path_and_nothing_else_on_stdout(command: Command, server: HubServer) -> None:
    said = command("models", "pull", f"hf:{HUB_NAME}")
    assert (said.code, said.err) == (0, f"downloading 1 file of {HUB_NAME}, 1 MB\n")
    assert Path(said.out.removesuffix("\n")).is_relative_to(hub_cache())
    assert command("models", "pull", f"hf:{HUB_NAME}:Q8_0", "-q").err == ""


@pytest.mark.slow
def test_pull_converts_an_official_checkpoint_and_the_chat_finds_it(command: Command, server: HubServer) -> None:
    said = command("models", "pull", "mistral", "--discard")
    path = models_folder() / "mistral-7b-instruct-v0.3-Q4_K_M.gguf"
    assert (said.code, said.out) == (0, f"{path}\n")
    assert "removed the checkpoint and freed 4 MB\n" in said.err
    [model] = json.loads(command("models", "list", "--json").out)
    assert (model["name"], model["type"], model["prompt_format"]) == (path.stem, "Q4_K_M", "v3")
    shown = dict(line.split(maxsplit=1) for line in command("models", "show", "mistral").out.splitlines())
    assert shown["source"] == "mistralai/Mistral-7B-Instruct-v0.3"


def test_show_tells_what_the_strict_reader_sees(command: Command, pulled: Put) -> None:
    path = pulled("mine-Q4_K_M")
    said = command("models", "show", "mine-Q4_K_M")
    facts = dict(line.split(maxsplit=1) for line in said.out.splitlines())
    assert {name: facts[name] for name in ("name", "path", "type", "architecture", "layers", "vocabulary")} == {
        "name": "mine-Q4_K_M",
        "path": str(path),
        "type": "Q4_K_M",
        "architecture": "llama",
        "layers": "3",
        "vocabulary": "520",
    }
    plain = json.loads(command("models", "show", "mine-Q4_K_M", "--json").out)
    assert plain["metadata"]["general.architecture"] == "llama"
    assert plain["metadata"]["tokenizer.ggml.tokens"] == "520 items"
    assert "tokenizer.ggml.model" in command("models", "show", "mine-Q4_K_M", "--metadata").out


def test_show_describes_an_official_model_that_is_not_here(command: Command) -> None:
    said = command("models", "show", "nemo")
    assert said.err == "it is not here; `mistral-chat models pull nemo` fetches it\n"
    assert said.out.splitlines()[0].split() == ["name", "mistral-nemo-instruct-2407"]


def test_show_looks_and_does_not_download(command: Command, server: HubServer) -> None:
    assert command("models", "show", f"hf:{HUB_NAME}") == Said(
        3,
        "",
        f"error: hf:{HUB_NAME} is not here\nhint: `mistral-chat models pull hf:{HUB_NAME}` fetches it\n",
    )
    assert server.seen == []
    command("models", "pull", HUB_NAME)
    assert command("models", "show", f"hf:{HUB_NAME}").out.startswith(f"name           hf:{HUB_NAME}:Q4_K_M\n")


def test_pull_warns_of_what_cannot_be_run(command: Command, server: HubServer) -> None:
    server.add("a/b", {"x.gguf": b"no model" * 200})
    said = command("models", "pull", "hf:a/b")
    assert said.code == 0
    assert said.err == (
        "downloading 1 file of a/b, 2 kB\n"
        "warning: it was downloaded, but cannot be run: is not a GGUF file but something that starts with b'no m'\n"
    )


def test_show_refuses_what_the_engine_would_not_read(command: Command) -> None:
    models_folder().mkdir(parents=True)
    path = models_folder() / "broken.gguf"
    path.write_bytes(b"GGUF")
    said = command("models", "show", "broken")
    assert (said.code, said.out) == (6, "")
    assert said.err.startswith(f"error: {path}: ")


def test_rm_frees_the_bytes_in_the_hubs_cache_too(command: Command, server: HubServer) -> None:
    command("models", "pull", f"hf:{HUB_NAME}")
    assert command("models", "rm", f"hf:{HUB_NAME}:Q4_K_M", "--yes") == Said(
        0, "", f"removed hf:{HUB_NAME}:Q4_K_M and freed 1 MB\n"
    )
    assert not list(hub_cache().glob("models--*"))


def test_rm_removes_all_parts_of_a_split_model(command: Command, pulled: Put) -> None:
    """Once only the first part went, and the others stayed as files that no list showed."""
    other = pulled("big-00001-of-00002")  # an unfinished split of the same name
    for number in (1, 2, 3):
        (models_folder() / f"big-0000{number}-of-00003.gguf").write_bytes(b"x" * number)
    repository = CachedRepository("a/b")
    for number, commit in ((1, "1" * 40), (2, "2" * 40)):  # the second is only in an older commit
        blob = repository.blob(str(number))
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(b"x" * number)
        repository.link(f"Q8_0/b-0000{number}-of-00002.gguf", commit, str(number))
    assert command("models", "rm", "big-00001-of-00003", "-y") == Said(
        0, "", "removed big-00001-of-00003 and freed 6 bytes\n"
    )
    assert list(models_folder().iterdir()) == [other]
    name = "hf:a/b:Q8_0/b-00001-of-00002.gguf"
    assert command("models", "rm", name, "-y") == Said(0, "", f"removed {name} and freed 3 bytes\n")
    assert not repository.folder.exists()


def test_rm_needs_the_whole_name(command: Command, pulled: Put) -> None:
    path = pulled("mine-Q4_K_M")
    assert command("models", "rm", "mine", "--yes") == Said(
        3, "", "error: there is no model `mine` here\nhint: did you mean `mine-Q4_K_M`?\n"
    )
    assert path.exists()


def test_rm_without_a_terminal_wants_yes(command: Command, pulled: Put) -> None:
    path = pulled("mine")
    assert command("models", "rm", "mine") == Said(
        2, "", "error: there is no terminal to ask on\nhint: `--yes` removes without asking\n"
    )
    assert path.exists()


@pytest.mark.parametrize(("key", "code", "stays"), [(b"y\n", 0, False), (b"n\n", 1, True), (b"\n", 1, True)])
def test_rm_asks_on_a_terminal(pulled: Put, key: bytes, code: int, stays: bool) -> None:
    path = pulled("mine")
    result, shown = on_terminal("models", "rm", "mine", keys=key)
    assert "remove mine (1 MB)? [y/N] " in shown
    assert (result, path.exists()) == (code, stays)


@pytest.mark.parametrize("fault", [None, Fault(status=403), Fault(status=500), Fault(body=b"<html>")])
def test_the_token_is_nowhere_to_be_seen_even_with_tracebacks(
    server: HubServer, monkeypatch: pytest.MonkeyPatch, command: Command, fault: Fault | None
) -> None:
    monkeypatch.setenv("HF_TOKEN", GOOD_TOKEN)
    monkeypatch.setattr("chat.hub.client.pause", lambda _: None)
    if fault:
        server.faults["list"] = [fault] * 9
    else:
        server.repositories[HUB_NAME].gated = True
        small = {"tiny.gguf": b"small"}
        server.repositories[HUB_NAME].files = small
    said = command("-v", "-m", f"hf:{HUB_NAME}", "hello")
    assert said.code in (3, 7)
    assert "error: " in said.err
    assert GOOD_TOKEN not in said.out + said.err
    assert any(each.headers.get("authorization") == f"Bearer {GOOD_TOKEN}" for each in server.seen)
    assert said.err.rstrip().splitlines()[-2].startswith("error: ")


def test_the_models_command_loads_the_hubs_library_only_to_ask_it() -> None:
    code = (
        "import sys; from chat.cli.main import run; code = run(['models', 'list', '--json']); "
        "print(code, sorted({'huggingface_hub', 'httpx2', 'numpy', 'llama_cpp', 'convert'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n0 []\n"
