"""Folders, history, versions and the terminal, each in its good and its bad state."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat.cli.doctor import finding_text
from chat.doctor import machine_checks
from chat.doctor.machine_checks import (
    Finding,
    Terminal,
    check_command,
    check_embedding_model,
    check_engine_library,
    check_extras,
    check_folder,
    check_history,
    check_hub,
    check_settings,
    check_terminal,
    pinned,
)
from chat.errors import ModelError
from chat.history.store import open_store
from chat.system.installer import install_extra


def test_a_folder_that_is_not_there_yet_is_well_and_is_not_made(tmp_path: Path) -> None:
    finding = check_folder("settings folder", tmp_path / "a" / "b")
    assert (finding.state, finding.words.partition(", ")[0]) == ("ok", f"{tmp_path}/a/b (not made yet)")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_open_to_others_is_a_note_and_a_file_in_its_place_a_problem(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    finding = check_folder("settings folder", folder)
    assert (finding.state, finding.hint) == ("note", f"`chmod 700 {folder}`")
    folder.chmod(0o700)
    assert check_folder("settings folder", folder).state == "ok"
    (tmp_path / "file").write_text("x")
    finding = check_folder("cache folder", tmp_path / "file" / "cache")
    assert (finding.state, finding.words) == (
        "problem",
        f"{tmp_path}/file/cache: {tmp_path}/file is not a folder",
    )


def test_settings_are_counted_where_they_are_not_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MISTRAL_CHAT_THREADS")
    file = tmp_path / "config.toml"
    assert check_settings(file) == Finding("settings", "ok", "no settings file, every setting has its default")
    file.write_text("temperature = 0.2\n")
    assert check_settings(file) == Finding("settings", "ok", f"{file}, 1 setting is not the default")
    monkeypatch.setenv("MISTRAL_CHAT_SEED", "1")
    assert check_settings(file).words == f"{file}, 2 settings are not the default"


def test_a_history_is_looked_at_without_a_byte_changed(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    assert check_history(path).words == f"none yet; it will be {path}"
    store = open_store(path)
    store.create(name="one", model="m")
    store.close()
    before = path.read_bytes()
    assert check_history(path) == Finding("history", "ok", f"{path}, 1 session")
    assert (path.read_bytes(), sorted(each.name for each in tmp_path.iterdir())) == (before, ["history.db"])
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    assert check_history(path).state == "problem"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield address
    server.shutdown()
    server.server_close()


def test_the_hub_is_asked_only_where_that_is_wanted(hub: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_hub(online=True).words.endswith(f"with 0 GGUF files, address {hub}, which answers")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    assert check_hub(online=False).state == "ok"
    finding = check_hub(online=True)
    assert finding.state == "problem"
    assert finding.words.startswith("http://127.0.0.1:9 does not answer: ")


def test_the_command_is_ours_missing_or_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "mistral-chat"
    script.write_text("#!/usr/bin/python3\nfrom mistral_chat_launcher import main\nmain()\n")
    assert check_command(str(script)) == Finding("command", "ok", str(script))
    monkeypatch.setattr(machine_checks, "installed", lambda name: "1.6.0" if name == "mistral-inference" else None)
    assert check_command(str(script)).state == "note"
    script.write_text("from mistral_inference.main import mistral_chat\nmistral_chat()\n")
    finding = check_command(str(script))
    assert (finding.state, finding.hint) == ("problem", "`mchat` is this program under its other name")
    assert finding.words == f"`mistral-chat` is {script}, which belongs to the package mistral-inference"
    assert check_command(None).words == "`mistral-chat` is not on PATH"
    assert check_command(str(tmp_path / "gone")).words.endswith("cannot be read: No such file or directory")


def test_the_library_is_missing_other_or_right() -> None:
    assert check_engine_library(None, "0.3.36").state == "problem"
    other = check_engine_library("0.4.0", "0.3.36")
    assert (other.state, other.words) == (
        "note",
        "llama-cpp-python is 0.4.0, but this program was tested with 0.3.36",
    )
    assert check_engine_library("0.3.36", "0.3.36").state == "ok"
    assert pinned() == "0.3.36"


@pytest.mark.parametrize(
    ("is_terminal", "columns", "environment", "state", "words"),
    [
        (False, 80, {}, "ok", "none: output goes to a file or a pipe, so answers are plain text"),
        (True, 80, {"TERM": "dumb"}, "note", "TERM is dumb, so the session is plain lines without colour"),
        (True, 80, {}, "note", "TERM is not set, so the session is plain lines without colour"),
        (True, 30, {"TERM": "xterm"}, "note", "xterm, 30 columns, 16 colours; tables need 40 columns to be legible"),
        (True, 80, {"TERM": "xterm-256color"}, "ok", "xterm-256color, 80 columns, 256 colours"),
        (True, 80, {"TERM": "x", "NO_COLOR": "1"}, "ok", "x, 80 columns, no colours, as NO_COLOR asks"),
        (True, 80, {"TERM": "x", "COLORTERM": "truecolor"}, "ok", "x, 80 columns, 16 million colours"),
    ],
)
def test_the_terminal_is_told_as_it_is(
    is_terminal: bool, columns: int, environment: dict[str, str], state: str, words: str
) -> None:
    drawing, encoding = check_terminal(Terminal(is_terminal, columns, "UTF-8", environment))
    assert (drawing.state, drawing.words) == (state, words)
    assert (encoding.state, encoding.words) == ("ok", "utf-8")


@pytest.mark.parametrize("name", ["ascii", "latin-1", "nonsense"])
def test_an_encoding_that_loses_letters_is_a_problem(name: str) -> None:
    assert check_terminal(Terminal(True, 80, name, {"TERM": "x"}))[1].state == "problem"


def test_a_line_wraps_below_itself_and_a_hint_follows() -> None:
    finding = Finding("hub", "problem", "one two three four five \x1b[31m six seven eight nine", "`do this`")
    assert finding_text(finding, 60).split("\n") == [
        "problem  hub              one two three four five ␛[31m six",
        "                          seven eight nine",
        "                          hint: `do this`",
    ]


def test_extras_that_are_missing_are_told_with_the_way_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "EXTRAS", {"here": ("it is", ("json",)), "gone": ("a thing", ("no_such_one",))})
    words = "installed: here; missing: gone (a thing)"
    assert check_extras() == Finding("extras", "ok", words, f"`{install_extra('gone')}`")
    monkeypatch.setattr(machine_checks, "EXTRAS", {"here": ("it is", ("json",))})
    assert check_extras() == Finding("extras", "ok", "installed: here")


def test_the_embedding_model_is_told_or_how_to_get_one(tmp_path: Path) -> None:
    assert check_embedding_model(lambda: tmp_path).words == f"`--find` compares sentences with {tmp_path}"
    assert check_embedding_model(lambda: None).words == "no embedding model: `--find` compares words"

    def wrong() -> Path:
        raise ModelError("a.gguf: is a model that answers, not an embedding model")

    assert check_embedding_model(wrong).state == "problem"
