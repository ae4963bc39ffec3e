"""Tool calls that templates write as text come back out of answers, and what is no call stays text."""

from __future__ import annotations

import json
from functools import cache

import pytest

from chat.core.conversation import Message, ToolCall
from chat.prompts.render_template import render
from chat.prompts.segments import ChatTemplate, Markup, PromptMessages, Text
from chat.prompts.text_calls import CallHolder, TextCalls, parse_text_calls, text_calls
from chat.prompts.tool_call_parser import new_call_id
from tests.chat.prompts.template_conversations import SPECIAL_TOKENS, TOOLS
from tests.chat.prompts.test_template_references import references

MARKED = (
    *(
        "Bielik-11B-v3.0-Instruct",
        "MiMo-VL",
        "Qwen-QwQ-32B",
        "Qwen-Qwen2.5-7B-Instruct",
        "Qwen-Qwen3-0.6B",
        "Reka-Edge",
    ),
    *("NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", "NousResearch-Hermes-3-Llama-3.1-8B-tool_use"),
    *("ibm-granite-granite-4.0", "ibm-granite-granite-4.1"),
)
BARE = tuple(f"meta-llama-Llama-{name}-Instruct" for name in ("3.1-8B", "3.2-3B", "3.3-70B"))
WEATHER = ToolCall("get_weather", '{"city": "Z\u00fcrich </b> \\"x\\"\\n", "unit": null}', new_call_id("", 0))
ADD = ToolCall("add", '{"a": 1, "b": [2.5, {}]}', new_call_id("", 1))
MARKED_CALLS = TextCalls("marked")
BARE_CALLS = TextCalls("bare", frozenset({"get_weather", "add"}))


@cache
def template(name: str) -> ChatTemplate:
    return ChatTemplate(references()[name]["template"], {}, SPECIAL_TOKENS)


def prompt(name: str, *messages: Message) -> str:
    parts = render(PromptMessages(messages, TOOLS, template=template(name)))
    return "".join(part.text for part in parts if isinstance(part, Markup | Text))


@pytest.mark.slow
def test_these_templates_have_calls_of_text_and_no_others() -> None:
    found = {name: text_calls(template(name), TOOLS) for name in references()}
    assert {name: calls.style for name, calls in found.items() if calls is not None} == {
        **dict.fromkeys(MARKED, "marked"),
        **dict.fromkeys(BARE, "bare"),
    }
    assert text_calls(template(MARKED[0]), ()) is None


@pytest.mark.parametrize(
    ("name", "content", "calls"),
    [
        *((name, "", (WEATHER, ADD)) for name in MARKED),
        *((name, "Let me look.", (WEATHER,)) for name in MARKED if "Hermes" not in name),  # those leave it out
        *((name, "", (WEATHER,)) for name in BARE),
    ],
)
def test_calls_that_a_template_writes_are_read_again(name: str, content: str, calls: tuple[ToolCall, ...]) -> None:
    """What a model trained on the template generates is what the template writes between the question and a result."""
    result = Message("tool", "RESULT", tool_call_id=calls[0].id, name="get_weather")
    whole = prompt(name, Message("user", "Q?"), Message("assistant", content, tool_calls=calls), result)
    answer = whole.rpartition("Q?")[2].partition("RESULT")[0]
    style = text_calls(template(name), TOOLS)
    assert style is not None
    if style.style == "marked":
        start = min(at for at in (answer.find(content or "<tool_call>"), answer.find("<tool_call>")) if at >= 0)
        answer = answer[start : answer.rfind("</tool_call>") + len("</tool_call>")]
    else:
        answer = answer[answer.index("{") : answer.rindex("}") + 1]
    parsed = parse_text_calls(answer, style)
    assert parsed.text == content
    assert [(call.name, json.loads(call.arguments), call.id) for call in parsed.calls] == [
        (call.name, json.loads(call.arguments), call.id) for call in calls
    ]


@pytest.mark.parametrize(
    ("calls", "text"),
    [
        (MARKED_CALLS, "<tool_call>"),
        (MARKED_CALLS, "<tool_call>{}</tool_call>"),
        (MARKED_CALLS, '<tool_call>{"name": "add"}</tool_call>'),
        (MARKED_CALLS, '<tool_call>{"name": "add", "arguments": "x"}</tool_call>'),
        (MARKED_CALLS, '<tool_call>{"name": "a b", "arguments": {}}</tool_call>'),
        (MARKED_CALLS, '<tool_call>{"name": "add", "arguments": {}}</tool_call> <tool_call>{"name": </tool_call>'),
        (MARKED_CALLS, "<tool_call>" + "[" * 10**5),
        (MARKED_CALLS, '{"name": "add", "arguments": {}}'),
        (BARE_CALLS, '{"name": "other", "parameters": {}}'),
        (BARE_CALLS, '{"name": "add", "parameters": {}} and more'),
        (BARE_CALLS, 'See {"name": "add", "parameters": {}}'),
        (BARE_CALLS, '{"name": "add", "parameters": {}, "arguments": {}}'),
        (BARE_CALLS, "{" * 10**5),
        (BARE_CALLS, ""),
    ],
)
def test_what_is_no_call_stays_text(calls: TextCalls, text: str) -> None:
    parsed = parse_text_calls(text, calls)
    assert (parsed.text, parsed.calls) == (text, ())


@pytest.mark.parametrize(
    ("calls", "text", "expected", "names"),
    [
        (MARKED_CALLS, 'A\n<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call>\nB', "A\nB", ["add"]),
        (MARKED_CALLS, '<tool_call>\n{"name": "new", "arguments": {}}\n', "", ["new"]),
        (
            BARE_CALLS,
            ' <|python_tag|>{"name": "add", "parameters": {}}; {"name": "get_weather", "parameters": {}}\n',
            "",
            ["add", "get_weather"],
        ),
    ],
)
def test_calls_are_read_as_models_vary_them(calls: TextCalls, text: str, expected: str, names: list[str]) -> None:
    parsed = parse_text_calls(text, calls)
    assert (parsed.text, [call.name for call in parsed.calls]) == (expected, names)


@pytest.mark.parametrize(
    ("calls", "text", "shown"),
    [
        (MARKED_CALLS, "a < b <tool> \n <tool_call>{x", "a < b <tool>"),
        (MARKED_CALLS, "a b \n c", "a b \n c"),
        (MARKED_CALLS, "a <tool_cal", "a"),
        (BARE_CALLS, "a {}", "a {}"),
        (BARE_CALLS, "\n {a", ""),
        (BARE_CALLS, "<|python_tag|>a", ""),
        (BARE_CALLS, "<|pyt", ""),
        (BARE_CALLS, "<|pyt>", "<|pyt>"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 99])
def test_only_what_may_be_a_call_is_held_back(calls: TextCalls, text: str, shown: str, size: int) -> None:
    holder = CallHolder(calls)
    passed = "".join(holder.push(text[at : at + size]) for at in range(0, len(text), size))
    assert passed == shown
    assert passed + holder.flush() == text
