"""A plain GGUF of Mistral 7B v0.1 is recognised, its context kept to the window it lost, and the way out is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat.engine import lost_window
from chat.engine.lost_window import known_context, lost_window_notice
from chat.engine.offload import sizes_of
from chat.engine.room import load_room
from chat.ground.errors import UsageError
from chat.ground.gguf_cursor import Texts
from chat.ground.gguf_reader import GgufFile, read_gguf
from chat.request import EngineOptions

V01_METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": 32,
    "llama.embedding_length": 4096,
    "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8,
    "llama.context_length": 32768,
    "llama.feed_forward_length": 14336,
    "llama.rope.freq_base": 10000.0,
    "tokenizer.ggml.tokens": Texts(b"", 32000),
}


def header(**changed: Any) -> GgufFile:
    """The header of a v0.1 file with keys changed (`__` for `.`), or removed (None)."""
    values = {**V01_METADATA, **{name.replace("__", "."): value for name, value in changed.items()}}
    kept = {name: value for name, value in values.items() if value is not None}
    return GgufFile(Path("my models/v0.1.gguf"), 3, 0, 32, kept, {}, 0)


@pytest.mark.parametrize(
    "file",
    [
        header(),
        header(llama__rope__freq_base=None),  # files of 2023 leave the default out
        header(tokenizer__ggml__tokens=Texts(b"", 32002)),  # ChatML's two tokens more
        header(llama__attention__head_count_kv=(8,) * 32),
    ],
)
def test_v01_is_recognised(file: GgufFile) -> None:
    assert lost_window.lost_window(file) == 4096
    assert known_context(file, 32768) == sizes_of(file).trained_context == 4096
    assert lost_window_notice(file) == (
        "this looks like Mistral 7B v0.1, whose sliding window of 4,096 tokens the file lacks: the context is kept to "
        "4,096; `mistral-chat convert 'my models/v0.1.gguf' --window 4096` gives it its window"
    )


@pytest.mark.parametrize(
    "file",
    [
        header(llama__rope__freq_base=1e6),  # v0.2
        header(llama__rope__freq_base=5e5, tokenizer__ggml__tokens=Texts(b"", 128256)),  # Llama 3
        header(tokenizer__ggml__tokens=Texts(b"", 32768)),  # v0.3
        header(llama__attention__head_count_kv=32),  # Llama 2
        header(llama__attention__head_count_kv=None),
        header(llama__attention__head_count_kv=(8,) * 31 + (4,)),
        header(llama__expert_count=8),  # Mixtral
        header(llama__block_count=40),
        header(llama__embedding_length=5120),
        header(general__architecture="qwen3"),
        header(general__architecture="granite_swa"),
        header(tokenizer__ggml__tokens=None),
    ],
)
def test_nothing_else_is_taken_for_it(file: GgufFile) -> None:
    assert lost_window_notice(file) is None
    assert known_context(file, 32768) == 32768


def test_a_smaller_context_stays() -> None:
    assert known_context(header(), 2048) == 2048


def test_the_engine_keeps_to_it_and_says_so_once(tiny_v3_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule's numbers are made those of a tiny model; the rest is real."""
    file = read_gguf(tiny_v3_model)
    monkeypatch.setattr(lost_window, "V01_KEYS", {"block_count": (file.key("block_count"), None)})
    monkeypatch.setattr(lost_window, "V01_PIECES", range(file.vocabulary_size, file.vocabulary_size + 1))
    monkeypatch.setattr(lost_window, "V01_WINDOW", 512)
    room = load_room(EngineOptions(str(tiny_v3_model)))
    try:
        assert (room.limit, room.info.context) == (512, 512)
        assert room.notices == [lost_window_notice(file)]
        with pytest.raises(UsageError, match=r"`--context 1024` is more than the 512 the model knows"):
            load_room(replace(room.options, context=1024))
    finally:
        room.close()
