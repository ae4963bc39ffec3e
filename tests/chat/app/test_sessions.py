"""A session stores its options; they override the settings file, and flags override them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat.app.sessions import (
    ORIGIN,
    apply_session,
    is_persisted,
    persisted_options,
    session_options_text,
    with_answer_options,
)
from chat.config.option_types import option_specs
from chat.config.options import Settings
from chat.config.resolve import ResolvedSettings, resolve_settings
from chat.history.records import SessionRecord

FILE = """
model = "file.gguf"
system = "From the file."
temperature = 0.5
top_k = 7
[preset.code]
temperature = 0.1
"""


def resolved(folder: Path, environment: Any = None, **flags: Any) -> ResolvedSettings:
    """Settings resolved with the file above."""
    (folder / "config.toml").write_text(FILE)
    return resolve_settings(flags, environment or {}, folder / "config.toml")


def resumed(folder: Path, record: SessionRecord, **flags: Any) -> dict[str, Any]:
    """The values of the options that these tests use."""
    settings = apply_session(resolved(folder, **flags), record).settings
    names = ("model", "remote", "system", "temperature", "top_k", "max_tokens")
    return {name: getattr(settings, name) for name in names}


def test_options_of_the_conversation_are_stored_and_options_of_the_machine_are_not() -> None:
    assert {name for name in option_specs() if is_persisted(name)} == {
        *("remote", "remote_model", "lora", "mmproj", "picture_size", "prompt_format", "context", "window", "overflow"),
        *(
            "effort",
            "think",
            "think_limit",
            "max_tokens",
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "repeat_penalty",
            "seed",
            "stop",
        ),
    }


def test_a_new_session_stores_the_options_given_for_it(tmp_path: Path) -> None:
    here = resolved(tmp_path, {"MISTRAL_CHAT_MIN_P": "0.2"}, stop=["END"], threads="2", seed="7")
    assert persisted_options(here) == {
        "stop": ["END"],
        "seed": 7,
    }  # neither the file's, nor the variable's, nor the machine's
    assert persisted_options(resolved(tmp_path, preset="code")) == {"temperature": 0.1}


def test_only_the_option_of_set_is_stored(tmp_path: Path) -> None:
    here = resolved(tmp_path, seed="7", temperature="0.2")
    given = replace(here, origins={**here.origins, "seed": "/set", "keys": "/set"})
    assert persisted_options(given, ["seed", "keys", "top_k"]) == {"seed": 7}


def test_adapters_are_stored_with_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("b:2").touch()
    adapters = ["a.gguf", "a.gguf:0.5", "b:2"]
    expected = [str(tmp_path / each) for each in adapters]
    assert persisted_options(resolved(tmp_path, lora=adapters)) == {"lora": expected}


def test_session_options_override_the_file_and_flags_override_them(tmp_path: Path) -> None:
    model = tmp_path / "own.gguf"
    model.touch()
    own = SessionRecord(
        "a" * 32, model="own", model_path=str(model), system="Own.", settings={"temperature": 0.2, "max_tokens": 5}
    )
    mine = {"model": str(model), "remote": None, "system": "Own.", "temperature": 0.2, "top_k": 7, "max_tokens": 5}
    assert resumed(tmp_path, own) == mine
    assert resumed(tmp_path, own, temperature="0.9") == {**mine, "temperature": 0.9}
    assert resumed(tmp_path, own, preset="code") == {**mine, "temperature": 0.1}
    assert resumed(tmp_path, own, system="Now.") == {**mine, "system": "Now."}
    assert resumed(tmp_path, own, model="other") == {**mine, "model": "other"}
    model.unlink()
    assert resumed(tmp_path, own) == {**mine, "model": "own"}  # by its name, since the file has gone


def test_a_session_without_a_system_prompt_gets_none_from_the_file(tmp_path: Path) -> None:
    assert resumed(tmp_path, SessionRecord("a" * 32))["system"] is None


def test_a_session_of_a_server_continues_there_unless_another_model_is_named(tmp_path: Path) -> None:
    own = SessionRecord("a" * 32, settings={"remote": "http://localhost:1", "remote_model": "m"})
    assert apply_session(resolved(tmp_path), own).settings.remote == "http://localhost:1"
    other = apply_session(resolved(tmp_path, model="x"), own).settings
    assert (other.model, other.remote, other.remote_model) == ("x", None, None)
    moved = apply_session(resolved(tmp_path, remote="http://localhost:2"), own).settings
    assert (moved.remote, moved.remote_model) == ("http://localhost:2", None)


@pytest.mark.parametrize(
    "stored", [{"no_such_option": 1}, {"temperature": "hot"}, {"temperature": -1}, {"threads": 3}, {"stop": 3.5j}]
)
def test_stored_options_that_are_unknown_or_not_allowed_are_ignored(tmp_path: Path, stored: dict[str, Any]) -> None:
    before = resolved(tmp_path)
    own = apply_session(before, SessionRecord("a" * 32, settings=stored))
    if "stop" not in stored:
        assert replace(own.settings, system=before.settings.system) == before.settings


def test_all_stored_options_survive_json() -> None:
    values = {"lora": ("/a:0.5",), "stop": ("x", "y"), "seed": 3, "window": "64", "overflow": "drop", "min_p": 0.5}
    here = ResolvedSettings(replace(Settings(), **values), dict.fromkeys(values, "flag"))
    stored = json.loads(json.dumps(persisted_options(here)))
    back = apply_session(ResolvedSettings(Settings(), {}), SessionRecord("a" * 32, settings=stored))
    assert {name: getattr(back.settings, name) for name in values} == {**values, "lora": ("/a:0.5",)}
    assert session_options_text(back) == (
        "lora '/a:0.5', stop 'x' 'y', seed 3, window 64, overflow drop, min-p 0.5"
    )  # fmt: skip


def test_opening_a_session_replaces_the_options_of_the_one_before(tmp_path: Path) -> None:
    base = resolved(tmp_path)
    first = apply_session(base, SessionRecord("a" * 32, settings={"temperature": 0.2, "window": "64"}))
    second = with_answer_options(first, apply_session(base, SessionRecord("b" * 32, settings={"seed": 3})))
    assert (second.settings.temperature, second.settings.seed, second.settings.window) == (0.5, 3, "64")
    assert (second.origins["seed"], second.origins["window"]) == (ORIGIN, ORIGIN)
    assert "line 4" in second.origins["temperature"]
