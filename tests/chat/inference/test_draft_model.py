"""A draft model proposes its own greedy ids, and its memory is counted before that of the main model."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from pathlib import Path

import pytest

from chat.core.request import EngineOptions
from chat.errors import MemoryLimitError
from chat.gguf.reader import read_gguf
from chat.inference import draft_model
from chat.inference.draft_model import DraftModel, plan_draft_model
from chat.inference.loaded_model import load_model
from chat.llama import hardware
from chat.llama.context import LlamaContext
from chat.llama.hardware import HostResources
from chat.llama.memory_estimate import sizes_of
from chat.llama.memory_plan import PROCESS_BYTES

MIB = 1 << 20
TEXT = array("i", [1, *(3 + (i * 7919) % 390 for i in range(999))])
Open = Callable[..., LlamaContext]


def test_a_draft_model_leaves_the_rest_of_the_memory(plain_file: Path, windowed_file: Path) -> None:
    main, host = read_gguf(plain_file), HostResources(1 << 30, (100 * MIB, 900 * MIB))
    assert plan_draft_model(EngineOptions(str(plain_file)), main, host) is None
    draft = plan_draft_model(EngineOptions(str(plain_file), draft=str(windowed_file)), main, host)
    assert draft is not None
    weights, memory = sizes_of(draft.file).weights, draft.memory
    assert memory.weights_bytes == weights
    assert memory.gpu_layers == 3  # all of it, and the output
    left = draft.remaining(host)
    assert left.free_bytes == host.free_bytes - draft.host_bytes
    assert draft.host_bytes == memory.host_bytes - PROCESS_BYTES
    assert left.gpu_free_bytes[0] == 100 * MIB
    assert 0 < host.gpu_free_bytes[1] - left.gpu_free_bytes[1] <= weights + memory.cache_bytes


@pytest.mark.parametrize(
    ("free", "too_large", "hint"),
    [(10 * MIB, "windowed", "leave out `--draft`"), (PROCESS_BYTES + 5 * MIB, "plain", "leave out `--draft`, close")],
)
def test_the_error_names_the_model_that_does_not_fit(
    free: int, too_large: str, hint: str, plain_file: Path, windowed_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "host_free_bytes", lambda: free)
    with pytest.raises(MemoryLimitError) as caught:
        load_model(EngineOptions(str(plain_file), draft=str(windowed_file), context=32768, threads=1, gpu_layers="0"))
    assert Path(caught.value.message.split(" needs ")[0]).stem == too_large
    assert (caught.value.hint or "").startswith(hint)
    assert caught.value.message.endswith(f"beside {windowed_file}") == (too_large == "plain")


def greedy(context: LlamaContext, ids: array[int], count: int) -> list[int]:
    """The likeliest ids after all of the ids, read at once."""
    context.clear()
    for start in range(0, len(ids), 64):
        context.feed(ids[start : start + 64])
    drawn: list[int] = []
    while len(drawn) < count:
        drawn.append(int(context.logits().argmax()))
        context.feed(drawn[-1:])
    return drawn


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many ids each call of `feed` got."""
    counts: list[int] = []
    feed = LlamaContext.feed

    def counted(self: LlamaContext, ids: array[int], outputs: int = 1) -> bool:
        counts.append(len(ids))
        return feed(self, ids, outputs)

    monkeypatch.setattr(LlamaContext, "feed", counted)
    return counts


@pytest.mark.parametrize("rolling", [False, True])
def test_drafts_are_greedy_and_only_new_ids_are_read(
    rolling: bool, windowed_file: Path, plain_file: Path, open_decoder: Open, reads: list[int]
) -> None:
    """The text grows, loses ids, and continues differently; the rolling cache frees old cells meanwhile."""
    file, settings = (windowed_file, {"cells": 128, "rolling": True}) if rolling else (plain_file, {"cells": 512})
    drafter, reference = DraftModel(open_decoder(file, **settings)), open_decoder(file, **settings)
    for ids, new in (
        (TEXT[:200], 200),
        (TEXT[:203], 3),  # two ids of the last draft are taken back first
        (TEXT[:198] + array("i", [9]), 1),
        (TEXT[:300], 102),
    ):
        reads.clear()
        draft = drafter.propose(ids, 3)
        assert sum(reads) == new + 2
        assert draft == greedy(reference, ids, 3)


def test_of_a_text_that_is_too_long_the_first_id_and_the_end_are_read(
    plain_file: Path, open_decoder: Open, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft_model, "MOST_UNREAD", 300)
    drafter, reference = DraftModel(open_decoder(plain_file, cells=512)), open_decoder(plain_file, cells=512)
    restarted = TEXT[:1] + TEXT[700 - 256 : 700]  # half of its cells
    assert drafter.propose(TEXT[:700], 3) == greedy(reference, restarted, 3)
    longer = TEXT[:800]
    reads.clear()
    assert drafter.propose(longer, 3) == greedy(reference, restarted + TEXT[700:800], 3)
    assert sum(reads[: len(reads) // 2]) < 256
    assert drafter.propose(TEXT, 3) == greedy(reference, TEXT[:1] + TEXT[-256:], 3)  # now the context is full
    assert drafter.propose(TEXT[:50], 3) == greedy(reference, TEXT[:50], 3)


def test_an_aborted_drafter_proposes_nothing_until_it_is_ready_again(plain_file: Path, open_decoder: Open) -> None:
    drafter, reference = DraftModel(open_decoder(plain_file)), open_decoder(plain_file)
    drafter.abort(True)
    assert drafter.propose(TEXT[:100], 3) == []
    drafter.abort(False)
    assert drafter.propose(TEXT[:100], 3) == greedy(reference, TEXT[:100], 3)
