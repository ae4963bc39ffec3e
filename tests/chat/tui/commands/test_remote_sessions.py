"""A session that talks to servers: what it refuses, lists and stores, and how it switches to a local model and back."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chat.app.backends import session_backend
from chat.app.remotes import RemoteOptions, remote_options
from chat.app.sessions import find_session
from chat.config.resolve import resolve_settings
from chat.errors import EngineError
from chat.history.export import export_text
from chat.history.store import open_store
from chat.system.environment import Environment
from chat.system.paths import models_folder
from chat.tui.input.completion import candidates
from chat.tui.model_lists import RETRY_SECONDS, ModelLists
from chat.tui.repl import Opening, run_session
from chat.tui.tty_modes import TtyModes
from tests.chat.remote.stub_server import Reply, Script, serving, words
from tests.chat.tui.scripted import Scripted

KEY = "sk-secret-of-lab"


@pytest.fixture
def lab() -> Any:
    replies = [Reply(chunks=words("from the ", "server", prompt_tokens=5, completion_tokens=2))]
    with serving(Script(replies, models=["small", "large"])) as script:
        yield script


def session(folder: Path, lab: Script, *lines: str, typed: str = "lab", **flags: Any) -> tuple[str, Any]:
    """The output of a session in this process without a terminal, and the store."""
    file = folder / "config.toml"
    file.write_text(f'[remote.lab]\nurl = "{lab.url}"\nmodel = "small"\nkey_variable = "LAB_KEY"\n')
    (folder / "local.gguf").touch()
    environment = Environment(
        stdin=io.StringIO("".join(f"{line}\n" for line in lines)), stdout=io.StringIO(), variables={}
    )
    chosen = {"remote": typed} if typed else {"model": str(folder / "local.gguf")}
    resolved = resolve_settings({**chosen, "quiet": True, **flags}, {}, file)
    store = open_store(folder / "history.db")
    record, resolved = find_session(store, resolved)

    def backend(options: Any) -> Any:
        if isinstance(options, RemoteOptions):
            return session_backend(options, resolved.settings)
        return Scripted(name=Path(options.model_path).stem)

    opening = Opening(store, record, store.load(record.id)[1], environment=environment, config_file=file)
    with TtyModes(environment).raw_between_prompts() as modes:
        assert run_session(backend, resolved, opening, modes) == 0
    return environment.stdout.getvalue(), store


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_KEY", KEY)


def test_options_of_the_engine_are_refused_as_on_the_command_line(tmp_path: Path, lab: Script) -> None:
    """Once `/set gpu_layers` was taken, connected again and changed nothing; a limit failed at the next message."""
    lines = ("/set gpu_layers 3", "/set kv-type f32", "/show all", "/set think-limit 5", "/think limit 5")
    output, _ = session(tmp_path, lab, *lines, "/think limit off", session="s")
    assert output.count("error: `remote` and `think-limit` cannot be used together\n") == 2
    assert "error: `remote` and `gpu-layers` cannot be used together\n" in output
    assert "error: `remote` and `kv-type` cannot be used together\n" in output
    assert "hint: `/model` switches to a local model, which takes it" in output
    listed = {line.split()[0 if line[0] != "*" else 1] for line in output.splitlines() if line.startswith(("* ", "  "))}
    assert {"remote", "remote-model", "temperature"} <= listed
    assert {"gpu-layers", "context", "model", "lora"} & listed == set()


def test_models_switch_from_server_to_local_and_back_in_one_conversation(tmp_path: Path, lab: Script) -> None:
    local = str(tmp_path / "local.gguf")
    output, store = session(
        tmp_path, lab, "one", f"/model {local}", "/show model", "two", "/model lab large", "three",
        "/set temperature 0.3", "four", session="s",
    )  # fmt: skip
    assert "error" not in output
    assert "You said: two" in output
    first, third, fourth = lab.requests
    assert [request["model"] for request in lab.requests] == ["small", "large", "large"]
    assert [message["content"] for message in first["messages"]] == ["one"]
    assert [message["content"] for message in third["messages"]] == [
        "one", "from the server", "two", "You said: two", "three",
    ]  # fmt: skip
    assert ("temperature" in third, fourth["temperature"]) == (False, 0.3)
    record = store.find_named("s")
    assert record.model == f"large on 127.0.0.1:{lab.port}"
    assert record.settings["remote"] == "lab"
    assert KEY not in "".join(
        export_text(*store.load(record.id), kind) for kind in ("json", "markdown", "html", "sharegpt")
    )
    assert f"large on 127.0.0.1:{lab.port}" in export_text(*store.load(record.id), "markdown")
    assert KEY.encode() not in (tmp_path / "history.db").read_bytes()


def test_a_session_that_went_local_continues_local(tmp_path: Path, lab: Script) -> None:
    local = str(tmp_path / "local.gguf")
    session(tmp_path, lab, "one", f"/model {local}", "two", session="s")
    _, resolved = find_session(open_store(tmp_path / "history.db"), resolve_settings({"session": "s"}, {}, None))
    assert (resolved.settings.remote, resolved.settings.model) == (None, local)


def test_models_and_servers_are_listed_and_unknown_ones_refused(tmp_path: Path, lab: Script) -> None:
    output, _ = session(tmp_path, lab, "/model", "/model larg", "/model large", session="s")
    assert "models   small, large\nservers  lab\n" in output
    assert f"error: neither {lab.url}/v1 nor this machine has a model `larg`\nhint: did you mean `large`?" in output
    assert output.rstrip("> \n").endswith("Now using large.")


def test_a_server_that_is_not_there_leaves_the_session_as_it_was(tmp_path: Path, lab: Script) -> None:
    output, _ = session(tmp_path, lab, "/model http://127.0.0.1:9/v1", "one", session="s")
    assert "http://127.0.0.1:9/v1" in output
    assert "error: " in output
    assert "from the server" in output


def test_the_servers_models_complete_and_a_dead_one_is_silent(lab: Script) -> None:
    settings = resolve_settings({"remote": lab.url}, {}, None).settings
    backend = SimpleNamespace(options=remote_options(settings))
    state: Any = SimpleNamespace(model_lists=ModelLists(), settings=settings, backend=backend)
    assert [each.text for each in candidates(state, "/model s")][:1] == ["small"]
    state.backend.options = remote_options(resolve_settings({"remote": "http://127.0.0.1:9"}, {}, None).settings)
    assert [each.text for each in candidates(state, "/model sm")] == []


def test_a_server_that_did_not_list_its_models_is_asked_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """After one failure nothing was completed until the program ended."""
    answers: list[Any] = [EngineError("busy"), ("small",), AssertionError("asked without need")]
    now = 0.0
    options = remote_options(resolve_settings({"remote": "http://127.0.0.1:9"}, {}, None).settings)
    monkeypatch.setattr("chat.tui.model_lists.server_models", lambda *_: raised_or_returned(answers.pop(0)))
    lists = ModelLists(lambda: now)
    assert lists.completed_of_server(options) == ()
    assert lists.completed_of_server(options) == ()
    assert len(answers) == 2
    now = RETRY_SECONDS
    assert lists.completed_of_server(options) == ("small",)
    assert lists.completed_of_server(options) == ("small",)


def raised_or_returned(answer: Any) -> Any:
    if isinstance(answer, Exception):
        raise answer
    return answer


def test_a_dead_server_can_be_left_for_a_file_or_a_local_name(
    tmp_path: Path, lab: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`/model FILE` asked the server first whether it has such a model, and ended with its error."""
    asked: list[Any] = []

    def ask(options: RemoteOptions) -> tuple[str, ...]:
        asked.append(options)
        raise EngineError(f"{options.server.url} cannot be reached")

    monkeypatch.setattr("chat.tui.model_lists.server_models", ask)
    models_folder().mkdir(parents=True)
    (models_folder() / "mine.gguf").touch()
    output, _ = session(
        tmp_path, lab, "one", f"/model {tmp_path / 'local.gguf'}", "two", "/model lab", "/model mine", "/model lab",
        "/model neither", session="s",
    )  # fmt: skip
    assert "Now using local (" in output and "You said: two" in output
    assert "Now using mine (" in output
    assert output.rstrip("> \n").endswith(f"error: {lab.url}/v1 cannot be reached")
    assert len(asked) == 2


def test_the_context_of_a_server_is_listed_with_its_own_count(tmp_path: Path, lab: Script) -> None:
    """Once it ended in an error about an option that nobody had typed."""
    output, _ = session(tmp_path, lab, "one", "/context", "/model lab large", "/context", session="s")
    assert (
        "  1 user            ?  one\n    assistant       ?  from the server\n\n7 tokens by the server's count\n"
        in output
    )
    assert "from the server\n\nthe server counts tokens\n" in output
    assert "error" not in output
