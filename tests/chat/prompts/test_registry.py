"""Segments of each format, whole; and what is refused, in which words."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from chat.core.conversation import Message, ToolCall
from chat.core.request import Prompt
from chat.errors import DataError, ExitCode, UsageError
from chat.prompts.builder import encode
from chat.prompts.registry import FORMATS, render
from chat.prompts.segments import Control, Ids, Mark, Text
from tests.chat.prompts.mistral_common_reference import TOOLS, reference_ids
from tests.chat.vocabulary_files import FORMATS as MISTRAL_FORMATS
from tests.chat.vocabulary_files import FULL, case

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.prompts.segments import Segment

BOS, EOS, INST, END_INST = (Control(piece) for piece in ("<s>", "</s>", "[INST]", "[/INST]"))
CONVERSATION = (
    Message("system", "Be brief."),
    Message("user", "Hi  "),
    Message("assistant", "Hello.  "),
    Message("user", "And?"),
)
CALL = ToolCall("now", '{"tz": "é"}', "abcdefghi")
WITH_TOOLS = (
    Message("user", "Time?"),
    Message("assistant", "", tool_calls=(CALL,)),
    Message("tool", '{"h": 12}', tool_call_id="abcdefghi", name="now"),
)
OFFER = ({"name": "now", "parameters": {"type": "object"}},)
OFFERED = '[{"type": "function", "function": {"name": "now", "description": "", "parameters": {"type": "object"}}}]'
OFFERED_TOOLS = (Control("[AVAILABLE_TOOLS]"), Text(OFFERED), Control("[/AVAILABLE_TOOLS]"))
CALLS, ARGS, CALL_ID = Control("[TOOL_CALLS]"), Control("[ARGS]"), Control("[CALL_ID]")
RESULTS, CONTENT, END_RESULTS = Control("[TOOL_RESULTS]"), Control("[TOOL_CONTENT]"), Control("[/TOOL_RESULTS]")


def system_in_last_user() -> tuple[Segment, ...]:
    first = (BOS, INST, Text("Hi  "), END_INST, Text("Hello."), EOS)
    return (*first, INST, Text("Be brief.\n\nAnd?"), END_INST)


def system_apart() -> tuple[Segment, ...]:
    system = (Control("[SYSTEM_PROMPT]"), Text("Be brief."), Control("[/SYSTEM_PROMPT]"))
    return (
        BOS,
        *system,
        INST,
        Text("Hi  "),
        END_INST,
        Text("Hello."),
        EOS,
        INST,
        Text("And?"),
        END_INST,
    )


def im(role: str) -> tuple[Segment, ...]:
    return Control("<|im_start|>", or_text=True), Text(f"{role}\n", joined=True)


IM_END = (Control("<|im_end|>", or_text=True), Text("\n", joined=True))


def zephyr(role: str) -> tuple[Segment, ...]:
    return Control(f"<|{role}|>", or_text=True), Text("\n", joined=True)


ZEPHYR_END = (Mark("eos"), Text("\n", joined=True))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "v1",
            (
                BOS,
                Text("[INST] Be brief.\n\nHi   [/INST]"),
                Text("Hello.  "),
                EOS,
                Text("[INST] And? [/INST]"),
            ),
        ),
        ("v2", system_in_last_user()),
        ("v3", system_in_last_user()),
        ("v3-tekken", system_in_last_user()),
        ("v7", system_apart()),
        ("v7-tekken", system_apart()),
        ("v11", system_apart()),
        ("v13", system_apart()),
        (
            "chatml",
            (
                Mark("bos"),
                *(*im("system"), Text("Be brief.", joined=True), *IM_END),
                *(*im("user"), Text("Hi  ", joined=True), *IM_END),
                *(*im("assistant"), Text("Hello.  ", joined=True), *IM_END),
                *(*im("user"), Text("And?", joined=True), *IM_END),
                *im("assistant"),
            ),
        ),
        (
            "zephyr",
            (
                Mark("bos"),
                *(*zephyr("system"), Text("Be brief.", joined=True), *ZEPHYR_END),
                *(*zephyr("user"), Text("Hi  ", joined=True), *ZEPHYR_END),
                *(*zephyr("assistant"), Text("Hello.  ", joined=True), *ZEPHYR_END),
                *(*zephyr("user"), Text("And?", joined=True), *ZEPHYR_END),
                *zephyr("assistant"),
            ),
        ),
        (
            "raw",
            (
                Mark("bos"),
                *(Text("Be brief.", joined=True), Text("\n\n", joined=True)),
                *(Text("Hi  ", joined=True), Text("\n\n", joined=True)),
                *(Text("Hello.  ", joined=True), Text("\n\n", joined=True)),
                Text("And?", joined=True),
            ),
        ),
    ],
)
def test_each_format_puts_a_conversation_into_its_segments(name: str, expected: tuple[Segment, ...]) -> None:
    assert render(name, CONVERSATION) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "v2",
            (
                *(BOS, *OFFERED_TOOLS, INST, Text("Time?"), END_INST),
                *(CALLS, Text('[{"name": "now", "arguments": {"tz": "é"}}]'), EOS),
                *(RESULTS, Text('[{"name": "now", "content": {"h": 12}}]'), END_RESULTS),
            ),
        ),
        (
            "v3",
            (
                *(BOS, *OFFERED_TOOLS, INST, Text("Time?"), END_INST),
                *(CALLS, Text('[{"name": "now", "arguments": {"tz": "é"}, "id": "abcdefghi"}]'), EOS),
                *(RESULTS, Text('{"content": {"h": 12}, "call_id": "abcdefghi"}'), END_RESULTS),
            ),
        ),
        (
            "v7",
            (
                *(BOS, *OFFERED_TOOLS, INST, Text("Time?"), END_INST),
                *(CALLS, Text('[{"name": "now", "arguments": {"tz": "é"}, "id": "abcdefghi"}]'), EOS),
                *(RESULTS, Text("abcdefghi"), CONTENT, Text('{"h": 12}'), END_RESULTS),
            ),
        ),
        (
            "v11",
            (
                *(BOS, *OFFERED_TOOLS, INST, Text("Time?"), END_INST),
                *(CALLS, Text("now"), CALL_ID, Text("abcdefghi"), ARGS, Text('{"tz": "é"}'), EOS),
                *(RESULTS, Text("abcdefghi"), CONTENT, Text('{"h": 12}'), END_RESULTS),
            ),
        ),
        (
            "v13",
            (
                *(BOS, *OFFERED_TOOLS, INST, Text("Time?"), END_INST),
                *(CALLS, Text("now"), ARGS, Text('{"tz": "é"}'), EOS),
                *(RESULTS, Text('{"h": 12}'), END_RESULTS),
            ),
        ),
    ],
)
def test_each_format_puts_tools_calls_and_results_into_its_segments(name: str, expected: tuple[Segment, ...]) -> None:
    assert FORMATS[name].tools
    assert render(name, WITH_TOOLS, OFFER) == expected


def test_tools_stand_before_the_last_user_message_and_in_v13_before_the_first() -> None:
    messages = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    rest = (Text("b"), EOS)
    last = (BOS, INST, Text("a"), END_INST, *rest, *OFFERED_TOOLS, INST, Text("c"), END_INST)
    first = (BOS, *OFFERED_TOOLS, INST, Text("a"), END_INST, *rest, INST, Text("c"), END_INST)
    assert render("v11", messages, OFFER) == last
    assert render("v13", messages, OFFER) == first


@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("raw", "template")])
def test_own_answers_go_back_as_the_ids_they_were(name: str) -> None:
    """An answer's ids replace its text alone: what stands around it is as it is around text."""
    plain = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    own = (plain[0], Message("assistant", "b", ids=(5, 6)), plain[2])
    expected = tuple(
        Ids((5, 6)) if part in (Text("b"), Text("b", joined=True)) else part for part in render(name, plain)
    )
    assert render(name, own) == expected
    assert Ids((5, 6)) in expected


