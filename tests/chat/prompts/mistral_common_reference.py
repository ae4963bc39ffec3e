"""What mistral-common makes of our conversations, and seeded conversations to ask it about."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mistral_common.protocol.instruct import messages as theirs
from mistral_common.protocol.instruct.chunk import TextChunk, ThinkChunk
from mistral_common.protocol.instruct.request import ChatCompletionRequest
from mistral_common.protocol.instruct.tool_calls import FunctionCall, Tool
from mistral_common.protocol.instruct.tool_calls import ToolCall as TheirCall

from chat.core.conversation import Message, ToolCall

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.core.conversation import FinishReason

SCRIPTS = (
    "The quick brown fox isn't 12345 lazy, e.g. naïve façades",
    "Быстрая коричневая лиса прыгает",
    "Η γρήγορη καφέ αλεπού",
    "الثعلب البني السريع يَقْفِزُ",
    "השועל החום המהיר",
    "तेज़ भूरी लोमड़ी कूदती है",
    "สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามน้ำ",
    "素早い茶色の狐がジャンプする",
    "敏捷的棕色狐狸跳过懒狗",
    "빠른 갈색 여우가 뛴다",
    "ბურთი სწრაფი მელა",
    "வேகமான பழுப்பு நரி",
)
ODD = (
    *(" ", "  ", "     ", "\t", "\n", "\n\n\n", "\r\n", "\r", " \n ", "\u00a0", "\u2003", "\u3000", "\u200b", "\ufeff"),
    *("\0", "\x00\x01", "\x1b[31m", "\x7f", "\u2028", "\ufffd", "\uffff", "\U0010ffff", "▁", "▁▁", " ▁ ", "\x01", "☺"),
    *("😀", "👩‍👩‍👧‍👦", "🇫🇷", "👍🏽", "e\u0301\u0323", "Z̸̡̛a̷l̵g̶o̴", "ﷺ", "ﬁ", "𝔘𝔫𝔦", "a\u200db"),
    *(
        '{"a": 1}',
        "[1, 2]",
        "null",
        "def f(x):\n    return x**2\n",
        "<div class='x'>",
        "https://x.y/?q=%20",
        "§$%&/()=?`´",
    ),
    *("1234567890", "3.14159", "--", "***", "......", "aaaaaaaaaaaaaaaaaaaaaaaa", "        x", "x        "),
)
CONTROL_LOOKING = (
    *("<s>", "</s>", "<unk>", "<pad>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
    *("[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[IMG]", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]"),
    *("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]", "[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]"),
    *("[MODEL_SETTINGS]", "[/MODEL_SETTINGS]"),
    *("[control_8]", "[control_700]", "<0x0A>", "<0x00>", "<SPECIAL_20>", "<|im_start|>", "<|im_end|>", "<<SYS>>"),
    *("[REFERENCE_DOC_0]", "[REFERENCE_DOC_7]", "[REFERENCE_DOC_19]", "[REFERENCE_DOC_20]", "[REF]", "[/REF]"),
)
TOOLS = (
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Wetter für eine Stadt [INST]",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 1}},
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "description": "", "parameters": {}}},
)


def text(random: random.Random, longest: int = 6) -> str:
    """A text of odd pieces; now and then empty."""
    pieces = []
    for _ in range(random.randrange(longest + 1)):
        source = random.choice((SCRIPTS, ODD, ODD, CONTROL_LOOKING))
        piece = random.choice(source)
        if source is SCRIPTS:
            begin = random.randrange(len(piece))
            piece = piece[begin : begin + random.randrange(1, 20)]
        pieces.append(piece)
        if random.random() < 0.4:
            pieces.append(random.choice(("", " ", "\n", "a", "é")))
    return "".join(pieces)


def conversation(random: random.Random, tools: bool, thinks: bool = False) -> tuple[Message, ...]:
    """A conversation that is mostly in order; tool calls and results where `tools`, reasoning where `thinks`."""
    messages: list[Message] = []
    if random.random() < 0.5:
        messages += [Message("system", text(random)) for _ in range(random.choice((1, 1, 2)))]
    for _ in range(random.randrange(1, 4)):
        messages += [Message("user", text(random)) for _ in range(random.choice((1, 1, 1, 2)))]
        if random.random() < 0.1:
            messages += [Message("system", text(random)), Message("user", text(random))]
        if tools and random.random() < 0.6:
            messages += _tool_messages(random)
        messages += [Message("assistant", text(random) or "ok") for _ in range(random.choice((1, 1, 1, 2)))]
    if random.random() < 0.8:
        messages.append(Message("user", text(random)))
        if tools and random.random() < 0.4:
            messages += _tool_messages(random)
    if random.random() < 0.1:
        messages.pop(random.randrange(len(messages)))
    return tuple(_with_reasoning(random, message) if thinks else message for message in messages)


def _with_reasoning(random: random.Random, message: Message) -> Message:
    """Now and then reasoning before an answer or in a system prompt; now and then it was cut off."""
    if message.role == "system" and random.random() < 0.5:
        return replace(message, content=f"{message.content}[THINK]{text(random)}[/THINK]{text(random)}")
    if message.role != "assistant" or random.random() < 0.5:
        return message
    reasoning = text(random) or "hm"
    if message.tool_calls or random.random() < 0.8:
        return replace(message, reasoning=reasoning)
    reason: FinishReason | None = random.choice(("interrupted", "length", "stop", None))
    return Message("assistant", "", reasoning=reasoning, finish_reason=reason)


def _tool_messages(random: random.Random) -> list[Message]:
    calls = tuple(
        ToolCall(random.choice(("now", "get_weather")), _arguments(random), _call_id(random))
        for _ in range(random.choice((1, 1, 2)))
    )
    content = text(random, 2) if random.random() < 0.15 else ""
    results = [
        Message(
            "tool", random.choice((_arguments, text))(random), tool_call_id=call.id, name=random.choice(("", call.name))
        )
        for call in calls
    ]
    random.shuffle(results)
    return [Message("assistant", content, tool_calls=calls), *results]


def _call_id(random: random.Random) -> str:
    length = 9 if random.random() < 0.95 else random.choice((0, 8, 10))
    return "".join(random.choice("abcXYZ0189") for _ in range(length))


def _arguments(random: random.Random) -> str:
    value = random.choice(
        (
            {},
            {"city": "Zürich", "days": 2},
            {"x": text(random, 2)},
            [1, 2.5, None],
            "text",
            1e999,
            -0.0,
            {"a": {"b": [True]}},
        )
    )
    return random.choice(("", "no json", json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)))


def reference_ids(
    reference: Any,
    messages: Sequence[Message],
    tools: Sequence[dict[str, Any]] = (),
    continues: bool = False,
    effort: str | None = None,
    marked_systems: bool = False,
) -> list[int] | None:
    """mistral-common's ids, or None where it refuses.

    Args:
        effort: the reasoning effort of the request.
        marked_systems: reasoning in system prompts is a chunk of its own.
    """
    try:
        request = ChatCompletionRequest(
            messages=[
                _theirs(message, continues and number == len(messages), marked_systems)
                for number, message in enumerate(messages, 1)
            ],
            tools=[Tool.from_openai(tool) for tool in tools] or None,
            reasoning_effort=effort,
        )
        ids: list[int] = reference.encode_chat_completion(request).tokens
    except Exception:  # it refuses with errors of many kinds, assertions among them
        return None
    return ids


def _system_chunks(content: str) -> list[Any]:
    """A system prompt as the cards of Mistral's models split it at its marks."""
    chunks: list[Any] = []
    while (begin := content.find("[THINK]")) >= 0 and (end := content.find("[/THINK]", begin)) >= 0:
        chunks += [TextChunk(text=content[:begin]), ThinkChunk(thinking=content[begin + 7 : end], closed=True)]
        content = content[end + 8 :]
    return [*chunks, TextChunk(text=content)]


def _theirs(message: Message, is_prefix: bool, marked_systems: bool) -> Any:
    if message.role == "system" and marked_systems:
        return theirs.SystemMessage(content=_system_chunks(message.content))
    if message.role == "system":
        return theirs.SystemMessage(content=message.content)
    if message.role == "user":
        return theirs.UserMessage(content=message.content)
    if message.role == "tool":
        return theirs.ToolMessage(
            content=message.content, tool_call_id=message.tool_call_id or None, name=message.name or None
        )
    calls = [
        TheirCall(id=call.id or "null", function=FunctionCall(name=call.name, arguments=call.arguments))
        for call in message.tool_calls
    ]
    if message.reasoning:
        thought = ThinkChunk(thinking=message.reasoning, closed=not message.is_unfinished_reasoning)
        content = [thought, TextChunk(text=message.content)]
        return theirs.AssistantMessage(content=content, tool_calls=calls or None, prefix=is_prefix)
    return theirs.AssistantMessage(content=message.content or None, tool_calls=calls or None, prefix=is_prefix)
