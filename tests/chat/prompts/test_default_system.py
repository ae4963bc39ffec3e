"""The system prompt of a release is used where the user gives none, in Mistral's own formats."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace

import pytest

from chat.core.backend import ModelInfo
from chat.core.conversation import Message
from chat.core.request import EngineOptions, Prompt, Request
from chat.inference import loaded_model
from chat.inference.loaded_model import LoadedVocabulary
from chat.inference.response import render
from chat.prompts import jinja_sandbox
from chat.prompts.default_system import default_system_prompt, with_default_system
from tests.chat.prompts.test_template_references import FixedTime, references
from tests.chat.vocabulary_files import case

TEMPLATE = "tokenizer.chat_template"
KEY = "mistral_chat.system_prompt"
USER, OWN = Message("user", "hi"), Message("system", "own")


def test_dates_are_those_of_the_day_and_nothing_else_is_filled_in() -> None:
    text = default_system_prompt({KEY: "Now {today}, not {yesterday}. {x} {{}}"}, "v13", date(2025, 3, 1))
    assert text == "Now 2025-03-01, not 2025-02-28. {x} {{}}"


@pytest.mark.parametrize("name", ["raw", "chatml", "template"])
def test_formats_of_other_families_get_none(name: str) -> None:
    assert default_system_prompt({KEY: "text"}, name, date(2025, 3, 1)) == ""
    assert default_system_prompt({KEY: 7}, "v13", date(2025, 3, 1)) == ""


@pytest.mark.parametrize(
    ("prompt", "messages"),
    [
        (Prompt((USER,), default_system=True), (OWN, USER)),
        (Prompt((USER,)), (USER,)),
        (Prompt((Message("system", "x"), USER), default_system=True), (Message("system", "x"), USER)),
        (Prompt(text="x", default_system=True), None),
        (Prompt(ids=(1,), default_system=True), None),
    ],
)
def test_only_messages_without_a_decision_get_it(prompt: Prompt, messages: tuple[Message, ...] | None) -> None:
    called: list[None] = []
    assert with_default_system(prompt, lambda: called.append(None) or "own").messages == messages
    assert bool(called) == (messages == (OWN, USER)), "a template is run only where its system prompt is needed"
    assert with_default_system(prompt, str) == prompt


@pytest.mark.parametrize(
    ("name", "prompt_format", "start"),
    [
        (
            "Mistral-Small-3.2-24B-Instruct-2506",
            "v11",
            "You are Mistral Small 3, a Large Language Model",
        ),
        ("unsloth-mistral-Devstral-Small-2507", "v11", "You are Devstral, a helpful agentic model trained by Mistral"),
        ("mistralai-Ministral-3-14B-Reasoning-2512", "v13", "# HOW YOU SHOULD THINK AND ANSWER\n\nFirst draft your"),
    ],
)
def test_a_file_of_another_converter_gets_what_its_template_writes(
    name: str, prompt_format: str, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that llama.cpp converted hold the prompt in their chat template alone, and it was left out."""
    monkeypatch.setattr(jinja_sandbox, "datetime", FixedTime)
    template = references()[name]["template"]
    text = default_system_prompt({TEMPLATE: template}, prompt_format, date(2000, 1, 1))
    assert text.startswith(start)
    assert "strftime" not in text and "{today}" not in text
    assert ("2026-02-03" in text) == ("strftime_now" in template)
    assert default_system_prompt({TEMPLATE: template, KEY: "own"}, prompt_format, date.today()) == "own"
    assert default_system_prompt({TEMPLATE: template}, "v3", date.today()) == ""


@pytest.mark.parametrize(
    "text", ["{% set default_system_message = 1 %}", "{{ default_system_message.x.y }}", "{% if %}"]
)
def test_a_template_that_writes_none_or_fails_gives_none(text: str) -> None:
    assert default_system_prompt({TEMPLATE: text}, "v13", date.today()) == ""


def test_each_question_has_the_date_of_its_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that ran for days told the date of its start."""
    here = case("v7")
    file = SimpleNamespace(metadata={KEY: "Now {today}"})
    info = ModelInfo("m.gguf", 1, "F32", "llama", None, 64, 64, "v7", system_prompt="Now 2025-03-01")
    loaded = LoadedVocabulary(EngineOptions("m.gguf"), file, None, here.vocabulary, "v7", None, info)  # type: ignore[arg-type]
    for day in ("2025-03-01", "2025-03-02"):
        monkeypatch.setattr(loaded_model, "date", SimpleNamespace(today=lambda day=day: date.fromisoformat(day)))
        rendered = render(loaded, Request(Prompt((USER,), default_system=True)))
        assert rendered.text == f"<s>[SYSTEM_PROMPT]▁Now▁{day}[/SYSTEM_PROMPT][INST]▁hi[/INST]".replace("▁", " ")