def test_two_answers_in_a_row_are_one_text_because_the_format_has_no_other_word_for_them() -> None:
    messages = (Message("user", "a"), Message("assistant", "b", ids=(5,)), Message("assistant", "c", ids=(6,)))
    expected = (BOS, INST, Text("a"), END_INST, Text("b\n\nc"), EOS, INST, Text("d"), END_INST)
    assert render("v3", (*messages, Message("user", "d"))) == expected


def test_own_tool_calls_go_back_as_ids_and_v2_forgets_them_with_their_results() -> None:
    calls = Message("assistant", "", ids=(5, 9), tool_calls=(CALL,))
    messages = (Message("user", "a"), calls, WITH_TOOLS[2], Message("assistant", "noon"), Message("user", "b"))
    end = (Text("noon"), EOS, INST, Text("b"), END_INST)
    result = (RESULTS, Text('{"content": {"h": 12}, "call_id": "abcdefghi"}'), END_RESULTS)
    assert render("v2", messages) == (BOS, INST, Text("a"), END_INST, *end)
    assert render("v3", messages) == (BOS, INST, Text("a"), END_INST, Ids((5, 9)), EOS, *result, *end)


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"template"}))
def test_a_continued_answer_is_left_open(name: str) -> None:
    messages = (Message("user", "a"), Message("assistant", "b", ids=(5,)))
    assert render(name, messages, continues=True)[-1] == Ids((5,))


