"""Chat templates of many families write the texts that transformers makes of the same conversations."""

from __future__ import annotations

import datetime
import json
import lzma
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from chat.core.conversation import Message
from chat.errors import ChatError
from chat.prompts import jinja_sandbox
from chat.prompts.render_template import render
from chat.prompts.segments import ChatTemplate, Markup, PromptMessages, Text
from tests.chat.prompts.template_conversations import NOW, SPECIAL_TOKENS, conversations

REFERENCES = Path(__file__).parent / "template_references.json.xz"

# Of 24 conversations each. "both refuse": the template itself does, or needs tools or variables that are not there.
# "read in another shape": transformers fails, also where it looks for a continued answer that the template rewrites.
# "would lose a message": transformers leaves out calls, or a system prompt, without a word.
# "different": transformers' prompt lacks the calls, which the template writes where the content is null.
_ONE_REWRITTEN = {"equal": 23, "read in another shape": 1}
EXCEPTIONS: dict[str, dict[str, int]] = {
    "Bielik-11B-v3.0-Instruct": _ONE_REWRITTEN,
    "CohereForAI-c4ai-command-r-plus-tool_use": {"equal": 8, "both refuse": 16},
    "GLM-4.6": _ONE_REWRITTEN,
    "GLM-4.7-Flash": _ONE_REWRITTEN,
    "HuggingFaceTB-SmolLM2-135M-Instruct": {"equal": 20, "would lose a message": 4},
    "HuggingFaceTB-SmolLM3-3B": {"equal": 20, "would lose a message": 4},
    "Kimi-K2-Instruct": {"equal": 17, "both refuse": 7},
    "Kimi-K2-Thinking": {"equal": 17, "both refuse": 7},
    "MiniMax-M2": _ONE_REWRITTEN,
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use": {"equal": 8, "both refuse": 16},
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": {"equal": 8, "both refuse": 16},
    "Qwen-Qwen3-0.6B": _ONE_REWRITTEN,
    "Qwen3.5-4B": _ONE_REWRITTEN,
    "Reka-Edge": _ONE_REWRITTEN,
    "StepFun3.5-Flash": _ONE_REWRITTEN,
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": {"equal": 20, "different": 4},
    "fireworks-ai-llama-3-firefunction-v2": {"equal": 0, "both refuse": 24},
    "google-gemma-2-2b-it": {"equal": 8, "both refuse": 16},
    "llama-cpp-deepseek-r1": {"equal": 16, "both refuse": 8},
    "llama-cpp-rwkv-world": {"equal": 20, "would lose a message": 3, "both refuse": 1},
    "meetkai-functionary-medium-v3.2": {"equal": 17, "read in another shape": 7},
    "microsoft-Phi-3.5-mini-instruct": {"equal": 20, "would lose a message": 4},
    "mistralai-Mistral-Nemo-Instruct-2407": {"equal": 19, "would lose a message": 5},
    "openbmb-MiniCPM5-1B": _ONE_REWRITTEN,
    "poolside-Laguna-XS-2.1": _ONE_REWRITTEN,
    "poolside-Laguna-XS.2": _ONE_REWRITTEN,
}


class FixedTime(datetime.datetime):
    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> FixedTime:
        return cls(*NOW)


@cache
def references() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(lzma.decompress(REFERENCES.read_bytes()))
    return loaded


def written(template: str, messages: tuple[Message, ...], tools: Any, continues: bool) -> str | ChatError:
    """The text of a prompt, or why there is none."""
    try:
        parts = render(PromptMessages(messages, tools, continues, ChatTemplate(template, {}, SPECIAL_TOKENS)))
    except ChatError as error:
        return error
    return "".join(part.text for part in parts if isinstance(part, Markup | Text))


def outcome(expected: str | None, got: str | ChatError) -> str:
    """How a prompt compares with that of transformers."""
    if expected is None:
        return "both refuse" if isinstance(got, ChatError) else "read in another shape"
    if isinstance(got, ChatError):
        return "would lose a message" if "has no place for" in got.message else "refused"
    return "equal" if got == expected else "different"


@pytest.mark.slow
@pytest.mark.parametrize("name", references())
def test_a_template_writes_what_transformers_makes_of_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jinja_sandbox, "datetime", FixedTime)
    reference = references()[name]
    found = Counter(
        outcome(expected, written(reference["template"], *conversation))
        for conversation, expected in zip(conversations(), reference["expected"], strict=True)
    )
    assert found == Counter({"equal": 24, **EXCEPTIONS.get(name, {})})
