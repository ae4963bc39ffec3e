"""A small model's guesses are its own greedy words, whatever was read before."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from pathlib import Path

import pytest

from chat.inference import small_model
from chat.inference.small_model import DraftModel
from chat.llama.context import LlamaContext

TEXT = array("i", [1, *(3 + (at * 7919) % 390 for at in range(999))])
Open = Callable[..., LlamaContext]


def greedy(decoder: LlamaContext, ids: array[int], count: int) -> list[int]:
    """What a decoder says that reads all of the ids at once."""
    decoder.clear()
    for start in range(0, len(ids), 64):
        decoder.feed(ids[start : start + 64])
    said: list[int] = []
    while len(said) < count:
        said.append(int(decoder.logits().argmax()))
        decoder.feed(said[-1:])
    return said


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many ids each call of `feed` was given."""
    counts: list[int] = []
    feed = LlamaContext.feed

    def counted(self: LlamaContext, ids: array[int], outputs: int = 1) -> bool:
        counts.append(len(ids))
        return feed(self, ids, outputs)

    monkeypatch.setattr(LlamaContext, "feed", counted)
    return counts


@pytest.mark.parametrize("rolling", [False, True])
def test_guesses_are_the_greedy_words_and_only_new_ids_are_read(
    rolling: bool, windowed_file: Path, plain_file: Path, open_decoder: Open, reads: list[int]
) -> None:
    """Growing, taken back in part, gone on otherwise; the rolling one gives old cells back on the way."""
    file, settings = (windowed_file, {"cells": 128, "rolling": True}) if rolling else (plain_file, {"cells": 512})
    small, judge = DraftModel(open_decoder(file, **settings)), open_decoder(file, **settings)
    for ids, new in (
        (TEXT[:200], 200),
        (TEXT[:203], 3),  # two guessed ids are taken back before
        (TEXT[:198] + array("i", [9]), 1),
        (TEXT[:300], 102),
    ):
        reads.clear()
        said = small.propose(ids, 3)
        assert sum(reads) == new + 2
        assert said == greedy(judge, ids, 3)


def test_of_a_text_that_is_too_long_it_knows_the_first_id_and_the_end(
    plain_file: Path, open_decoder: Open, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_model, "MOST_READ", 300)
    small, judge = DraftModel(open_decoder(plain_file, cells=512)), open_decoder(plain_file, cells=512)
    begun_anew = TEXT[:1] + TEXT[700 - 256 : 700]  # half of its cells
    assert small.propose(TEXT[:700], 3) == greedy(judge, begun_anew, 3)
    longer = TEXT[:800]
    reads.clear()
    assert small.propose(longer, 3) == greedy(judge, begun_anew + TEXT[700:800], 3)
    assert sum(reads[: len(reads) // 2]) < 256
    assert small.propose(TEXT, 3) == greedy(judge, TEXT[:1] + TEXT[-256:], 3)  # now the context is full
    assert small.propose(TEXT[:50], 3) == greedy(judge, TEXT[:50], 3)


def test_a_stopped_one_guesses_nothing_and_then_goes_on(plain_file: Path, open_decoder: Open) -> None:
    small, judge = DraftModel(open_decoder(plain_file)), open_decoder(plain_file)
    small.abort(True)
    assert small.propose(TEXT[:100], 3) == []
    small.abort(False)
    assert small.propose(TEXT[:100], 3) == greedy(judge, TEXT[:100], 3)
