"""How much of a prompt the next turn's prompt begins with, and how often a turn renders its conversation."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from chat.core.conversation import Message
from chat.core.request import Prompt, Request
from chat.prompts import builder
from chat.prompts.builder import build_prompt, encode, stable_prefix_length
from chat.prompts.registry import FORMATS
from tests.chat.prompts.mistral_common_reference import text
from tests.chat.vocabulary_files import FORMATS as MISTRAL_FORMATS
from tests.chat.vocabulary_files import case
from tests.grids import FULL

OTHERS = ("chatml", "zephyr", "raw")


def conversation(dice: random.Random, turns: int) -> tuple[Message, ...]:
    messages = [Message("system", "Be brief."), Message("user", text(dice) or "x")]
    for _ in range(turns):
        messages += [Message("assistant", text(dice) or "ok"), Message("user", text(dice) or "x")]
    return tuple(messages)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MISTRAL_FORMATS, *OTHERS])
def test_a_longer_prompt_begins_with_the_stable_prefix_of_the_shorter(name: str) -> None:
    """Formats that say so keep the whole prompt; for the others the two prompts are compared."""
    here = case(name if name in MISTRAL_FORMATS else "v3")
    for seed in range(20 if FULL else 9):
        dice = random.Random(seed)
        prompt = Prompt(messages=conversation(dice, seed % 3))
        assert prompt.messages is not None
        generated = tuple(here.vocabulary.encode([builder.Text("ok")]))
        answer = Message("assistant", here.vocabulary.decode(generated), generated)
        longer = replace(prompt, messages=(*prompt.messages, answer, Message("user", text(dice) or "x")))
        ids = encode(prompt, here.vocabulary, name)
        length = stable_prefix_length(prompt, ids, here.vocabulary, name)
        assert encode(longer, here.vocabulary, name)[:length] == ids[:length], f"seed {seed}"
        assert (length == len(ids)) >= FORMATS[name].keeps_prefix


@pytest.mark.slow
@pytest.mark.parametrize(("name", "renderings"), [("v1", 1), ("v3", 2), ("v7", 1), ("raw", 2)])
def test_a_turn_renders_its_conversation_once_where_the_format_keeps_the_prefix(
    name: str, renderings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = case(name if name in MISTRAL_FORMATS else "v3")
    rendered: list[str] = []
    render = builder.render

    def counted(format_name: str, *arguments: object) -> object:
        rendered.append(format_name)
        return render(format_name, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(builder, "render", counted)
    request = Request(Prompt(messages=conversation(random.Random(1), 2)))
    prompt = build_prompt(request, here.vocabulary, name, None, drop=False)
    stable_prefix_length(request.prompt, prompt.ids, here.vocabulary, name)
    assert rendered == [name] * renderings