def test_v11_puts_results_into_the_order_of_the_calls() -> None:
    calls = tuple(ToolCall("now", "{}", letter * 9) for letter in "abc")
    results = [Message("tool", letter, tool_call_id=letter * 9) for letter in "cab"]
    parts = render("v13", (Message("user", "x"), Message("assistant", "", tool_calls=calls), *results))
    assert [part.text for part in parts if isinstance(part, Text)][-3:] == ["a", "b", "c"]


USER, ANSWER = Message("user", "u"), Message("assistant", "a")
BROKEN_NAME = ToolCall("no name", "{}", "abcdefghi")


@pytest.mark.parametrize(
    ("name", "messages", "words"),
    [
        ("v1", (), "a conversation needs at least one message"),
        ("v3", (ANSWER,), "cannot start with a message of the role assistant"),
        ("v3", (USER, ANSWER), "the last message is an answer already"),
        ("v1", (USER, Message("assistant", ""), USER), "message 2: an empty answer"),
        ("v7", (USER, Message("assistant", ""), USER), "an empty answer"),
        ("v2", (USER, ANSWER, Message("system", "s"), USER), "message 3: a system message cannot follow"),
        ("v3", (USER, Message("tool", "t", tool_call_id="abcdefghi")), "message 2: a tool message cannot follow"),
        ("v1", (Message("user", "a\ud800b"),), r"message 1: lone surrogate U\+D800 at character 2"),
        ("v3", (Message("system", "\udfff"), USER), r"message 1: lone surrogate U\+DFFF at character 1"),
        ("v1", (USER, WITH_TOOLS[1], WITH_TOOLS[2]), "message 2: the prompt format v1 has no tool calls"),
        ("v1", (USER, ANSWER, WITH_TOOLS[2]), "message 3: the prompt format v1 has no tool results"),
        ("v3", (USER, Message("assistant", "a", tool_calls=(CALL,)), USER), "cannot hold both text and tool calls"),
        ("v3", (USER, ANSWER, WITH_TOOLS[1], USER), "an answer cannot hold both text and tool calls"),
        ("v3", (USER, Message("assistant", "", tool_calls=(BROKEN_NAME,)), USER), "function name 'no name' is not"),
        (
            "v3",
            (USER, WITH_TOOLS[1], ANSWER, USER),
            "message 3: the tool results before it are not as many as the calls",
        ),
        (
            "v11",
            (USER, WITH_TOOLS[1], ANSWER, USER),
            "message 3: the tool results before it are not as many as the calls",
        ),
        (
            "v7",
            (USER, WITH_TOOLS[1], Message("tool", "t", tool_call_id="x")),
            "tool call id 'x' is not nine letters",
        ),
        ("v13", (USER, WITH_TOOLS[1], Message("tool", "t", tool_call_id="x")), "no call 'x' is waiting for this"),
        (
            "v13",
            (USER, WITH_TOOLS[1], WITH_TOOLS[2], WITH_TOOLS[2]),
            "a second result for the call 'abcdefghi'",
        ),
        ("v13", (USER, Message("assistant", "", tool_calls=(CALL, CALL)), USER), "two calls with the id 'abcdefghi'"),
        ("v13", (USER, Message("assistant", "", tool_calls=(ToolCall("f", "{}"),)), USER), "tool call without an id"),
        ("v2", (*WITH_TOOLS, WITH_TOOLS[2]), "the prompt format v2 has room for one tool result per turn"),
        ("chatml", WITH_TOOLS, "message 2: this prompt format has no tool calls or results"),
        ("zephyr", (USER, Message("assistant", ""), USER), "message 2: an empty answer"),
        ("raw", (USER, ANSWER, Message("user", "\ud800")), "message 3: lone surrogate"),
    ],
)
def test_what_the_reference_refuses_is_refused_in_one_sentence(
    name: str, messages: tuple[Message, ...], words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        render(name, messages)
    assert caught.value.exit_code == ExitCode.DATA
    assert not caught.value.message.endswith(".") and "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (Message("narrator", "x"), "message 1: unknown role 'narrator'"),  # type: ignore[arg-type]
        (Message("user", None), "message 1: text expected, not NoneType"),  # type: ignore[arg-type]
        (Message("user", [{"text": "x"}]), "message 1: text expected, not list"),  # type: ignore[arg-type]
    ],
)
def test_messages_from_files_are_checked(message: Message, words: str) -> None:
    for name in FORMATS:
        with pytest.raises(DataError, match=words):
            render(name, (message,))


