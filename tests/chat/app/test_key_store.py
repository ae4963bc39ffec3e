"""Keys of servers in the operating system's keyring: a backend in memory stands for it."""

from __future__ import annotations

import builtins
import json
import sys
import threading
from pathlib import Path
from typing import Any

import keyring
import keyring.errors
import pytest
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring

from chat.app.remotes import remote_options
from chat.cli.main import run
from chat.config.resolve import resolve_settings
from chat.errors import ChatError, FileError
from chat.system.paths import config_folder
from tests.environments import pipes

LAB = (
    '[remote.lab]\nurl = "https://lab.example.org/v1"\nkeyring = true\n[remote.plain]\nurl = "https://b.example.org"\n'
)


class InMemory(KeyringBackend):
    priority = 1

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.keys.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.keys[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.keys[service, username]


class Locked(InMemory):
    def get_password(self, service: str, username: str) -> str | None:
        raise keyring.errors.KeyringLocked("the user dismissed the dialog")


class Broken(InMemory):
    """As where the service of the keyring ends: its library's own errors are not those of `keyring`."""

    def get_password(self, service: str, username: str) -> str | None:
        raise EOFError("the bus has gone")


class Leaving(InMemory):
    def get_password(self, service: str, username: str) -> str | None:
        raise SystemExit("no screen")


class Silent(InMemory):
    """As where the window that asks for the keyring's password is on no screen."""

    def get_password(self, service: str, username: str) -> str | None:
        threading.Event().wait()
        raise AssertionError


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> InMemory:
    return use(InMemory(), monkeypatch)


def use(backend: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr("keyring.core._keyring_backend", backend)
    return backend


@pytest.fixture
def file() -> Path:
    path = config_folder() / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(LAB)
    return path


def config_key(*arguments: str, stdin: bytes = b"") -> tuple[int, str]:
    environment = pipes(stdin)
    code = run(["config", "key", *arguments], environment)
    return code, environment.err


def test_a_key_is_stored_used_shown_by_nobody_and_removed(backend: InMemory, file: Path) -> None:
    assert config_key("lab", stdin=b"k-lab\n") == (0, "")
    assert backend.keys == {("mistral-chat", "lab"): "k-lab"}
    settings = resolve_settings({"remote": "lab"}, {}, file).settings
    # neither a variable of ours nor one of the host is asked
    server = remote_options(settings, {"MISTRAL_CHAT_REMOTE_KEY": "k-typed"}).server
    assert server.request_headers() == [("Authorization", "Bearer k-lab")]
    assert "k-lab" not in json.dumps(settings.remotes[0].public_values()) + repr(settings) + repr(server)
    assert config_key("lab", "--remove") == (0, "")
    assert backend.keys == {}
    with pytest.raises(ChatError) as caught:
        remote_options(settings, {})
    assert str(caught.value) == "the keyring has no key for `lab`"


@pytest.mark.parametrize(
    ("arguments", "stdin", "sentence"),
    [
        (["lab"], b"\n", "the key is empty"),
        (["lab"], b"k" * 20_000, "the key has more than 16,384 characters"),
        (["lab"], "schlüssel\n".encode(), "the key"),
        (["other"], b"k\n", "the settings file has no [remote.other]"),
        (["plain"], b"k\n", "[remote.plain] does not say `keyring = true`"),
        (["lab", "--remove"], b"", "the keyring has no key for `lab`"),
    ],
)
def test_a_wrong_key_or_name_is_one_sentence_and_stores_nothing(
    arguments: list[str], stdin: bytes, sentence: str, backend: InMemory, file: Path
) -> None:
    code, said = config_key(*arguments, stdin=stdin)
    assert code == 2 and sentence in said and "Traceback" not in said
    assert backend.keys == {}


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        (NoKeyring, "there is no keyring here"),
        (Locked, "the keyring cannot be used: the user dismissed the dialog"),
        (Broken, "the keyring cannot be used: the bus has gone"),
        (Leaving, "the keyring cannot be used: no screen"),
        (Silent, "the keyring does not answer"),
        (None, "a keyring needs the package `keyring`, which is not installed"),
    ],
)
def test_without_a_keyring_the_server_is_not_asked(
    broken: Any, sentence: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if broken is None:
        real_import = builtins.__import__

        def without_keyring(name: str, *more: Any, **named: Any) -> Any:
            if name == "keyring":
                raise ImportError(name)
            return real_import(name, *more, **named)

        monkeypatch.setattr(builtins, "__import__", without_keyring)
    else:
        use(broken(), monkeypatch)
        monkeypatch.setattr("chat.app.key_store._QUIET_SECONDS", 0.05 if broken is Silent else 60.0)
        monkeypatch.setattr("chat.app.key_store._LONGEST_SECONDS", 0.05)
    with pytest.raises(FileError) as caught:
        remote_options(resolve_settings({"remote": "lab"}, {}, file).settings, {})
    assert str(caught.value) == sentence
    assert caught.value.hint


def test_a_keyring_and_a_variable_are_alternatives(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(LAB.replace("keyring = true", 'keyring = true\nkey_variable = "K"'))
    with pytest.raises(ChatError) as caught:
        resolve_settings({}, {}, file)
    assert str(caught.value) == f"{file}, line 3: `keyring` and `key_variable` cannot be used together"


def test_the_package_is_loaded_only_for_a_key(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "keyring")
    remote_options(resolve_settings({"remote": "plain"}, {}, file).settings, {})
    assert "keyring" not in sys.modules
