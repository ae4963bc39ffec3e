"""Servers of the settings file: what is read, which key goes where, and that no key goes anywhere else."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat.app.remotes import RemoteOptions, answered_by, remote_options, server_models
from chat.app.sessions import persisted_options
from chat.cli.main import run
from chat.config.resolve import resolve_settings
from chat.core.answer_details import AnswerDetails, details_of
from chat.errors import ChatError, EngineError, UsageError
from chat.remote.client import RemoteBackend
from chat.remote.server_address import server_at
from chat.system.external_editor import open_editor
from chat.system.secrets import child_environment
from chat.worker.process import WorkerProcess
from tests.chat.remote.stub_server import Reply, Script, serving, words
from tests.environments import pipes

LAB = """
[remote.lab]
url = "https://lab.example.org/v1"
model = "small"
key_variable = "LAB_KEY"
headers = { "X-Team" = "team-secret" }

[remote.azure]
url = "https://a.openai.azure.com/openai?api-version=1"
key-variable = "AZURE_KEY"
key_header = "api-key"

[remote.mistral]
url = "https://api.mistral.ai/v1"
"""
KEYS = {
    "LAB_KEY": "k-lab",
    "AZURE_KEY": "k-azure",
    "MISTRAL_CHAT_REMOTE_KEY": "k-typed",
    "MISTRAL_API_KEY": "k-mistral",
}


def options(tmp_path: Path, text: str = LAB, variables: dict[str, str] = KEYS, **flags: Any) -> Any:
    file = tmp_path / "config.toml"
    file.write_text(text)
    return remote_options(resolve_settings(flags, {}, file).settings, variables)


@pytest.mark.parametrize(
    ("remote", "headers", "model"),
    [
        ("lab", [("X-Team", "team-secret"), ("Authorization", "Bearer k-lab")], "small"),
        ("azure", [("api-key", "k-azure")], None),
        ("mistral", [("Authorization", "Bearer k-mistral")], None),
        ("https://api.mistral.ai", [("Authorization", "Bearer k-typed")], None),
        ("https://other.example.org", [("Authorization", "Bearer k-typed")], None),
    ],
)
def test_each_server_gets_its_own_key_only(
    remote: str, headers: list[tuple[str, str]], model: str | None, tmp_path: Path
) -> None:
    """Once one variable went to every server."""
    found = options(tmp_path, remote=remote)
    assert (found.server.request_headers(), found.model) == (headers, model)


def test_a_hosts_own_variable_counts_if_no_other_is_set(tmp_path: Path) -> None:
    keys = {"MISTRAL_API_KEY": "k-mistral"}
    assert options(tmp_path, variables=keys, remote="https://api.mistral.ai").server.key == "k-mistral"
    assert options(tmp_path, variables=keys, remote="http://api.mistral.ai", insecure=True).server.key is None
    assert options(tmp_path, variables=keys, remote="https://api.mistral.ai.example.org").server.key is None


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\$LAB_KEY is not set, but `lab` takes its key from it"):
        options(tmp_path, variables={}, remote="lab")
    assert options(tmp_path, variables={"LAB_KEY": ""}, remote="lab").server.key is None


def test_a_servers_model_replaces_one_of_an_earlier_source(tmp_path: Path) -> None:
    text = 'remote_model = "of-another"\n' + LAB + '[preset.work]\nremote = "lab"\n'
    assert options(tmp_path, text, preset="work").model == "small"
    assert options(tmp_path, text, remote="lab", remote_model="large").model == "large"
    assert options(tmp_path, text, remote="azure").model == "of-another"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('[remote.x]\nurl = "http://localhost"\nmodle = "m"', ", line 3: unknown key `modle` of a server",
         "did you mean `model`?"),
        ('[remote.x]\nurl = "http://localhost"\nkey = "sk-1"', ", line 3: unknown key `key` of a server",
         "`key_variable` names the environment variable that holds the key"),
        ('[remote.x]\nmodel = "m"', ", line 1: [remote.x] needs a `url`", None),
        ('[remote.x]\nurl = 5', ", line 2: `url` must be a text", None),
        ('[remote.x]\nurl = "http://localhost"\nkey_variable = "sk-1"',
         ", line 3: `key_variable` must be the name of an environment variable, not the key itself", None),
        ('[remote.x]\nurl = "http://localhost"\nheaders = { a = 1 }',
         ', line 3: `headers` must be a table of texts, as in { "X-Team" = "search" }', None),
        ('[remote."a b"]\nurl = "http://localhost"',
         ", line 1: a server's name has only letters, digits, `-`, `_` and `.`", None),
        ('[remote]\nlab = 3', ", line 2: [remote.lab] is not a table", None),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(text: str, message: str, hint: str | None, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        options(tmp_path, text)
    assert (caught.value.message, caught.value.hint) == (f"{tmp_path / 'config.toml'}{message}", hint)


def test_an_address_that_cannot_be_used_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        options(tmp_path, '[remote.x]\nurl = "http://gpu.example.org"', remote="x")
    place = f"{tmp_path / 'config.toml'}, line 2"
    assert caught.value.message == f"{place}: http to gpu.example.org would send everything unencrypted"
    assert caught.value.hint == "use https, or set `insecure = true` there"


def test_a_name_that_is_not_there_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no server `lap` in the settings file") as caught:
        options(tmp_path, remote="lap")
    assert caught.value.hint == "did you mean `lab`?"


def test_config_show_shows_servers_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path(os.environ["MISTRAL_CHAT_HOME"])
    (home / "config").mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("MISTRAL_CHAT_REMOTE", "https://u:pass-word@h.example.org/v1?key=query-secret&api-version=2")
    monkeypatch.setenv("LAB_KEY", "k-lab")
    environment = pipes()
    environment.config_file.parent.mkdir(parents=True, exist_ok=True)
    environment.config_file.write_text(LAB)
    assert run(["config", "show"], environment) == 0
    assert 'remote = "https://h.example.org/v1?api-version=2"' in environment.out
    assert 'remote.lab.key_variable = "LAB_KEY"' in environment.out
    assert 'remote.lab.headers = ["X-Team"]' in environment.out
    assert [word for word in ("pass-word", "query-secret", "team-secret", "k-lab") if word in environment.out] == []


def test_a_session_stores_no_secret_of_an_address() -> None:
    resolved = resolve_settings({"remote": "https://h.example.org/v1?key=secret-key&api-version=2"}, {})
    assert persisted_options(resolved) == {"remote": "https://h.example.org/v1?api-version=2"}


def test_no_child_process_gets_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine got every key but the hub's, and an editor got all."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    options(tmp_path, remote="lab")  # whoever reads the settings knows the names
    assert {name for name in KEYS if name in child_environment()} == set()
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nenv > "$1"\n')
    editor.chmod(0o700)
    monkeypatch.setenv("VISUAL", str(editor))
    open_editor(tmp_path / "seen")
    assert [value for value in KEYS.values() if value in (tmp_path / "seen").read_text()] == []
    given: list[dict[str, str]] = []

    def refuse(_: object, *, env: dict[str, str], **more: object) -> None:
        given.append(env)
        raise OSError(1, "not started")

    monkeypatch.setattr("chat.worker.process.subprocess.Popen", refuse)
    with pytest.raises(EngineError):
        WorkerProcess()
    assert [name for name in KEYS if name in given[0]] == []


def test_models_are_listed_within_bounded_time(tmp_path: Path) -> None:
    with serving(Script([Reply(chunks=words("a"))], models=["one", "two"])) as script:
        assert server_models(options(tmp_path, "", remote=script.url)) == ("one", "two")
    with pytest.raises(ChatError):
        server_models(options(tmp_path, "", remote=script.url))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://h.example.org/v1?key=secret", "h.example.org"),
        ("https://h.example.org:80", "h.example.org:80"),
        ("http://localhost:80", "localhost"),
        ("http://[::1]:8000", "[::1]:8000"),
        ("http://[::1]", "[::1]"),
    ],
)
def test_a_session_and_its_answers_name_a_server_alike(url: str, name: str) -> None:
    """Once a session's model had the usual port, and the details of its answers had not."""
    options = RemoteOptions(server_at(url, None, insecure=False), "small")
    info = RemoteBackend(options.server, options.model).info()
    assert details_of(info, None, 1.0) == AnswerDetails("small", name, finished=1.0)
    assert answered_by(options, info.name) == f"small on {name}"
    assert answered_by(replace(options, model=None)) == name
