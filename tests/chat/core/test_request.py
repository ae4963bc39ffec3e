"""A prompt has one source; its length is known without a tokenizer."""

from __future__ import annotations

from typing import Any

import pytest

from chat.core.conversation import Message
from chat.core.request import EngineOptions, Prompt


@pytest.mark.parametrize("parts", [{}, {"text": "a", "ids": (1,)}, {"messages": (), "text": ""}])
def test_a_prompt_is_one_of_messages_text_and_ids(parts: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^a prompt is either messages, text or ids$"):
        Prompt(**parts)


def test_the_length_is_that_of_the_text_in_bytes() -> None:
    assert Prompt(text="é").length == 2
    assert Prompt(messages=(Message("user", "abc"), Message("assistant", "d"))).length == 4
    assert Prompt(ids=(1, 2, 3)).length == 12
    assert Prompt(text="\ud800").length == 1


@pytest.mark.parametrize(
    ("gpu_layers", "most_gpu_layers", "wants_gpus"),
    [("auto", None, True), ("auto", 5, True), ("auto", 0, False), ("all", None, True), ("0", None, False),
     ("00", None, False), ("10", None, True)],
)  # fmt: skip
def test_zero_layers_want_no_gpu(gpu_layers: str, most_gpu_layers: int | None, wants_gpus: bool) -> None:
    options = EngineOptions("model.gguf", gpu_layers=gpu_layers, most_gpu_layers=most_gpu_layers)
    assert options.wants_gpus is wants_gpus
