"""A model in the hub's cache that came without its picture encoder gets it with the first picture."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chat.hub import CachedRepository
from tests.chat.seeing import file_of, picture_of_noise
from tests.chat.tui.pseudo_terminal import CTRL_D, ENTER, Terminal
from tests.hub_server import HubServer, hub_server
from tests.program import run

pytestmark = [pytest.mark.engine]
NAME = "somebody/Mistral-Small-3.2-GGUF"
FETCHED = f"with mmproj-F32.gguf, 968 kB, the model reads pictures\ndownloading 1 file of {NAME}, 968 kB\n"


@pytest.fixture
def server(seeing_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with a model that sees; only the model is in the cache."""
    model = seeing_model()
    with hub_server() as running:
        encoder = model.with_name("mmproj-small3-F32.gguf").read_bytes()
        running.add(NAME, {"small-Q4_K_M.gguf": model.read_bytes(), "mmproj-F32.gguf": encoder})
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        cached, commit = CachedRepository(NAME), running.repositories[NAME].commit
        cached.blob("model").parent.mkdir(parents=True)
        cached.blob("model").write_bytes(model.read_bytes())
        cached.link("small-Q4_K_M.gguf", commit, "model")
        cached.remember(None, commit)
        yield running


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(file_of(picture_of_noise(112, 84, 1)))
    return path


def test_the_first_picture_fetches_it(server: HubServer, photo: Path) -> None:
    ask = ("-m", f"hf:{NAME}", "-n", "1", "-q", "hello there")
    assert run(*ask).returncode == 0
    assert server.seen == []  # a question without a picture asks for nothing
    done = run(*ask, "-f", photo)
    assert (done.returncode, done.stderr.decode()) == (0, FETCHED)
    seen = len(server.seen)
    done = run(*ask, "-f", photo)
    assert (done.returncode, done.stderr, len(server.seen)) == (0, b"", seen)


def test_a_picture_of_a_batch_line_fetches_it(server: HubServer, photo: Path, tmp_path: Path) -> None:
    """Each such line was refused, as for a model that reads only text."""
    lines = tmp_path / "lines.jsonl"
    lines.write_text('"hello there"\n{"prompt": "hello there", "files": ["photo.png"]}\n')
    done = run("-m", f"hf:{NAME}", "-n", "1", "-q", "--batch", lines, cwd=tmp_path)
    assert (done.returncode, done.stderr.decode()) == (0, FETCHED)


def test_offline_it_is_refused_with_the_way_out(server: HubServer, photo: Path) -> None:
    done = run("--offline", "-m", f"hf:{NAME}", "-f", photo, "hello there")
    assert (done.returncode, done.stdout, done.stderr.decode()) == (
        7,
        b"",
        f"error: `--offline` forbids asking the hub whether {NAME} has a picture encoder\n"
        "hint: leave it out to allow that\n",
    )
    assert server.seen == []


def test_one_that_came_with_a_later_commit_is_found(server: HubServer, photo: Path) -> None:
    server.repositories[NAME].commit = "5" * 40  # the model's commit is no longer there
    done = run("-m", f"hf:{NAME}", "-n", "1", "-q", "-f", photo, "hello there")
    assert (done.returncode, done.stderr.decode()) == (0, FETCHED)


def test_a_repository_without_one_is_asked_and_the_model_reads_only_text(server: HubServer, photo: Path) -> None:
    server.add(NAME, {"small-Q4_K_M.gguf": server.repositories[NAME].files["small-Q4_K_M.gguf"]})
    done = run("-m", f"hf:{NAME}", "-f", photo, "hello there")
    assert done.returncode == 2
    assert done.stderr.decode().startswith("error: photo.png: the model reads only text, not pictures\nhint: ")


def test_pulling_a_model_that_is_here_fetches_it(server: HubServer) -> None:
    done = run("models", "pull", f"hf:{NAME}")
    assert (done.returncode, done.stderr.decode()) == (0, f"hf:{NAME} is already here\n{FETCHED}")
    assert run("models", "pull", f"hf:{NAME}").stderr.decode() == f"hf:{NAME} is already here\n"


def test_pulling_it_without_a_network_says_what_was_not_done(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISTRAL_CHAT_OFFLINE", "1")
    done = run("models", "pull", f"hf:{NAME}")
    assert done.returncode == 0
    assert done.stderr.decode() == (
        f"hf:{NAME} is already here\nwarning: its picture encoder was not looked for: "
        f"$MISTRAL_CHAT_OFFLINE forbids asking the hub whether {NAME} has a picture encoder\n"
    )


@pytest.mark.slow
def test_in_a_session_the_model_is_loaded_again_with_it(server: HubServer, photo: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "chat", "-m", f"hf:{NAME}", "-n", "5", "--temp", "0", "--stats"]
    terminal = Terminal(command, columns=100, lines=40, environment={"MISTRAL_CHAT_THREADS": "1"}, folder=tmp_path)
    try:
        terminal.wait_for_prompt()
        terminal.send("/file photo.png", ENTER)
        terminal.wait("photo.png · 112x84, 15 tokens")
        assert "with mmproj-F32.gguf, 968 kB, the model reads pictures" in terminal.everything()
        terminal.wait_for_prompt()
        terminal.send("hello there", ENTER)
        terminal.wait("first token after")
        terminal.wait_for_prompt()
        terminal.send(CTRL_D)
        assert terminal.end() == 0
    finally:
        terminal.kill()
