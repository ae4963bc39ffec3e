"""Tab completion of commands and arguments."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chat.config.options import Settings
from chat.core.conversation import Conversation, Message
from chat.core.request import EngineOptions
from chat.history.store import open_store
from chat.models.inventory import LocalModel
from chat.tui.input.completion import candidates
from chat.tui.input.reader import Candidate
from chat.tui.model_lists import KEPT_SECONDS, ModelLists


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The part of a session's state that completion uses, in a folder with some files."""
    for name in ("notes.txt", "notes two.md", ".hidden", "tiny.gguf"):
        (tmp_path / name).touch()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "deep.txt").touch()
    (tmp_path / "bad\x1bname").touch()
    monkeypatch.chdir(tmp_path)
    store = open_store(None)
    store.create(name="garden", conversation=Conversation().add(Message("user", "roses?")))
    return SimpleNamespace(
        session=SimpleNamespace(store=store),
        resolved=SimpleNamespace(presets=("code", "cook")),
        settings=Settings(),
        backend=SimpleNamespace(options=EngineOptions("")),
        calls=None,
        model_lists=ModelLists(),
    )


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("/un", ["/undo"]),
        ("/ex", ["/export", "/exit"]),
        ("/s", ["/save", "/sessions", "/search", "/system", "/set", "/show", "/stats"]),
        ("/set temp", ["temperature"]),
        ("/set flash-attention o", ["on", "off"]),
        ("/set mlock ", ["on", "off"]),
        ("/set nonsense ", []),
        ("/file no", ["notes two.md", "notes.txt"]),
        ("/file ", ["more/", "notes two.md", "notes.txt", "tiny.gguf"]),
        ("/file .h", [".hidden"]),
        ("/read more/d", ["deep.txt"]),
        ("/file nowhere/", []),
        ("/model ", ["guide", "info", "more/", "tiny.gguf"]),
        ("/load g", ["garden"]),
        ("/preset co", ["code", "cook"]),
        ("/copy ", ["code", "all"]),
        ("/think ", ["show", "auto", "on", "off", "hide", "limit"]),
        ("/tools ", ["on", "off", "last", "again", "forget "]),
        ("/tools forget ", []),
        ("/help bra", ["branches"]),
        ("/nonsense x", []),
        ("/undo ", []),
    ],
)
def test_candidates_of_each_kind(state: Any, text: str, texts: list[str]) -> None:
    assert [candidate.text for candidate in candidates(state, text)] == texts


def test_candidates_replace_only_the_word_that_they_complete(state: Any) -> None:
    assert {candidate.replaced for candidate in candidates(state, "/file more/de")} == {2}
    assert {candidate.replaced for candidate in candidates(state, "/und")} == {4}
    assert candidates(state, "/load ga")[0].note == "roses?"


def test_models_are_completed_by_any_part_of_their_names(
    state: Any, tiny_model: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chat.tui.model_lists.HEADER_SECONDS", 60)
    folder = own_home / ".lmstudio/models/a/b"
    folder.mkdir(parents=True)
    (folder / "Mistral-7B.gguf").symlink_to(tiny_model)
    assert candidates(state, "/model 7b") == [Candidate("Mistral-7B", 2, "8 MB, F32, window 64")]
    assert next(candidate.text for candidate in candidates(state, "/model ")) == "Mistral-7B"


def test_models_are_searched_for_once_in_a_while_not_at_each_key(state: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each key searched all folders again, and Tab did it twice, while the prompt could not be used."""
    searches, now = [], 0.0

    def search(seconds: float) -> list[LocalModel]:
        searches.append(seconds)
        return [LocalModel("mistral-7b", "/m/mistral-7b.gguf", "models", 7_000_000)]

    monkeypatch.setattr("chat.models.inventory.usable_models", search)
    state.model_lists = ModelLists(lambda: now)
    typed = "/model mis"
    texts = [[each.text for each in candidates(state, typed[:length])] for length in range(7, len(typed) + 1)]
    assert texts == [
        ["mistral-7b", "guide", "info", "more/", "tiny.gguf"],
        ["mistral-7b", "more/"],
        *[["mistral-7b"]] * 2,
    ]
    assert len(searches) == 1
    now = KEPT_SECONDS
    candidates(state, typed)
    assert len(searches) == 2
