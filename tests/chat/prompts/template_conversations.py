"""Conversations for which transformers and this program render chat templates: the same ones, made from a seed."""

from __future__ import annotations

import json
import random
from typing import Any

from chat.core.conversation import Message, ToolCall

NOW = (2026, 2, 3, 4, 5, 6)  # what `strftime_now` tells
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
TOOLS: tuple[dict[str, Any], ...] = (
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Its name."},
                    "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "description": "Of the answer."},
                },
                "required": ["city"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Add two numbers.",
            "parameters": {
                "type": "object",
                "properties": {
                    "a": {"type": "number", "description": "First."},
                    "b": {"type": "number", "description": "Second."},
                },
                "required": ["a", "b"],
            },
        },
    },
)
_PIECES = (
    "Hello", "What is 2 < 3 & 4 > 1?", " leading", "trailing ", "two\nlines", "\n", "für Élise", "日本語", "🙂",
    "'quoted'", '"double"', "a\\b", "{{ not code }}", "{% nor this %}", "# title", "- item\n- item",
    "```py\nx = 1\n```", "tab\there", "x" * 40, "end.", "<b>bold</b>", "$5 & %s %d {0}", "system", "user:", "1. one",
)  # fmt: skip
_THOUGHTS = ("", "", "", "<think>\nLet me see.\n</think>\n\n", "<think></think>")


def conversations(count: int = 24) -> list[tuple[tuple[Message, ...], tuple[dict[str, Any], ...], bool]]:
    """(messages, tools on offer, whether the last answer is continued) of each conversation."""
    dice = random.Random(7)
    return [_conversation(dice, number) for number in range(count)]


def _conversation(dice: random.Random, number: int) -> tuple[tuple[Message, ...], tuple[dict[str, Any], ...], bool]:
    with_tools, continues = number % 3 == 2, number % 4 == 3
    messages = [Message("system", _text(dice))] if number % 2 else []
    for turn in range(1 + number % 5):
        messages.append(Message("user", _text(dice)))
        if with_tools and dice.random() < 0.6:
            messages += _call(dice, turn)
        messages.append(Message("assistant", dice.choice(_THOUGHTS) + _text(dice)))
    if not continues:
        messages.pop()
    return tuple(messages), TOOLS if with_tools else (), continues


def _call(dice: random.Random, turn: int) -> list[Message]:
    if dice.random() < 0.5:
        name, arguments = "get_weather", {"city": dice.choice(("Paris", "Köln", "São Paulo")), "unit": "celsius"}
        result = json.dumps({"temperature": dice.randrange(40), "text": "sunny"})
    else:
        name, arguments, result = "add", {"a": dice.randrange(9), "b": 2.5}, "7.5"
    call_id = f"call{turn:05}"
    return [
        Message("assistant", "", tool_calls=(ToolCall(name, json.dumps(arguments, ensure_ascii=False), call_id),)),
        Message("tool", result, tool_call_id=call_id, name=name),
    ]


def _text(dice: random.Random) -> str:
    return " ".join(dice.choice(_PIECES) for _ in range(dice.randrange(1, 5)))


def plain(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """The messages as a user of transformers writes them."""
    return [_plain(message) for message in messages]


def _plain(message: Message) -> dict[str, Any]:
    made: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        made["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.loads(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.role == "tool":
        made |= {"name": message.name, "tool_call_id": message.tool_call_id}
    return made