def test_only_an_answer_can_be_continued() -> None:
    for name in set(FORMATS) - {"raw"}:
        with pytest.raises(DataError, match="only an answer can be continued, and the last message has the role user"):
            render(name, (USER,), continues=True)


def test_an_unknown_format_is_a_mistake_of_usage() -> None:
    with pytest.raises(UsageError, match="unknown prompt format `v99`"):
        render("v99", (USER,))


@pytest.mark.parametrize(
    ("tool", "words"),
    [
        ({}, "tool 1: not a function"),
        ({"type": "retrieval", "function": {"name": "f"}}, "tool 1: not a function"),
        ({"name": "two words"}, "tool 1: function name 'two words' is not"),
        ({"name": 7}, "tool 1: function name 7 is not"),
        ({"name": "f", "description": ["x"]}, "tool 1, description: text expected, not list"),
        ({"name": "f", "parameters": "x"}, "the parameters of f are not an object"),
        ({"name": "f", "parameters": {"type": "thing"}}, "not a JSON Schema of draft 7: `/type` is not a type"),
        (
            {"name": "f", "parameters": {"properties": {"a": {"minimum": "1"}}}},
            "`/properties/a/minimum` is not a number",
        ),
        ({"name": "f", "parameters": {"title": "\ud800"}}, "the tools: lone surrogate"),
    ],
)
def test_tools_that_are_no_functions_are_refused(tool: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        render("v3", (USER,), [tool])


def test_json_that_python_cannot_hold_is_refused() -> None:
    for arguments in ("[" * 100_000, "1" * 5000, '"\\ud800"'):
        call = ToolCall("now", arguments, "abcdefghi")
        with pytest.raises(DataError, match=r"nested too deeply or has an endless number|lone surrogate"):
            render("v3", (USER, Message("assistant", "", tool_calls=(call,)), USER))


@pytest.mark.slow
def test_every_order_of_roles_is_accepted_as_by_the_reference() -> None:
    """Exhaustive up to three messages in the full run, four in steps: equal ids, or refused by both."""
    kinds: list[Message] = [
        Message("system", "s"),
        Message("user", "u"),
        Message("user", ""),
        Message("assistant", "a "),
        Message("assistant", ""),
        Message("assistant", "", tool_calls=(CALL,)),
        Message("assistant", "t", tool_calls=(CALL,)),
        Message("tool", "r", tool_call_id="abcdefghi", name="now"),
    ]
    orders: list[tuple[Message, ...]] = [order for length in (1, 2, 3) for order in product(kinds, repeat=length)]
    orders += list(product(kinds, repeat=4))[::7]
    orders = orders if FULL else orders[::9]
    accepted = 0
    for name in MISTRAL_FORMATS:
        here = case(name)
        for number, order in enumerate(orders):
            continues = number % 2 == 0 and order[-1].role == "assistant"
            tools = TOOLS[: number % 3]
            ours = _ours(here, order, tools, continues)
            assert ours == reference_ids(here.reference, order, tools, continues), (name, order)
            accepted += ours is not None
    assert accepted > len(orders)


def _ours(here: Any, order: Sequence[Message], tools: Sequence[dict[str, Any]], continues: bool) -> list[int] | None:
    try:
        return list(encode(Prompt(tuple(order), tools=tuple(tools), continues=continues), here.vocabulary, here.name))
    except DataError:
        return None
