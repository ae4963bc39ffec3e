"""A model that calls a tool is heard, and goes on with the result; only what the sampler draws is scripted here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chat.core.conversation import Message, ToolCall
from chat.core.events import Completion, TextDelta
from chat.core.request import EngineOptions, Prompt, Request, Sampling
from chat.errors import ChatError
from chat.inference.loaded_model import LoadedModel, load_model
from chat.inference.response import render, reply
from chat.llama.sampler import Sampler
from chat.prompts.segments import Control, Segment
from chat.prompts.segments import Text as Words

WEATHER = {"name": "weather", "description": "", "parameters": {"type": "object", "properties": {}}}
ASKED = (Message("user", "Weather?"),)
CALL = '[{"name": "weather", "arguments": {"city": "Paris"}, "id": "abcdefghi"}]'
NAMELESS = '[{"name": "weather", "arguments": {"city": "Paris"}}]'


@pytest.fixture(scope="module")
def room(tiny_v3_model: Path) -> Iterator[LoadedModel]:
    room = load_model(EngineOptions(str(tiny_v3_model), threads=1))
    yield room
    room.close()


@pytest.fixture
def say(room: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> object:
    """Have the model answer messages with some pieces."""

    def say(messages: tuple[Message, ...], *parts: Segment) -> tuple[str, Completion]:
        script = [*room.vocabulary.encode(parts), room.vocabulary.eos]
        monkeypatch.setattr(Sampler, "sample", lambda self, decoder, row=-1: script.pop(0))
        events = list(reply(room, Request(Prompt(messages=messages, tools=(WEATHER,)), Sampling(temperature=0))))
        done = events[-1]
        assert isinstance(done, Completion)
        return "".join(event.text for event in events if isinstance(event, TextDelta)), done

    return say


def test_a_call_is_parsed_and_not_shown_while_it_grows(say: object) -> None:
    shown, done = say(ASKED, Control("[TOOL_CALLS]"), Words(CALL))  # type: ignore[operator]
    assert (shown, done.text, done.finish_reason) == ("", "", "stop")
    assert done.tool_calls == (ToolCall("weather", '{"city": "Paris"}', "abcdefghi"),)


def test_what_turns_out_to_be_no_call_is_shown_in_the_end(say: object) -> None:
    shown, done = say(ASKED, Words("Well"), Control("[TOOL_CALLS]"), Words('[{"name": "wea'))  # type: ignore[operator]
    assert (shown, done.text, done.tool_calls) == (done.text, 'Well [{"name": "wea', ())


@pytest.mark.parametrize("written", [CALL, NAMELESS])
def test_the_result_of_a_call_is_the_next_message(written: str, say: object, room: LoadedModel) -> None:
    """Where the model wrote no id, the prompt holds the call with the id that the result names."""
    _, done = say(ASKED, Control("[TOOL_CALLS]"), Words(written))  # type: ignore[operator]
    (call,) = done.tool_calls
    told = Message("assistant", done.text, done.ids, tool_calls=done.tool_calls)
    result = Message("tool", '{"degrees": 20}', tool_call_id=call.id, name=call.name)
    shown, after = say((*ASKED, told, result), Words("20 degrees"))  # type: ignore[operator]
    assert (shown, after.tool_calls) == ("20 degrees", ())
    prompt = render(room, Request(Prompt(messages=(*ASKED, told, result), tools=(WEATHER,)))).text
    assert prompt.count(call.id) == 2
    is_kept = after.tokens.cached >= done.tokens.prompt + len(done.ids) - 1  # the ids go back where they say all
    assert is_kept == (written == CALL)


def test_a_question_does_not_go_on_where_a_result_is_missing(say: object, room: LoadedModel) -> None:
    told = Message("assistant", "", tool_calls=(ToolCall("weather", "{}", "abcdefghi"),))
    with pytest.raises(ChatError, match="the tool results before it are not as many as the calls"):
        render(room, Request(Prompt(messages=(*ASKED, told, *ASKED, Message("assistant", "x"), *ASKED))))
