"""Our ids are mistral-common's, for every conversation in every format, and what it refuses we refuse."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from chat.core.request import Prompt
from chat.errors import DataError, UsageError
from chat.prompts.builder import encode
from chat.prompts.segments import Text
from tests.chat.prompts.mistral_common_reference import (
    CONTROL_LOOKING,
    ODD,
    SCRIPTS,
    TOOLS,
    conversation,
    reference_ids,
    text,
)
from tests.chat.vocabulary_files import FORMATS, FULL, Case, case

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.core.conversation import Message

CONVERSATIONS = 2000 if FULL else 120
THINKING = ("v13", "v15")


def our_ids(
    here: Case, messages: Sequence[Message], tools: Sequence[dict[str, Any]], continues: bool, effort: str | None
) -> list[int] | None:
    prompt = Prompt(tuple(messages), tools=tuple(tools), continues=continues, effort=effort)
    try:
        return list(encode(prompt, here.vocabulary, here.name))
    except (DataError, UsageError):
        return None


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_conversations_have_the_reference_ids_or_are_refused_by_both(name: str) -> None:
    here = case(name)
    refused = 0
    for seed in range(CONVERSATIONS):
        dice = random.Random(seed)
        with_tools = seed % 3 == 0
        messages = conversation(dice, tools=with_tools, thinks=name in THINKING)
        tools = TOOLS[: dice.randrange(3)] if with_tools else ()
        continues = bool(messages) and messages[-1].role == "assistant" and dice.random() < 0.7
        effort = dice.choice((None, None, "none", "high", "max")) if name == "v15" else None
        theirs = reference_ids(here.reference, messages, tools, continues, effort, marked_systems=name == "v13")
        ours = our_ids(here, messages, tools, continues, effort)
        assert ours == theirs, f"seed {seed}"
        refused += ours is None
    assert refused < CONVERSATIONS * 0.6, "most conversations are in order, else nothing was compared"


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_odd_texts_alone_have_the_reference_ids(name: str) -> None:
    here = case(name)
    dice = random.Random(7)
    texts = [*ODD, *SCRIPTS, *CONTROL_LOOKING, *(text(dice, 12) for _ in range(CONVERSATIONS))]
    for each in texts:
        assert here.vocabulary.encode([Text(each)]) == here.text_ids(each), repr(each)
