"""Passages are found by words of like meaning, as our table of English words or that of a model has them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from chat.documents import selection
from chat.documents.document import Document
from chat.documents.selection import ENGLISH_WORDS, SearchModels, Selection
from chat.documents.stop_words import is_english
from chat.documents.word_vectors import WordVectors
from chat.errors import DataError
from chat.worker import task
from chat.worker.process import WorkerProcess
from tests.bench.passage_search import SETS, Rank, by_table, by_words, found
from tests.processes import state_of

WORDS = ["boat", "ship", "bread", "loaf", "town", "sailed", "mill", "gate", "wall", "tree"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Only what is read: pieces and their table, in which each two words that follow each other are alike."""
    path = tmp_path_factory.mktemp("vectors") / "words.gguf"
    seeded = np.random.default_rng(3)
    pieces = ["<unk>", "▁", *(f"▁{word}" for word in WORDS), *"abcdefghijklmnopqrstuvwxyz"]
    table = seeded.standard_normal((len(pieces), 64)).astype(np.float32)
    for number in range(2, 2 + len(WORDS), 2):
        table[number + 1] = table[number] + 0.1 * table[number + 1]
    writer = GGUFWriter(path, "llama")
    writer.add_token_list(pieces)
    writer.add_tensor("token_embd.weight", table + 5)  # what all have in common is taken out
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_like_words_have_like_vectors_and_unknown_letters_none(model: Path) -> None:
    rows = WordVectors(model).of(["boat", "ship", "bread", "漢", "boats"])
    assert rows.dtype == np.float32 and rows.shape == (5, 64)
    assert rows[0] @ rows[1] > 0.9 > 0.5 > abs(rows[0] @ rows[2])
    assert not rows[3] @ rows[0] > 0.5 and rows[4] @ rows[0] > 0.5
    assert np.allclose(np.linalg.norm(rows[[0, 1, 2, 4]], axis=1), 1, atol=1e-5)


def test_of_an_english_text_the_words_of_our_own_table_need_no_model() -> None:
    """Without a model on this machine, as with `--remote`, there was `no passage has a word of the question`."""
    others = "\n\n".join(f"The {word} of the old man was in a room with a view of the sea. " * 12 for word in WORDS[2:])
    document = Document("a.md", f"The vet will look at the puppies on Monday.\n\n{others}\n\n{others}")
    with closing(Selection([document])) as selecting:
        assert "[line 1]\nThe vet will look" in selecting.text_for("dog physician").text


def test_which_texts_are_english() -> None:
    german = "Die Bürger sind frei, und was sie in der Stadt an Land haben, das ist so alt wie die Stadt."
    french = "Les distinctions sociales ne peuvent être fondées que sur l'utilité commune, on le dit ici."
    assert is_english(["The citizens are free, and what they have of land is as old as the town."])
    assert not is_english([german]) and not is_english([french]) and not is_english(["name,town\nAnn,Rome\n3,4\n"])
    assert not is_english(["漢字"]) and not is_english([])


def noted(process: WorkerProcess, started: list[int]) -> WorkerProcess:
    started.append(process.pid)
    return process


def test_a_passage_is_found_by_another_word_for_what_it_says(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "is_english", lambda _texts: False)
    monkeypatch.setattr(selection, "MOST_BYTES", 400)
    passages = [f"The {word} of {number} was old." + " And so on." * 90 for number, word in enumerate(WORDS[::2])]
    document = Document("a.md", "\n\n".join(passages))
    with pytest.raises(DataError, match="no passage has a word"):
        Selection([document]).text_for("ship")
    started: list[int] = []
    monkeypatch.setattr(task, "WorkerProcess", lambda *given: noted(WorkerProcess(*given), started))
    with closing(Selection([document], SearchModels(model))) as selecting:
        assert "The boat of 0" in selecting.text_for("ship").text
        assert "The bread of 1" in selecting.text_for("loaf").text
        assert len(started) == 1  # it was a process for each line of a batch
        os.kill(started[0], signal.SIGKILL)
        found = selecting.text_for("boat")
        assert "The boat of 0" in found.text and "SIGKILL" in found.warnings[0]
        assert "The boat of 0" in selecting.text_for("ship").text
    assert len(started) == 2 and not any(map(state_of, started))


def test_a_file_without_a_table_leaves_the_search_to_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "is_english", lambda _texts: False)
    monkeypatch.setattr(selection, "MOST_BYTES", 10)
    (tmp_path / "no.gguf").write_bytes(b"GGUF")
    found = Selection([Document("a.md", "bread is baked")], SearchModels(tmp_path / "no.gguf")).text_for("bread?")
    assert "bread is baked" in found.text
    assert found.warnings[0].startswith("the passages were found by their words only: ")


@pytest.mark.parametrize(("way", "same", "least"), [(by_words, 58, 128), (by_table(ENGLISH_WORDS), 59, 168)])
def test_how_many_of_the_questions_that_were_made_for_it_are_found(
    way: Callable[[Document], Rank], same: int, least: int
) -> None:
    """60 questions use the words of the text, 100 other words, and 40 hardly any of it."""
    right, asked = found(way, SETS[0])
    assert (asked["same"], asked["all"]) == (60, 200)
    assert right["same"] >= same
    assert right["all"] >= least
