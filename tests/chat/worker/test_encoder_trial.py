"""The trial of a picture encoder needs memory, which is asked for before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from chat.errors import MemoryLimitError
from chat.worker import encoder_trial


def test_an_encoder_larger_than_the_memory_is_not_loaded(
    seeing_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = seeing_model()
    mmproj = model.with_name("mmproj-small3-F32.gguf")
    monkeypatch.setattr(encoder_trial, "host_free_bytes", lambda: 1000)
    with pytest.raises(MemoryLimitError, match=r"F32.gguf needs 965 kB of memory, but 1 kB is free$"):
        encoder_trial.answer({"mmproj": str(mmproj), "model": str(model)}, lambda _: None)
