"""The shapes that servers send and want, each as a scripted server shows it."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from chat.cli.main import run
from chat.core.conversation import Message, Picture, ToolCall
from chat.core.events import Completion, Event, Notice, ReasoningDelta, TextDelta
from chat.core.request import Prompt, Request, Sampling
from chat.errors import ChatError, ContextError, EngineError, UsageError
from chat.remote.client import RemoteBackend
from chat.remote.server_address import server_at
from chat.remote.server_kind import kind_of_host
from chat.remote.token_logprobs import token_logprobs
from tests.chat.remote.stub_server import Reply, Script, serving, words

HELLO = Prompt(messages=(Message("user", "hi"),))
WHOLE = {"headers": {"Content-Type": "application/json"}, "is_whole": False}


@pytest.fixture(autouse=True)
def empty_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is piped in."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))


def events_of(script: Script, request: Request) -> list[Event]:
    with serving(script):
        return list(RemoteBackend(server_at(script.url, None, insecure=False), "tiny").reply(request))


def ask(script: Script, prompt: Prompt = HELLO, **options: Any) -> Completion:
    done = events_of(script, Request(prompt, **options))[-1]
    assert isinstance(done, Completion)
    return done


def deltas(*parts: Any, **of_choice: Any) -> Script:
    """A server that streams these deltas."""
    return Script([Reply(chunks=[{"choices": [{"delta": part, **of_choice}]} for part in parts])])


def call(**of_call: Any) -> dict[str, Any]:
    function = {key: of_call.pop(key) for key in ("name", "arguments") if key in of_call}
    return {"tool_calls": [{"function": function, **of_call}]}


@pytest.mark.parametrize(
    ("parts", "calls"),
    [
        (  # llama-cpp-python repeats the name in every delta, which became get_weatherget_weather
            [call(index=0, id="c1", name="clock", arguments=part) for part in ('{"z', '":1}')],
            [ToolCall("clock", '{"z":1}', "c1")],
        ),
        (  # another id at the same index
            [call(index=0, id="c1", name="f", arguments="{}"), call(index=0, id="c2", name="g", arguments="[]")],
            [ToolCall("f", "{}", "c1"), ToolCall("g", "[]", "c2")],
        ),
        (
            [call(index=1, id="b", name="g"), call(index=0, id="a", name="f"), call(index=1, arguments="{}")],
            [ToolCall("g", "{}", "b"), ToolCall("f", "", "a")],
        ),
        (  # without an index
            [call(id="a", name="f", arguments="{"), call(arguments="}"), call(id="b", name="f", arguments="{}")],
            [ToolCall("f", "{}", "a"), ToolCall("f", "{}", "b")],
        ),
        ([call(id="a", name="f\ud800", arguments='"\udc00"')], [ToolCall("f\ufffd", '"\ufffd"', "a")]),
    ],
)  # fmt: skip
def test_function_calls_are_put_together(parts: list[Any], calls: list[ToolCall]) -> None:
    done = ask(deltas(*parts))
    assert (list(done.tool_calls), done.finish_reason) == (calls, "tool_calls")


def test_whole_calls_without_index_and_id_stay_apart_and_get_ids() -> None:
    function = {"name": "f", "arguments": "{}"}
    message = {"message": {"content": None, "tool_calls": [{"function": function}] * 2}, "finish_reason": "tool_calls"}
    done = ask(Script([Reply(body=json.dumps({"choices": [message]}).encode(), **WHOLE)]))
    first, second = done.tool_calls
    assert (first.name, first.arguments, second.name) == ("f", "{}", "f")
    assert len({first.id, second.id, ""}) == 3


THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
REASONING: list[tuple[list[Any], str, str]] = [
    ([{"reasoning_content": "h"}, {"reasoning_content": "m"}, {"content": "a"}], "hm", "a"),
    ([{"reasoning": "hm"}, {"content": "a"}], "hm", "a"),
    ([{"reasoning": "hm", "reasoning_content": "hm"}, {"content": "a"}], "hm", "a"),
    ([{"content": [THINKING]}, {"content": [{"type": "text", "text": "a"}]}], "hm", "a"),
    ([{"content": [{"type": "thinking", "thinking": "hm"}]}, {"content": "a"}], "hm", "a"),
    ([{"content": "\n<thi"}, {"content": "nk>\nhm\n</think"}, {"content": ">\n\na"}], "hm", "a"),
    ([{"content": "a <think>b</think>"}], "", "a <think>b</think>"),  # only at the start
    ([{"content": "<th"}], "", "<th"),
    ([{"reasoning_content": "hm"}], "hm", ""),
    ([{"reasoning_content": "\ud83d"}, {"reasoning_content": "\ude00"}, {"content": "\ud83d"}], "\U0001f600", "\ufffd"),
    ([{"content": "a\ud83d"}, {"content": "\ude00\udc00b"}], "", "a\U0001f600\ufffdb"),
]


@pytest.mark.parametrize(("parts", "reasoning", "text"), REASONING)
def test_reasoning_is_apart_from_the_answer(parts: list[Any], reasoning: str, text: str) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 4, "completion_tokens_details": {"reasoning_tokens": 3}}
    script = deltas(*parts)
    script.replies[0].chunks.append({"choices": [], "usage": usage})
    events = events_of(script, Request(HELLO))
    done = events[-1]
    assert isinstance(done, Completion)
    assert (done.reasoning, done.text, done.tokens.reasoning) == (reasoning, text, 3)
    assert "".join(each.text for each in events if isinstance(each, ReasoningDelta)) == reasoning
    assert "".join(each.text for each in events if isinstance(each, TextDelta)) == text


def test_reasoning_is_reported_and_an_answer_of_nothing_else_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(deltas({"reasoning_content": "hm"})) as script:
        assert run(["--remote", script.url, "--json", "hello"]) == 0
    out, err = capsys.readouterr()
    plain = json.loads(out)
    assert (plain["text"], plain["reasoning"]) == ("", "hm")
    assert err == "note: the model thought but gave no answer\n"


CAT = Picture.of_file(b"cat", "image/png", "cat.png")


def test_pictures_are_sent_as_parts_with_data_urls() -> None:
    script = Script([Reply(chunks=words("a cat"))])
    dog = Picture.of_file(b"dog", "image/jpeg", "dog.jpg", place=4)
    prompt = Prompt(
        messages=(
            Message("user", "who is it", pictures=(CAT, dog)),
            Message("user", "tell me"),
            Message("assistant", "ok"),
            Message("user", "again"),
        )
    )
    assert ask(script, prompt).text == "a cat"
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,Y2F0"}}
    other = {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,ZG9n"}}
    texts = [{"type": "text", "text": text} for text in ("who ", "is it\n\ntell me")]
    sent = script.requests[-1]["messages"]
    assert [each["content"] for each in sent] == [[image, texts[0], other, texts[1]], "ok", "again"]


def test_a_server_that_takes_no_pictures_says_so_itself() -> None:
    body = json.dumps({"error": {"message": "tiny does not support image input"}}).encode()
    with pytest.raises(ChatError, match="tiny does not support image input"):
        ask(Script([Reply(status=400, body=body)]), Prompt(messages=(Message("user", "", pictures=(CAT,)),)))


def test_neighbours_of_one_role_are_merged_and_reasoning_is_not_sent_back() -> None:
    """Templates that want roles to alternate refused a question after a stopped one for ever."""
    messages = (
        Message("system", "s"),
        Message("user", "one"),
        Message("assistant", "", reasoning="hm", finish_reason="interrupted"),
        Message("user", "two"),
        Message("assistant", "a", reasoning="hm", tool_calls=(ToolCall("f", "{}", "c"),)),
        Message("tool", "r", tool_call_id="c"),
        Message("user", "th\ud800ree"),
    )
    script = deltas({"content": "x"})
    ask(script, Prompt(messages=messages))
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    assert script.requests[0]["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "one\n\ntwo"},
        {"role": "assistant", "content": "a", "tool_calls": calls},
        {"role": "tool", "content": "r", "tool_call_id": "c"},
        {"role": "user", "content": "th\ufffdree"},
    ]


@pytest.mark.parametrize(
    ("owner", "fields", "last"),
    [
        ("vllm", {"continue_final_message": True, "add_generation_prompt": False}, {}),
        ("mistralai", {}, {"prefix": True}),
        ("llamacpp", {}, {}),
        ("somebody", {}, {}),
    ],
)
@pytest.mark.parametrize("parts", [["One, two", ", three"], ["One,", " two", ", three"], [", three"]])
def test_an_answer_goes_on_without_the_text_before(
    owner: str, fields: dict[str, Any], last: dict[str, Any], parts: list[str]
) -> None:
    """llama-server repeats the text in its first delta, which doubled it in the store and in the next request."""
    script = deltas(*({"content": part} for part in parts))
    script.owner = owner
    before = (Message("user", "count"), Message("assistant", "One, two", finish_reason="length"))
    assert ask(script, Prompt(messages=before, continues=True)).text == ", three"
    request = script.requests[0]
    assert {
        name: request[name] for name in request if name in ("continue_final_message", "add_generation_prompt")
    } == fields
    assert request["messages"][-1] == {"role": "assistant", "content": "One, two", **last}


@pytest.mark.parametrize("text", ["One", "One, x", ""])
def test_what_only_begins_like_the_text_before_stays(text: str) -> None:
    before = (Message("user", "count"), Message("assistant", "One, two", finish_reason="length"))
    assert ask(deltas({"content": text}), Prompt(messages=before, continues=True)).text == text


FIELDS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_penalty",
    "repetition_penalty",
    "max_tokens",
    "stop",
    "logprobs",
)


@pytest.mark.parametrize(
    ("owner", "flags", "sent"),
    [
        ("somebody", [], {}),
        ("somebody", ["--temperature", "0.7", "--repeat-penalty", "1"], {"temperature": 0.7, "repeat_penalty": 1.0}),
        ("vllm", ["--repeat-penalty", "1.1", "--top-k", "40"], {"repetition_penalty": 1.1, "top_k": 40}),
        ("llamacpp", ["--repeat-penalty", "1.1", "-n", "0"], {"repeat_penalty": 1.1, "max_tokens": 0}),
        ("somebody", ["--json", "--logprobs", "2"], {"logprobs": True}),
    ],
)  # fmt: skip
def test_a_server_gets_what_the_user_set_and_nothing_else(
    owner: str, flags: list[str], sent: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    script = deltas({"content": "x"})
    script.owner = owner
    with serving(script):
        assert run(["--remote", script.url, *flags, "hello"]) == 0
    request = script.requests[0]
    assert {name: request[name] for name in FIELDS if name in request} == sent
    assert "Traceback" not in capsys.readouterr().err


def test_the_choice_of_a_function_comes_from_the_command_line(tmp_path: Any) -> None:
    (tmp_path / "tools.json").write_text('[{"name": "now", "parameters": {}}]')
    with serving(deltas({"content": "x"})) as script:
        flags = ["--tools", str(tmp_path / "tools.json"), "--tool-choice", "none"]
        assert run(["--remote", script.url, *flags, "hello"]) == 0
        assert run(["--remote", script.url, "--tool-choice", "none", "hello"]) == 2
    assert [request["tool_choice"] for request in script.requests] == ["none"]


def test_a_setting_counts_as_set_by_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISTRAL_CHAT_TOP_P", "0.95")
    with serving(deltas({"content": "x"})) as script:
        assert run(["--remote", script.url, "hello"]) == 0
    assert (script.requests[0]["top_p"], "temperature" in script.requests[0]) == (0.95, False)


def test_a_record_of_a_batch_sets_its_own(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    lines = tmp_path / "lines"
    lines.write_text('{"prompt": "a", "temperature": 0.7}\n{"prompt": "b"}\n')
    with serving(deltas({"content": "x"})) as script:
        assert run(["--remote", script.url, "-q", "--batch", str(lines)]) == 0
    assert sorted(request.get("temperature", 0) for request in script.requests) == [0, 0.7]
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_what_a_kind_of_server_lacks_is_refused() -> None:
    script = deltas({"content": "x"})
    script.owner = "library"
    with pytest.raises(UsageError, match=r"^Ollama takes no --top-k, --min-p$"):
        ask(script, sampling=Sampling(top_k=1, min_p=0.2))


def test_thinking_is_switched_where_a_server_can() -> None:
    script = deltas({"content": "x"})
    script.owner = "vllm"
    ask(script, Prompt(messages=HELLO.messages, thinks=False))
    assert script.requests[0]["chat_template_kwargs"] == {"enable_thinking": False}
    with pytest.raises(UsageError, match=r"^a server of an unknown kind takes no --think on$"):
        ask(deltas({"content": "x"}), Prompt(messages=HELLO.messages, thinks=True))
    with pytest.raises(UsageError, match=r"^a remote server takes no --think-limit$"):
        ask(deltas({"content": "x"}), max_thinking_tokens=5)


@pytest.mark.parametrize(
    ("owner", "choice", "offered", "sent"),
    [
        ("vllm", None, ["now", "then"], None),
        ("vllm", "required", ["now", "then"], "required"),
        ("vllm", "then", ["now", "then"], {"type": "function", "function": {"name": "then"}}),
        ("llamacpp", "then", ["then"], "required"),
    ],
)
def test_a_server_is_told_whether_to_call_a_function(owner: str, choice: str | None, offered: Any, sent: Any) -> None:
    script = deltas({"content": "x"})
    script.owner = owner
    tools = ({"name": "now"}, {"name": "then"})
    ask(script, Prompt(messages=HELLO.messages, tools=tools, tool_choice=choice))
    (request,) = script.requests
    assert [tool["function"]["name"] for tool in request["tools"]] == offered
    assert request.get("tool_choice") == sent
    with pytest.raises(UsageError, match=r"^--tools has no function soon$"):
        ask(deltas({"content": "x"}), Prompt(messages=HELLO.messages, tools=tools, tool_choice="soon"))


def test_fields_that_nobody_asked_for_are_left_out_for_a_server_that_refuses_them() -> None:
    detail = [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]
    refused = Reply(422, body=json.dumps({"detail": detail}).encode())
    script = Script([refused, Reply(chunks=words("a"))])
    done = ask(script)
    assert (done.text, done.sampling["seed"]) == ("a", None)
    assert ["seed" in request for request in script.requests] == [True, False]
    with pytest.raises(UsageError, match=r"\(422\): seed: Extra inputs are not permitted$"):
        ask(Script([refused]), sampling=Sampling(seed=4))


@pytest.mark.parametrize(
    ("delta", "reason", "text"),
    [
        ({"content": "a"}, "content_filter", "a"),
        ({"refusal": "I cannot"}, "refusal", "I cannot"),
        ({"content": "a"}, "length", "a"),
        ({"content": "a"}, "eos", "a"),
    ],
)
def test_the_ways_an_answer_ends_are_told_apart(delta: dict[str, Any], reason: str, text: str) -> None:
    done = ask(deltas(delta, finish_reason="stop" if "refusal" in delta else reason))
    assert (done.finish_reason, done.text) == ("stop" if reason == "eos" else reason, text)


@pytest.mark.parametrize(
    ("reason", "said"),
    [("content_filter", "the server's content filter ended the answer"), ("refusal", "the model refused to answer")],
)
def test_a_filtered_answer_is_said_and_stored_as_earlier_versions_read_it(
    reason: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(deltas({"content": "a"}, finish_reason=reason)) as script:
        assert run(["--remote", script.url, "--session", "s", "hello"]) == 0
        assert capsys.readouterr().err == f"note: {said}\n"
        assert run(["--remote", script.url, "--fail-on-length", "hello"]) == 1
        assert capsys.readouterr().err == f"error: {said}\n"
    assert run(["sessions", "export", "s", "--format", "json"]) == 0
    assert [node.get("finish_reason") for node in json.loads(capsys.readouterr().out)["nodes"]] == [None, "stop"]


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        ({"detail": [{"loc": ["body", "messages", 0], "msg": "Field required"}]}, "messages.0: Field required"),
        ({"detail": "Not allowed"}, "Not allowed"),
        ({"object": "error", "message": {"detail": [{"loc": ["body", "n"], "msg": "bad"}]}, "type": "x"}, "n: bad"),
        ({"object": "error", "message": "bad n", "code": 400}, "bad n"),
        ({"error": {"message": "bad n", "code": 400}}, "bad n"),
        ({"error": {"error": {"error": {"error": {"error": {"error": {"error": "deep"}}}}}}}, ""),
    ],
)
def test_an_error_keeps_its_reason_in_whatever_shape(plain: Any, reason: str) -> None:
    body = json.dumps(plain).encode()
    ending = rf"\(400\){f': {reason}' if reason else ''}$"
    with pytest.raises(UsageError, match=ending):
        ask(Script([Reply(400, body=body)]))
    if "object" in plain or "error" in plain:  # in a stream
        with pytest.raises(EngineError, match=rf"^the server failed{f': {reason}' if reason else ''}$"):
            ask(Script([Reply(chunks=[plain])]))


OVERFLOW = {"error": {"message": "Requested tokens (900) exceed context window of 256", "code": 400}}


OVERFLOWN = Reply(400, body=json.dumps(OVERFLOW).encode())


@pytest.mark.parametrize(
    "replies",
    [
        [Reply(chunks=[OVERFLOW])],
        [Reply(headers={"Content-Type": "text/event-stream"}, is_whole=False), OVERFLOWN],
        [Reply(), OVERFLOWN],
    ],
)  # fmt: skip
def test_overflow_is_said_also_in_a_stream_and_by_an_empty_one(replies: list[Reply]) -> None:
    script = Script(replies)
    with pytest.raises(ContextError, match=r"^the prompt exceeds the server's context: Requested tokens"):
        ask(script)
    assert [request["stream"] for request in script.requests] == [True, False][: len(script.requests)]


@pytest.mark.parametrize(
    "body", [b"{}", b'{"id": "x"}', b'{"choices": null}', b'{"choices": []}', b'{"choices": [{}]}']
)
def test_an_object_without_an_answer_is_an_error(body: bytes) -> None:
    with pytest.raises(EngineError, match=r"^the server sent no answer$"):
        ask(Script([Reply(body=body, **WHOLE)]))


@pytest.mark.parametrize("number", ["-1", "9" * 4000, "9" * 5000, "1e400", "true", "NaN", "3.5"])
def test_a_count_that_is_none_is_unknown(number: str) -> None:
    usage = f'{{"prompt_tokens": 5, "completion_tokens": {number}}}'
    body = f'{{"choices": [{{"message": {{"content": "a"}}}}], "usage": {usage}}}'
    done = ask(Script([Reply(body=body.encode(), **WHOLE)]))
    assert (done.text, done.tokens.prompt, done.tokens.generated) == ("a", 5, 0)


def test_log_probabilities_that_no_strict_reader_takes_are_left_out() -> None:
    """`--json` printed half a character, and an id of a million was below zero."""
    entry = {"id": -7, "token": "\ud800", "logprob": float("-inf")}
    lists = {"tokens": ["\udc00", 5], "token_logprobs": [float("nan"), True], "top_logprobs": [{"\ud800": 1}, 7]}
    plain = token_logprobs({"content": [{**entry, "top_logprobs": [entry, 5]}]}) + token_logprobs(lists)
    odd = {"id": None, "text": "\ufffd", "logprob": None}
    assert plain == [
        {**odd, "top": [odd]},
        {**odd, "top": [{**odd, "logprob": 1.0}]},
        {"id": None, "text": "", "logprob": None, "top": []},
    ]


def test_an_answer_without_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat.remote.transport.LONGEST_JSON_BYTES", 10_000)
    with pytest.raises(EngineError, match=r"sent an answer without end$"):
        ask(deltas(*[{"content": "word " * 20}] * 100))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-5", "1e999", "soon", "Wed, 99 Oct 2015 07:28:00 GMT"])
def test_a_wait_that_is_no_time_is_our_own(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chat.remote.transport._sleep_until", lambda end, exchange: None)
    script = Script([Reply(429, headers={"Retry-After": value}), Reply(chunks=words("a"))])
    events = events_of(script, Request(HELLO))
    assert [each.text for each in events if isinstance(each, Notice)] == [
        f"{script.url}/v1 is busy; asking again in 1 s"
    ]


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://api.mistral.ai/v1", "mistral"),
        ("https://me.openai.azure.com/openai/v1", "openai"),
        ("https://notapi.mistral.ai.example", "unknown"),
        ("https://myapi.openai.community", "unknown"),
    ],
)
def test_a_known_host_says_what_a_server_is(url: str, kind: str) -> None:
    assert kind_of_host(server_at(url, None, insecure=False)) == kind
