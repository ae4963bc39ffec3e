"""Every value that parent and child exchange comes back equal, odd texts included."""

from __future__ import annotations

import math
from typing import Any

import pytest

from chat.core.backend import ModelInfo, Rendered
from chat.core.conversation import Message, ToolCall
from chat.core.events import (
    Completion,
    Event,
    LoadProgress,
    Notice,
    PrefillProgress,
    ReasoningDelta,
    Seconds,
    TextDelta,
    TokenCounts,
)
from chat.core.request import Constraint, EngineOptions, Prompt, Request, Sampling
from chat.errors import (
    ChatError,
    ContextError,
    DataError,
    EngineError,
    FileError,
    MemoryLimitError,
    ModelError,
    UsageError,
)
from chat.worker.protocol import build, from_line, pack_error, pack_event, to_line, unpack_error, unpack_event

ODD = 'a\0b\ud800\n\r\u2028\x1b[31m😀"\\'

EVENTS: list[Event] = [
    LoadProgress(0.5),
    PrefillProgress(3, 10, 1.25),
    ReasoningDelta(ODD),
    TextDelta(ODD),
    Notice("note"),
    Completion("", "stop", (), "", TokenCounts(), Seconds()),
    Completion(
        ODD,
        "interrupted",
        (1, 2),
        "ab",
        TokenCounts(5, 4, 3, 2, 1),
        Seconds(1.0, 2.0, 3.0),
        {"seed": 7, "temperature": 0.1},
        (ToolCall("f", "{}", "id"),),
        {"yes": 0.9, "no": 0.1},
        ({"id": 1, "top": [1, 2]},),
        reasoning=ODD,
    ),
]

REQUESTS = [
    Request(Prompt(text=ODD)),
    Request(Prompt(ids=(1, 2, 3)), max_tokens=5, stop=("a", ODD)),
    Request(
        Prompt(
            messages=(
                Message("system", "be"),
                Message("user", ODD),
                Message("assistant", "x", (1, 2), "length", (ToolCall("g", "[]"),)),
                Message("tool", "y", tool_call_id="z", name="g"),
            ),
            tools=({"kind": "function", "parameters": {"enum": [1, [2]], "x": None}},),
            continues=True,
        ),
        Sampling(0.0, 1.0, 0, 0.0, 1.1, 9),
        1,
        (),
        Constraint("choice", '["a"]'),
        2,
        "session",
    ),
]


def round_trip(message: dict[str, Any]) -> dict[str, Any]:
    line = to_line(message)
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and line.isascii()
    return from_line(line)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_come_back_equal(event: Event) -> None:
    assert unpack_event(round_trip(pack_event(event))) == event


@pytest.mark.parametrize("request_", REQUESTS, ids=range(3))
def test_requests_come_back_equal(request_: Request) -> None:
    assert build(Request, round_trip({"request": request_})["request"]) == request_


def test_options_and_model_information_come_back_equal() -> None:
    options = EngineOptions("m", 5, "off", lora=(("a", 0.5), ("b", 1.0)), state_folder=ODD)
    info = ModelInfo("m", 1, "F32", "llama", None, 2, 3, "v1", details={"threads": 2, "list": [1]})
    rendered = Rendered(ODD, (1, 2), "v1")
    assert build(EngineOptions, round_trip({"v": options})["v"]) == options
    assert build(ModelInfo, round_trip({"v": info})["v"]) == info
    assert build(Rendered, round_trip({"v": rendered})["v"]) == rendered


@pytest.mark.parametrize(
    "kind",
    [ChatError, UsageError, ModelError, MemoryLimitError, ContextError, DataError, FileError, EngineError],
)
def test_errors_keep_class_text_and_hint(kind: type[ChatError]) -> None:
    error = unpack_error(round_trip(pack_error(kind(ODD, hint="way out"))))
    assert (type(error), error.message, error.hint, error.exit_code) == (kind, ODD, "way out", kind.exit_code)


def test_infinities_and_no_numbers_pass() -> None:
    back = round_trip({"a": math.inf, "b": math.nan})
    assert back["a"] == math.inf and math.isnan(back["b"])


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(TypeError, match="TextDelta has no field colour"):
        build(TextDelta, {"text": "a", "colour": "red"})
    with pytest.raises(TypeError, match="missing"):
        build(TextDelta, {})


def test_a_line_or_value_that_is_no_object_is_refused() -> None:
    with pytest.raises(ValueError, match="a message is a JSON object"):
        from_line(b"[]\n")
    with pytest.raises(TypeError, match="object cannot be sent"):
        to_line({"a": object()})
