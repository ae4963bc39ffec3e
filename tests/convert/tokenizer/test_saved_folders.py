"""Folders as fine-tuning programs save them give the ids that transformers gives there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chat.core.conversation import Message
from chat.core.request import Prompt
from chat.llama.tokenizer.tokenizer import Tokenizer
from chat.prompts.builder import encode
from chat.prompts.registry import render
from chat.prompts.segments import Control, Segment, Text
from convert.tokenizer.load import read_vocabulary
from tests.chat.vocabulary_files import load, write_vocabulary
from tests.convert.tokenizer.saved_folders import CONVERSATIONS, FOLDERS, TEXTS, make_tokenizer_folder

EXPECTED: dict[str, Any] = json.loads((Path(__file__).parent / "transformers_ids.json").read_text())


def vocabulary_of(name: str, folder: Path) -> tuple[Tokenizer, dict[str, Any]]:
    size = make_tokenizer_folder(folder / "model", name)
    stored = read_vocabulary(folder / "model", size)
    assert stored.warnings == ()
    return load(write_vocabulary(folder / "vocabulary.gguf", stored))


def chatml(conversation: list[tuple[str, str]]) -> list[Segment]:
    segments: list[Segment] = []
    for role, text in [*conversation, ("assistant", "")]:
        segments += [Control("<|im_start|>"), Text(f"{role}\n", joined=True), Text(text, joined=True)]
        segments += [Control("<|im_end|>"), Text("\n", joined=True)]
    return segments[:-2]


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_texts_and_prompts_have_the_ids_of_transformers(name: str, tmp_path: Path) -> None:
    """Nested Metaspace steps lost the leading space, and `first` put one after control pieces too."""
    vocabulary, _ = vocabulary_of(name, tmp_path)
    expected = EXPECTED[name]
    bos = () if name.startswith(("llama", "tokenizer.model")) else (1,)
    for text, ids in zip(TEXTS, expected["texts"], strict=True):
        found = encode(Prompt(text=text), vocabulary, "raw")
        assert (*bos, *found[1:]) == tuple(ids), repr(text)
    for conversation, ids in zip(CONVERSATIONS, expected["conversations"], strict=True):
        if name.endswith("chatml"):
            assert vocabulary.encode(chatml(conversation)) == ids, conversation
        elif len(conversation) == 1 and conversation[0][1].strip() and name.startswith(("metaspace", "sequence")):
            # the older ones begin with two spaces in transformers, with one in mistral-common
            assert vocabulary.encode(render("v3", [Message(*conversation[0])])) == ids, conversation
