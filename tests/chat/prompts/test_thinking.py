"""Reasoning is switched by what a model reads: its template's variable, its effort, or its system prompt."""

from __future__ import annotations

import itertools

import pytest

from chat.core.backend import ModelInfo
from chat.core.conversation import Message
from chat.core.request import Prompt, Request
from chat.errors import ChatError
from chat.prompts.model_settings import KNOWN_EFFORTS, THINKING_VARIABLES, ReasoningEfforts, reasoning_efforts
from chat.prompts.render_template import render
from chat.prompts.segments import ChatTemplate, PromptMessages
from chat.prompts.thinking import refused_wishes, thinking_control, with_release_defaults
from tests.chat.prompts.template_conversations import SPECIAL_TOKENS
from tests.chat.prompts.test_template_references import references
from tests.grids import FULL

USER, SYSTEM = Message("user", "hi"), Message("system", "Be brief.")
OWN = "Think as in [THINK]thoughts[/THINK] first."


def model(control: str, *, efforts: tuple[str, ...] = ()) -> ModelInfo:
    return ModelInfo(
        path="", size=0, type="", architecture="llama", window=None, context=1, trained_context=1, prompt_format="v13",
        efforts=efforts, thinking_control=control,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("prompt_format", "template", "efforts", "system", "control"),
    [
        ("template", "{% if enable_thinking is false %}{% endif %}", None, "", "template"),
        ("template", "{% if not thinking %}{% endif %}", None, "", "template"),
        ("template", "{{ 'thinking hard' }}", None, "", ""),
        ("v13", "{% if enable_thinking %}", None, "", ""),
        ("v15", "", ReasoningEfforts(("none", "high"), "high", is_stated=True), "", "effort"),
        ("v15", "", ReasoningEfforts(KNOWN_EFFORTS, "none", is_stated=False), "", ""),
        ("v15", "", ReasoningEfforts(("none",), "none", is_stated=True), "", ""),
        ("v13", "", None, OWN, "system prompt"),
        ("v13", "", None, "Be kind.", ""),
    ],
)
def test_what_switches_it_is_read_off_the_model(
    prompt_format: str, template: str, efforts: ReasoningEfforts | None, system: str, control: str
) -> None:
    assert thinking_control(prompt_format, template, efforts, system) == control


TEMPLATES = (
    *("LFM2.5-8B-A1B", "MiniMax-M3", "NVIDIA-Nemotron-Nano-v2", "Qwen-Qwen3-0.6B"),
    *("deepseek-ai-DeepSeek-V3.1", "ibm-granite-granite-3.3-2B-Instruct", "openai-gpt-oss-120b"),
)


@pytest.mark.parametrize("name", references() if FULL else TEMPLATES)
def test_a_template_switches_it_if_its_prompts_differ(name: str) -> None:
    """Names that a template sets itself, or that it spells in other words, were taken for the switch; Granite's not."""
    template = references()[name]["template"]
    on, off = (_written(template, thinks) for thinks in (True, False))
    assert thinking_control("template", template, None, "") == ("template" if on != off else "")


@pytest.mark.parametrize("name", ["openai-gpt-oss-120b", "Cohere2MoE", "upstage-Solar-Open-100B"])
def test_efforts_that_a_template_does_not_list_switch_nothing(name: str) -> None:
    """All efforts that are known were taken for its own, so `none` was written into the prompt."""
    template = references()[name]["template"]
    efforts = reasoning_efforts({"tokenizer.chat_template": template}, "template")
    assert efforts == ReasoningEfforts(KNOWN_EFFORTS, "", is_stated=False)
    assert thinking_control("template", template, efforts, "") == ""


def _written(template: str, thinks: bool) -> str:
    """The segments of a prompt, or why there is none."""
    settings = dict.fromkeys(THINKING_VARIABLES, thinks)
    try:
        return repr(render(PromptMessages((USER,), (), False, ChatTemplate(template, {}, SPECIAL_TOKENS), settings)))
    except ChatError as error:
        return error.message


@pytest.mark.parametrize(
    ("thinks", "chosen", "told"),
    [(None, None, None), (True, None, "high"), (False, None, "none"), (True, "low", "low"), (False, "low", "low")],
)
def test_an_effort_stands_for_it_unless_one_was_chosen(thinks: bool | None, chosen: str | None, told: str) -> None:
    info = model("effort", efforts=("none", "low", "high", "max"))
    assert with_release_defaults(Prompt((USER,), thinks=thinks, effort=chosen), info, str).effort == told


def test_without_high_the_last_effort_is_the_most() -> None:
    info = model("effort", efforts=("none", "low"))
    assert with_release_defaults(Prompt((USER,), thinks=True), info, str).effort == "low"


@pytest.mark.parametrize(
    ("thinks", "messages", "expected"),
    [
        (None, (USER,), (Message("system", OWN), USER)),
        (True, (USER,), (Message("system", OWN), USER)),
        (False, (USER,), (USER,)),
        (None, (SYSTEM, USER), (SYSTEM, USER)),
        (True, (SYSTEM, USER), (Message("system", f"Be brief.\n\n{OWN}"), USER)),
        (False, (SYSTEM, USER), (SYSTEM, USER)),
        (True, (Message("system", "[THINK]so[/THINK]"), USER), (Message("system", "[THINK]so[/THINK]"), USER)),
    ],
)
def test_a_system_prompt_about_it_is_added_or_left_out(
    thinks: bool | None, messages: tuple[Message, ...], expected: tuple[Message, ...]
) -> None:
    prompt = Prompt(messages, default_system=True, thinks=thinks)
    assert with_release_defaults(prompt, model("system prompt"), lambda: OWN).messages == expected


def test_a_wish_that_the_model_cannot_follow_is_told() -> None:
    def said(thinks: bool | None, has_marks: bool, limit: int | None, control: str = "") -> tuple[str, ...]:
        asked = Request(Prompt((USER,), thinks=thinks), max_thinking_tokens=limit)
        return refused_wishes(asked, model(control), has_marks=has_marks)

    found = {key: said(*key) for key in itertools.product((None, True, False), (True, False), (None, 9))}
    on = "this model does not think before it answers, so `--think on` changes nothing"
    off = "this model cannot be told not to think; `--think hide` keeps its thoughts off the screen"
    limit = "this model does not mark its reasoning, so `--think-limit` changes nothing"
    assert {key: sentences for key, sentences in found.items() if sentences} == {
        (None, False, 9): (limit,),
        (True, False, None): (on,),
        (True, False, 9): (on, limit),
        (False, True, None): (off,),
        (False, True, 9): (off,),
        (False, False, 9): (limit,),
    }
    assert said(False, True, None, "template") == ()
    assert said(True, False, 9, "effort") == (limit,), "a model may think without marks"
    assert refused_wishes(Request(Prompt(text="x"), max_thinking_tokens=9), model(""), has_marks=False) == ()
