"""Tool calls come back out of answers as they were written, and what is no call stays text."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from chat.core.conversation import Message, ToolCall
from chat.prompts.registry import render
from chat.prompts.segments import Control, Text
from chat.prompts.tool_call_parser import ParsedAnswer, new_call_id, parse_answer
from tests.chat.vocabulary_files import FORMATS, case

CALLS, ARGS, CALL_ID = Control("[TOOL_CALLS]"), Control("[ARGS]"), Control("[CALL_ID]")
TWO = (ToolCall("get_weather", '{"city": "Zürich \\"x\\""}', "abcdefghi"), ToolCall("now", "{}", "123456789"))


NEW_IDS = tuple(new_call_id("", number) for number in range(2))

NINE = "abc456789"
WITH_ID = '[{"name": "f", "id": "abc456789"}]'

EITHER_OR = ("v2", "v3", "v3-tekken")  # answers hold either text or calls


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((name, "") for name in FORMATS if name != "v1"),
        *((name, "Let me look.") for name in FORMATS if name not in ("v1", *EITHER_OR)),
    ],
)
def test_calls_that_a_format_writes_are_read_again(name: str, content: str) -> None:
    """Through the vocabulary: what a model trained on the format generates is what the format writes."""
    vocabulary = case(name).vocabulary
    asked = (Message("user", "x"), Message("assistant", content, tool_calls=TWO), Message("user", "y"))
    ids = vocabulary.encode(render(name, asked))
    if name == "v2":  # forgets calls before the last user message
        ids = vocabulary.encode(render(name, asked[:2], continues=True))
    begin, end = ids.index(vocabulary.control_id("[/INST]")) + 1, ids.index(2) if 2 in ids else len(ids)
    answer = parse_answer(name, vocabulary.segments_of(ids[begin:end]))
    expected_ids = NEW_IDS[:2] if name in ("v2", "v13", "v15") else tuple(call.id for call in TWO)
    calls = tuple(ToolCall(call.name, call.arguments, id_) for call, id_ in zip(TWO, expected_ids, strict=True))
    assert answer == ParsedAnswer(content, calls)


@pytest.mark.parametrize(
    ("name", "parts", "expected"),
    [
        ("v3", (Text("Hello"),), ParsedAnswer("Hello")),
        ("v3", (), ParsedAnswer("")),
        ("v1", (Text("[TOOL_CALLS] [{}]"),), ParsedAnswer("[TOOL_CALLS] [{}]")),
        ("chatml", (CALLS, Text('[{"name": "f"}]')), ParsedAnswer('[{"name": "f"}]')),
        ("v3", (CALLS, Text('[{"name": "f", "argum')), ParsedAnswer('[{"name": "f", "argum')),
        ("v3", (CALLS, Text("[" * 10**5)), ParsedAnswer("[" * 10**5)),
        ("v3", (CALLS, Text('[{"nom": "f"}]')), ParsedAnswer('[{"nom": "f"}]')),
        ("v3", (CALLS, Text('[{"name": "f"}]')), ParsedAnswer("", (ToolCall("f", "{}", NEW_IDS[0]),))),
        (
            "v2",
            (CALLS, Text('{"name": "f", "arguments": "x"}')),
            ParsedAnswer("", (ToolCall("f", "x", NEW_IDS[0]),)),
        ),
        (
            "v3",
            (Text("a"), CALLS, Text(WITH_ID)),
            ParsedAnswer("", (ToolCall("f", "{}", NINE),)),
        ),
        (
            "v7",
            (Text("a"), CALLS, Text(WITH_ID)),
            ParsedAnswer("a", (ToolCall("f", "{}", NINE),)),
        ),
        (
            "v11",
            (CALLS, Text("f"), ARGS, Text("{}")),
            ParsedAnswer("", (ToolCall("f", "{}", NEW_IDS[0]),)),
        ),
        ("v11", (CALLS, Text("f"), CALL_ID, Text("i")), ParsedAnswer("fi")),
        ("v13", (Text("a"), CALLS, ARGS, Text("{}")), ParsedAnswer("a{}")),
        ("v13", (CALLS,), ParsedAnswer("")),
        (
            "v3",
            (CALLS, Text('[{"name": "f", "id": "short"}]')),
            ParsedAnswer("", (ToolCall("f", "{}", NEW_IDS[0]),)),
        ),
        ("v3", (CALLS, Text('[{"name": "not one"}]')), ParsedAnswer('[{"name": "not one"}]')),
        (
            "v3",
            (CALLS, Text('[{"name": "f", "arguments": "\\ud800"}]')),
            ParsedAnswer('[{"name": "f", "arguments": "\\ud800"}]'),
        ),
        ("v13", (CALLS, Text("f"), ARGS, Text("[" * 10**5)), ParsedAnswer("f" + "[" * 10**5)),
        (
            "v11",
            (
                *(CALLS, Text("f"), CALL_ID, Text(NINE), ARGS, Text("{}")),
                CALLS,
                Text("g"),
                CALL_ID,
                Text(NINE),
                ARGS,
                Text("1"),
            ),
            ParsedAnswer("", (ToolCall("f", "{}", NINE), ToolCall("g", "1", NEW_IDS[1]))),
        ),
    ],
)
def test_what_is_no_well_formed_call_stays_text(
    name: str, parts: tuple[Control | Text, ...], expected: ParsedAnswer
) -> None:
    assert parse_answer(name, parts) == expected


def test_new_call_ids_are_allowed_everywhere_and_differ_by_prompt_and_place() -> None:
    ids = [new_call_id(salt, number) for salt in ("one", "two") for number in range(50)]
    assert len(set(ids)) == 100
    assert all(re.fullmatch("[a-zA-Z0-9]{9}", each) for each in ids)


@pytest.mark.parametrize("name", ["v3", "v3-tekken", "v7", "v11", "v13"])
def test_answers_whose_ids_were_made_up_go_back_as_calls_with_these_ids(name: str) -> None:
    """Results name them: the model would find no such call in the ids that it generated."""
    vocabulary = case(name).vocabulary
    call, result = Message("assistant", "", tool_calls=TWO[1:]), Message("tool", "1", tool_call_id="123456789")
    written = (Message("user", "x"), call, result)
    plain = vocabulary.encode(render(name, written))
    own = vocabulary.encode(render(name, written[:2], continues=True))
    generated = tuple(own[own.index(vocabulary.control_id("[/INST]")) + 1 :])
    kept = (written[0], replace(call, ids=generated), result)
    assert vocabulary.encode(render(name, kept)) == plain
    renamed = replace(call, ids=generated, tool_calls=(ToolCall("now", "{}", new_call_id("", 0)),))
    result = replace(result, tool_call_id=new_call_id("", 0))
    expected = vocabulary.encode(render(name, (written[0], replace(renamed, ids=()), result)))
    assert vocabulary.encode(render(name, (written[0], renamed, result))) == expected
    assert (expected == plain) == (name == "v13")  # which writes no ids
