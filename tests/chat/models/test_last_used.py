"""The model of the last session answers where none is named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from chat.cli.main import run
from chat.config.resolve import resolve_settings
from chat.guide import PATH as GUIDE_FILE
from chat.models import last_used, stores
from chat.models.last_used import last_model, remember_model, short_name, with_last_model
from chat.models.resolve import resolve
from chat.system.paths import data_folder
from tests.chat.models.test_stores import Ollama
from tests.environments import pipes

Said = tuple[int, str, str]


def ask(*arguments: str, stdin: bytes = b"") -> Said:
    environment = pipes(stdin)
    code = run([*arguments, "-n", "1"], environment)
    return code, environment.out, environment.err


def test_nothing_is_remembered_at_first() -> None:
    resolved = resolve_settings({})
    assert (last_model(), with_last_model(resolved), resolved.missing_model) == (None, resolved, None)


def test_the_last_model_is_used_where_nothing_names_one(tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    path.touch()
    remember_model(path)
    assert json.loads((data_folder() / "last-model.json").read_text()) == {"model": str(path)}
    assert (data_folder() / "last-model.json").stat().st_mode & 0o777 == 0o600
    resolved = with_last_model(resolve_settings({}))
    assert (resolved.settings.model, resolved.origins["model"]) == (str(path), "last session")
    config = tmp_path / "config.toml"
    config.write_text('model = "pinned"')
    for named in (
        resolve_settings({"model": "flag"}),
        resolve_settings({}, {"MISTRAL_CHAT_MODEL": "variable"}),
        resolve_settings({}, {}, config),
        resolve_settings({"remote": "http://localhost:1"}),
    ):
        assert with_last_model(named) == named


def test_a_file_that_is_gone_is_known() -> None:
    remember_model(Path("/nowhere/mine.gguf"))
    resolved = resolve_settings({})
    assert with_last_model(resolved) == replace(resolved, missing_model="/nowhere/mine.gguf")
    assert with_last_model(resolve_settings({"model": "x"})).missing_model is None


def test_the_guide_is_not_remembered() -> None:
    remember_model(GUIDE_FILE)
    assert last_model() is None


@pytest.mark.parametrize("data", [b"", b"[]", b'{"model": 5}', b'{"model": ""}', b"\xff", b"[" * 70_000, b'{"a": 1}'])
def test_a_damaged_file_is_as_none(data: bytes) -> None:
    data_folder().mkdir(parents=True)
    (data_folder() / last_used.FILE_NAME).write_bytes(data)
    assert last_model() is None


def test_a_name_that_no_file_can_have_is_gone() -> None:
    data_folder().mkdir(parents=True)
    for name in ("a\0b", "x" * 5000):
        (data_folder() / last_used.FILE_NAME).write_text(json.dumps({"model": name}))
        assert with_last_model(resolve_settings({})).missing_model == name


def test_a_folder_that_cannot_be_written_is_no_error() -> None:
    data_folder().parent.mkdir(parents=True)
    data_folder().write_text("a file")
    remember_model(Path("/somewhere/mine.gguf"))
    assert last_model() is None


def test_a_model_of_ollama_is_remembered_by_its_name(own_home: Path) -> None:
    """The name of its file is a digest, and another one after `ollama pull`."""
    store = Ollama(own_home / "ollama")
    blob = store.add("registry.ollama.ai/library/mistral/7b")
    remember_model(blob)
    assert (last_model(), short_name(str(blob))) == ("ollama:mistral:7b", "ollama:mistral:7b")
    assert with_last_model(resolve_settings({})).settings.model == "ollama:mistral:7b"
    (own_home / "ollama/manifests/registry.ollama.ai/library/mistral/7b").unlink()
    assert with_last_model(resolve_settings({})).missing_model == "ollama:mistral:7b"
    assert short_name(str(own_home / "blobs" / "other")) == "other"
    assert short_name("ollama:qwen2.5:7b") == "ollama:qwen2.5:7b"  # no suffix of a file


def test_a_model_of_ollama_is_found_by_one_manifest(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a start read the manifests of all models three times."""
    store = Ollama(own_home / "ollama")
    blob = store.add("registry.ollama.ai/library/mistral/7b")
    store.add("registry.ollama.ai/library/other/7b")
    remember_model(blob)
    read: list[Path] = []
    of_manifest = stores._model_blob
    monkeypatch.setattr(stores, "_model_blob", lambda path, folder: (read.append(path), of_manifest(path, folder))[1])
    name = with_last_model(resolve_settings({})).settings.model
    assert (name, resolve(name)) == ("ollama:mistral:7b", blob)
    assert read == [own_home / "ollama/manifests/registry.ollama.ai/library/mistral/7b"] * 2


@pytest.mark.slow
@pytest.mark.engine
def test_one_shots_and_batches_use_the_last_model_and_say_so(tiny_model: Path, tmp_path: Path) -> None:
    remember_model(tiny_model)
    note = f"note: using {tiny_model.stem}, the model of your last session; `-m FILE` chooses another\n"
    code, out, err = ask("hello", "--json")
    assert (code, json.loads(out)["model"]["path"], err) == (0, str(tiny_model), note)
    assert ask("hello", "-q")[2] == ""
    records = tmp_path / "records"
    records.write_text('"hello"\n')
    assert ask("--batch", str(records))[::2] == (0, note)
    cut = "note: the answer was cut after 1 token; `-n` allows more\n"
    assert ask("hello", "--session", "new")[::2] == (0, note + cut)
    assert ask("hello", "-c")[::2] == (0, cut)  # the session has its own


def test_a_one_shot_says_that_the_last_model_is_gone() -> None:
    remember_model(Path("/nowhere/mine.gguf"))
    code, out, err = ask("--dry-run", "hello")
    assert (code, err.splitlines()[0]) == (0, "note: the model of your last session is gone: /nowhere/mine.gguf")
    assert json.loads(out)["ids"]
    assert "so the guide answers" in err
