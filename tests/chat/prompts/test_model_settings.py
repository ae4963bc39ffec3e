"""The efforts of a model come from its tokenizer file, else from its chat template, and others are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chat.core.conversation import Message
from chat.core.request import Prompt
from chat.errors import UsageError
from chat.prompts.builder import encode
from chat.prompts.model_settings import KNOWN_EFFORTS, ReasoningEfforts, reasoning_efforts
from tests.chat.prompts.test_detect import mistral_template
from tests.chat.vocabulary_files import case

BUILDER = {"reasoning_effort": {"type": "enum", "values": ["low", "max"], "default": "max"}}
LEAVE_OUT = "leave out `--effort`"
KEY, TEMPLATE = "mistral_chat.model_settings", "tokenizer.chat_template"
SHORT = """[MODEL_SETTINGS]{"reasoning_effort": "{{ reasoning_effort or 'high' }}"}[/MODEL_SETTINGS]"""


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({KEY: json.dumps(BUILDER), TEMPLATE: SHORT}, ReasoningEfforts(("low", "max"), "max", is_stated=True)),
        ({KEY: json.dumps({"reasoning_effort": None})}, None),
        ({KEY: "{}"}, None),
        ({KEY: "no json"}, None),
        ({KEY: '{"reasoning_effort": 7}'}, None),
        ({TEMPLATE: mistral_template("v15", spm=False)}, ReasoningEfforts(("none", "high"), "high", is_stated=True)),
        ({TEMPLATE: SHORT}, ReasoningEfforts(KNOWN_EFFORTS, "high", is_stated=False)),
        (
            {TEMPLATE: "{{ reasoning_effort | default('low') }}"},
            ReasoningEfforts(KNOWN_EFFORTS, "low", is_stated=False),
        ),
        (
            {f"{TEMPLATE}s": ["default"], f"{TEMPLATE}.default": SHORT},
            ReasoningEfforts(KNOWN_EFFORTS, "high", is_stated=False),
        ),
        ({}, ReasoningEfforts(KNOWN_EFFORTS, "none", is_stated=False)),
    ],
)
def test_the_efforts_of_a_model(metadata: dict[str, Any], expected: ReasoningEfforts | None) -> None:
    assert reasoning_efforts(metadata, "v15") == expected
    assert reasoning_efforts(metadata, "v13") is None


def test_the_settings_stand_before_the_first_user_message() -> None:
    here = case("v15")
    prompt = Prompt((Message("system", "s"), Message("user", "u"), Message("assistant", "a"), Message("user", "v")))
    start = (
        '<s>[SYSTEM_PROMPT]s[/SYSTEM_PROMPT][MODEL_SETTINGS]{"reasoning_effort": "none"}[/MODEL_SETTINGS][INST]u[/INST]'
    )
    assert here.vocabulary.text_of(encode(prompt, here.vocabulary, "v15")) == f"{start}a</s>[INST]v[/INST]"


@pytest.mark.parametrize(
    ("name", "effort", "message", "hint"),
    [
        ("v15", "medium", "the model has no reasoning effort 'medium'", "one of none, high"),
        ("v15", "", "the model has no reasoning effort ''", "one of none, high"),
        ("v13", "high", "the model has no reasoning effort to choose", LEAVE_OUT),
        ("raw", "high", "the model has no reasoning effort to choose", LEAVE_OUT),
    ],
)
def test_an_effort_that_the_model_lacks_is_refused(name: str, effort: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        encode(Prompt((Message("user", "u"),), effort=effort), case("v15").vocabulary, name)
    assert (caught.value.message, caught.value.hint) == (message, hint)
