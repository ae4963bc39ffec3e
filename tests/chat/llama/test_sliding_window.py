"""A plain GGUF of Mistral 7B v0.1 is recognised, its context kept to the window it lost, and the way out is said."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chat.cli.main import run
from chat.core.request import EngineOptions
from chat.errors import UsageError
from chat.gguf.cursor import Texts
from chat.gguf.reader import GgufFile, read_gguf
from chat.inference.loaded_model import load_model
from chat.llama import sliding_window
from chat.llama.memory_estimate import sizes_of
from chat.llama.sliding_window import known_context, missing_window, missing_window_notice
from tests.convert.samples import V01

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
    values.setdefault(f"{values['general.architecture']}.context_length", 32768)
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
    assert missing_window(file) == 4096
    assert known_context(file) == sizes_of(file).trained_context == 4096
    assert missing_window_notice(file) == (
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
    assert missing_window_notice(file) is None
    assert known_context(file) == 32768


def noted(window: int, pattern: tuple[bool, ...] | None = None, **changed: Any) -> GgufFile:
    """The header of a file that our converter wrote without its window, of no release's shape."""
    notes = {"mistral_chat__sliding_window": window, "mistral_chat__sliding_window_pattern": pattern}
    return header(llama__block_count=36, **notes, **changed)


@pytest.mark.parametrize("pattern", [None, (False, True, True, True) * 9])
def test_a_window_that_was_left_out_on_purpose_is_known_by_its_note(pattern: tuple[bool, ...] | None) -> None:
    file = noted(8192, pattern)
    assert known_context(file) == 8192
    assert missing_window_notice(file) == (
        "this model's sliding window of 8,192 tokens was left out of the file: the context is kept to 8,192; "
        "`mistral-chat convert 'my models/v0.1.gguf' --window auto` gives it its window"
    )


@pytest.mark.parametrize(
    "file",
    [
        header(mistral_chat__sliding_window=0),  # v0.1's shape, but made without a window, as the note says
        noted(32768),  # no smaller than the context
        noted(8192, (False,) * 36),
        noted(8192, general__architecture="granite_swa"),
    ],
)
def test_a_note_is_believed(file: GgufFile) -> None:
    assert (missing_window_notice(file), known_context(file)) == (None, 32768)


@pytest.mark.parametrize(("file", "window"), [(header(), 4096), (noted(8192), 8192)])
def test_who_asks_for_no_window_gets_the_whole_context_and_one_warning_past_it(file: GgufFile, window: int) -> None:
    assert known_context(file, "off") == 32768
    assert missing_window_notice(file, "off", window) is None
    warning = missing_window_notice(file, "off", window + 1)
    assert warning is not None
    assert warning.endswith(
        f": beyond {window:,} tokens it looks further back than in training, and answers may get worse"
    )


def test_a_smaller_context_stays() -> None:
    assert known_context(header(llama__context_length=2048)) == 2048


def test_the_engine_keeps_to_it_and_says_so_once(plain_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule's numbers are made those of a tiny model; the rest is real."""
    file = read_gguf(plain_file)
    monkeypatch.setattr(sliding_window, "V01_KEYS", {"block_count": (file.key("block_count"), None)})
    monkeypatch.setattr(sliding_window, "V01_PIECES", range(file.vocabulary_size, file.vocabulary_size + 1))
    monkeypatch.setattr(sliding_window, "V01_WINDOW", 512)
    room = load_model(EngineOptions(str(plain_file)))
    try:
        assert (room.limit, room.info.context) == (512, 512)
        assert room.reports.notices == [missing_window_notice(file)]
        with pytest.raises(
            UsageError, match=r"`--context 1024` is more than the 512 tokens that the model can read"
        ) as error:
            load_model(replace(room.options, context=1024))
        assert error.value.hint == (
            f"`mistral-chat convert {plain_file} --window 512` gives it its window; `--window off` runs it without"
        )
    finally:
        room.close()


@pytest.mark.slow
def test_a_persons_own_choice_wins_with_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real command: the model has a window of 64 in its checkpoint, and none in its file."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    model = tmp_path / "plain.gguf"
    assert run(["convert", str(V01), "--window", "off", "-t", "F32", "-o", str(model), "--no-verify", "-q"]) == 0
    capsys.readouterr()
    prompt = ["-m", str(model), "-n", "2", "--temperature", "0", "a " * 200]
    assert run(prompt) == 5
    assert "the context holds 64" in capsys.readouterr().err
    assert run([*prompt, "--context", "512"]) == 2
    shown = capsys.readouterr().err
    assert "`--context 512` is more than the 64 tokens that the model can read\nhint: " in shown
    assert "--window auto` gives it its window; `--window off` runs it without" in shown
    assert run([*prompt, "--context", "512", "--window", "off"]) == 0
    shown = capsys.readouterr().err
    assert shown.count("sliding window") == 1
    assert "this model's sliding window of 64 tokens was left out of the file: beyond 64 tokens it looks" in shown
    assert run(["convert", str(model), "-o", str(tmp_path / "back.gguf"), "-q"]) == 0
    assert run([*prompt[:1], str(tmp_path / "back.gguf"), *prompt[2:]]) == 0
    assert "window" not in capsys.readouterr().err
