"""Tool calls come back out of answers as they were written, and what is no call stays text."""

from __future__ import annotations

import pytest

from chat.conversation import Message, ToolCall
from chat.engine.formats.answer import Answer, read_answer
from chat.engine.prompt import Control, Text, segments
from tests.chat.engine.vocabulary_files import FORMATS, case

CALLS, ARGS, CALL_ID = Control("[TOOL_CALLS]"), Control("[ARGS]"), Control("[CALL_ID]")
TWO = (ToolCall("get_weather", '{"city": "Zürich \\"x\\""}', "abcdefghi"), ToolCall("now", "{}", "123456789"))


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
    ids = vocabulary.encode(segments(name, asked))
    if name == "v2":  # forgets calls before the last user message
        ids = vocabulary.encode(segments(name, asked[:2], continues=True))
    begin, end = ids.index(vocabulary.control_id("[/INST]")) + 1, ids.index(2) if 2 in ids else len(ids)
    answer = read_answer(name, vocabulary.segments_of(ids[begin:end]))
    made_up = {"v2": ("call00000", "call00001"), "v13": ("call00000", "call00001")}
    expected_ids = made_up.get(name, tuple(call.id for call in TWO))
    calls = tuple(ToolCall(call.name, call.arguments, id_) for call, id_ in zip(TWO, expected_ids, strict=True))
    assert answer == Answer(content, calls, keeps_ids=True)


@pytest.mark.parametrize(
    ("name", "parts", "expected"),
    [
        ("v3", (Text("Hello"),), Answer("Hello")),
        ("v3", (), Answer("")),
        ("v1", (Text("[TOOL_CALLS] [{}]"),), Answer("[TOOL_CALLS] [{}]")),
        ("chatml", (CALLS, Text('[{"name": "f"}]')), Answer('[{"name": "f"}]')),
        ("v3", (CALLS, Text('[{"name": "f", "argum')), Answer('[{"name": "f", "argum')),
        ("v3", (CALLS, Text("[" * 10**5)), Answer("[" * 10**5)),
        ("v3", (CALLS, Text('[{"nom": "f"}]')), Answer('[{"nom": "f"}]')),
        ("v3", (CALLS, Text('[{"name": "f"}]')), Answer("", (ToolCall("f", "{}", "call00000"),), keeps_ids=False)),
        ("v2", (CALLS, Text('{"name": "f", "arguments": "x"}')), Answer("", (ToolCall("f", "x", "call00000"),))),
        ("v3", (Text("a"), CALLS, Text('[{"name": "f", "id": "i"}]')), Answer("", (ToolCall("f", "{}", "i"),))),
        ("v7", (Text("a"), CALLS, Text('[{"name": "f", "id": "i"}]')), Answer("a", (ToolCall("f", "{}", "i"),))),
        ("v11", (CALLS, Text("f"), ARGS, Text("{}")), Answer("", (ToolCall("f", "{}", "call00000"),), keeps_ids=False)),
        ("v11", (CALLS, Text("f"), CALL_ID, Text("i")), Answer("fi")),
        ("v13", (Text("a"), CALLS, ARGS, Text("{}")), Answer("a{}")),
        ("v13", (CALLS,), Answer("")),
    ],
)
def test_what_is_no_well_formed_call_stays_text(name: str, parts: tuple[Control | Text, ...], expected: Answer) -> None:
    assert read_answer(name, parts) == expected
