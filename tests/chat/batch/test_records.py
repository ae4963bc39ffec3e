"""Messages in records, with tool calls and results as OpenAI's clients write them, and their errors."""

from __future__ import annotations

from typing import Any

import pytest

from chat.batch.records import conversation_of
from chat.core.conversation import Message, ToolCall
from chat.errors import DataError

USER = {"role": "user", "content": "Weather?"}
CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
FLAT = {"name": "weather", "arguments": {"city": "Paris"}, "id": "abcdefghi"}
RESULT = {"role": "tool", "tool_call_id": "abcdefghi", "name": "weather", "content": {"degrees": 20}}


@pytest.mark.parametrize("call", [CALL, FLAT])
def test_calls_and_results_become_messages(call: dict[str, Any]) -> None:
    spoken = [
        {"role": "system", "content": "Be brief"},
        USER,
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]},
        RESULT,
    ]
    assert conversation_of(spoken, "not this", 1).messages() == (
        Message("system", "Be brief"),
        Message("user", "Weather?"),
        Message("assistant", "", tool_calls=(ToolCall("weather", '{"city": "Paris"}', "abcdefghi"),)),
        Message("tool", '{"degrees": 20}', tool_call_id="abcdefghi", name="weather"),
    )


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "`messages` must be a list of messages"),
        ("hi", "`messages` must be a list of messages"),
        (["hi"], "message 1: needs a `role` (system, user, assistant, tool) and a `content` text"),
        ([{"role": "bot", "content": "x"}], "message 1: needs a `role` (system, user, assistant, tool) and a"),
        ([USER, {"role": "assistant", "content": None}], "message 2: `content` must be a string"),
        ([USER, {"role": "tool"}], "message 2: `content` must be a string"),
        ([{**USER, "tool_calls": [CALL]}], "message 1: only a message of the assistant has tool calls"),
        ([{**USER, "images": ["x"]}], "message 1: unknown key `images`"),
        ([{"role": "assistant", "tool_calls": "x"}], "message 1: `tool_calls` must be a list"),
        ([{"role": "assistant", "tool_calls": ["x"]}], "message 1: a tool call must be an object"),
        ([{"role": "assistant", "tool_calls": [{"function": 1}]}], "message 1: a tool call needs the `name` of a fun"),
        ([{**RESULT, "tool_call_id": 5}], "message 1: `tool_call_id` must be a string"),
    ],
)  # fmt: skip
def test_a_wrong_message_is_refused_with_the_reason(messages: Any, words: str) -> None:
    with pytest.raises(DataError) as caught:
        conversation_of(messages, None, 7)
    assert caught.value.message.startswith(f"line 7{',' if words.startswith('message') else ':'} {words}")
