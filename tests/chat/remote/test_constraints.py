"""Constraints and log probabilities, as each kind of server has them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chat.core.conversation import Message
from chat.core.events import Completion, Notice, TextDelta
from chat.core.request import Constraint, Prompt, Request
from chat.errors import ChatError
from tests.chat.remote.stub_server import Reply, Script, words
from tests.chat.remote.test_protocol import HELLO, ask, deltas, events_of

SCHEMA = (
    '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": false}'
)
OBJECT = {"type": "json_object", "schema": json.loads(SCHEMA)}
WRAPPED = {"type": "object", "required": ["answer"], "additionalProperties": False}


def described(schema: Any) -> dict[str, Any]:
    return {
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    }


def text_schema(**more: Any) -> dict[str, Any]:
    return {**WRAPPED, "properties": {"answer": {"type": "string", **more}}}


@pytest.mark.parametrize(
    ("owner", "kind", "source", "fields", "said", "text"),
    [
        ("vllm", "schema", SCHEMA, described(json.loads(SCHEMA)), '{"a":1}', '{"a":1}'),
        ("vllm", "choice", '["a", "b"]', {"structured_outputs": {"choice": ["a", "b"]}}, "b", "b"),
        ("vllm", "regex", "a+", {"structured_outputs": {"regex": "a+"}}, "aa", "aa"),
        ("vllm", "gbnf", 'root ::= "x"', {"structured_outputs": {"grammar": 'root ::= "x"'}}, "x", "x"),
        ("llamacpp", "schema", SCHEMA, described(json.loads(SCHEMA)), '{"a": 1}', '{"a": 1}'),
        ("llamacpp", "choice", r'["a\"", "\\b"]', {"grammar": r'root ::= "a\"" | "\\b"'}, 'a"', 'a"'),
        ("llamacpp", "regex", "a|b", described({"type": "string", "pattern": "^(a|b)$"}), '"b"', "b"),
        ("llamacpp", "gbnf", 'root ::= "x"', {"grammar": 'root ::= "x"'}, "x", "x"),
        ("me", "schema", SCHEMA, {"response_format": OBJECT}, '{"a":1}', '{"a":1}'),
        ("mistralai", "choice", '["a", "b"]', described(text_schema(enum=["a", "b"])), '{"answer": "b"}', "b"),
        ("somebody", "regex", "a+", described(text_schema(pattern="^(a+)$")), '{"answer":"aa"}', "aa"),
    ],
)  # fmt: skip
def test_a_constraint_is_sent_as_each_server_has_it(
    owner: str, kind: Any, source: str, fields: dict[str, Any], said: str, text: str
) -> None:
    script = deltas(*({"content": part} for part in said), finish_reason="stop")
    script.owner = owner
    events = events_of(script, Request(HELLO, constraint=Constraint(kind, source)))
    done = events[-1]
    assert isinstance(done, Completion)
    assert {name: script.requests[0].get(name) for name in fields} == fields
    assert "".join(each.text for each in events if isinstance(each, TextDelta)) == done.text == text


@pytest.mark.parametrize(
    ("kind", "source", "said"),
    [
        ("schema", SCHEMA, '{"a": "x"}'),
        ("schema", SCHEMA, "no JSON"),
        ("regex", "a+", "aab"),
        ("choice", '["a"]', "ab"),
        ("gbnf", 'root ::= "x"', "y"),
    ],
)
def test_an_answer_of_a_server_that_ignores_a_constraint_is_none(kind: Any, source: str, said: str) -> None:
    script = deltas({"content": said})
    script.owner = "vllm"
    with pytest.raises(ChatError, match=r"^the server's answer does not match --") as caught:
        ask(script, constraint=Constraint(kind, source))
    assert caught.value.exit_code == 1


def test_a_server_that_knows_no_schema_is_asked_for_any_object() -> None:
    refused = Reply(400, body=b'{"error": {"message": "response_format of type json_schema is not supported"}}')
    script = Script([refused, Reply(chunks=words('{"a": 1}'))])
    assert ask(script, constraint=Constraint("schema", SCHEMA)).text == '{"a": 1}'
    second = script.requests[1]
    assert second["response_format"] == {"type": "json_object"}
    assert second["messages"][-1]["content"].startswith(
        "hi\n\nAnswer with a JSON object that matches this JSON schema: {"
    )


def test_a_server_without_schemas_still_has_its_repeated_beginning_dropped() -> None:
    """The simpler request lost which answer it goes on with."""
    refused = Reply(400, body=b'{"error": {"message": "response_format of type json_schema is not supported"}}')
    script = Script([refused, Reply(chunks=words('{"a": 1}{"a": 2}'))])
    begun = Message("assistant", '{"a": 1}', finish_reason="length")
    prompt = Prompt(messages=(Message("user", "hi"), begun), continues=True)
    assert ask(script, prompt, constraint=Constraint("schema", SCHEMA)).text == '{"a": 2}'


def top(**values: float) -> dict[str, Any]:
    listed = [{"token": token, "logprob": value} for token, value in values.items()]
    return {"content": [{**listed[0], "top_logprobs": listed}]}


def test_log_probabilities_have_the_local_form() -> None:
    script = deltas({"content": "a"}, logprobs=top(a=-0.5, b=float("-inf")))
    done = ask(script, logprobs=2)
    assert (script.requests[0]["logprobs"], script.requests[0]["top_logprobs"]) == (True, 2)
    alternatives = [{"id": None, "text": "a", "logprob": -0.5}, {"id": None, "text": "b", "logprob": None}]
    assert done.logprobs == ({**alternatives[0], "top": alternatives},)


def test_log_probabilities_of_plain_completions_are_lists() -> None:
    logprobs = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"a": -0.5}]}
    script = Script([Reply(chunks=[{"choices": [{"text": "a", "logprobs": logprobs}]}])])
    done = ask(script, Prompt(text="x"), logprobs=1)
    assert script.requests[0]["logprobs"] == 1
    entry = {"id": None, "text": "a", "logprob": -0.5}
    assert done.logprobs == ({**entry, "top": [entry]},)


def test_missing_log_probabilities_are_said() -> None:
    said = [
        each.text
        for each in events_of(deltas({"content": "a"}), Request(HELLO, logprobs=1))
        if isinstance(each, Notice)
    ]
    assert said == ["the server gives no log probabilities"]


@pytest.mark.parametrize(
    ("tops", "expected"),
    [
        ({"y": -1.0, "n": -1.0, "z": -3.0}, {"yes": 0.5, "no": 0.5}),
        ({"yes": 0.0}, {"yes": 1.0, "no": 0.0}),
        ({"z": 0.0}, None),
    ],
)
def test_choices_get_probabilities_where_the_first_token_parts_them(tops: Any, expected: Any) -> None:
    script = deltas({"content": "yes"}, logprobs=top(**tops))
    script.owner = "vllm"
    done = ask(script, constraint=Constraint("choice", '["yes", "no"]'))
    assert (done.choice, done.logprobs) == (expected, ())


@pytest.mark.parametrize(("owner", "count"), [("vllm", 20), ("llamacpp", 1000)])
def test_a_choice_asks_for_as_many_alternatives_as_a_server_gives(owner: str, count: int) -> None:
    """llama-server lists what its grammar forbids, too, so that an option was missing among twenty."""
    script = Script([Reply(chunks=[{"choices": [{"delta": {"content": "yes"}, "finish_reason": "stop"}]}])])
    script.owner = owner
    ask(script, constraint=Constraint("choice", '["yes", "no"]'))
    assert script.requests[0]["top_logprobs"] == count
