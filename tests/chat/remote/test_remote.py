"""A server as the engine: what it is asked, what comes back, and one sentence for each way it can fail."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from typing import Any

import pytest

from chat.cli.main import run
from chat.core.conversation import Message
from chat.core.events import Completion, Notice, TextDelta
from chat.core.request import Constraint, Prompt, Request, Sampling
from chat.errors import ChatError, ContextError, EngineError, ModelError, UsageError
from chat.remote import transport
from chat.remote.client import RemoteBackend
from chat.remote.server_address import server_at
from tests.chat.remote.stub_server import Reply, Script, answering, serving, words

HELLO = Request(Prompt(messages=(Message("system", "be brief"), Message("user", "hi"))), Sampling(seed=7), stop=("x",))
KEY = "sk-very-secret"
ODD: list[Any] = [  # right names, wrong types: these ended in an unexpected AttributeError or TypeError
    {"choices": {"a": 1}},
    {"choices": [{"text": 5}]},
    {"choices": [{"delta": {"content": [5]}}]},
    {"choices": [{"delta": {"content": {"type": "text"}}}]},
    {"choices": [{"finish_reason": ["stop"]}]},
    {"choices": [{"delta": {"tool_calls": [{"id": 7, "function": {"name": "f", "arguments": "{}"}}]}}]},
    {"choices": [{"delta": {"tool_calls": [{"function": {"name": "f", "arguments": {}}}]}}]},
]


@pytest.fixture(autouse=True)
def empty_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is piped in."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))


def engine(script: Script, model: str | None = None) -> RemoteBackend:
    return RemoteBackend(server_at(script.url, KEY, insecure=False), model)


def ask(script: Script, request: Request = HELLO) -> tuple[list[str], Completion]:
    events = list(engine(script).reply(request))
    done = events[-1]
    assert isinstance(done, Completion)
    return [event.text for event in events if isinstance(event, TextDelta)], done


def test_an_answer_streams_and_carries_the_servers_counts() -> None:
    with serving(Script([Reply(chunks=words("Hel", "lo", prompt_tokens=9, completion_tokens=2))])) as script:
        texts, done = ask(script)
    assert texts == ["Hel", "lo"]
    assert (done.text, done.finish_reason, done.tokens.prompt, done.tokens.generated) == ("Hello", "stop", 9, 2)
    assert script.requests == [
        {
            "path": "/v1/chat/completions",
            "model": "tiny",
            "stream": True,
            "stream_options": {"include_usage": True},
            "stop": ["x"],
            "seed": 7,
            "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        }
    ]
    assert script.headers[0]["Authorization"] == f"Bearer {KEY}"


def test_a_cut_answer_says_length() -> None:
    with serving(Script([Reply(chunks=words("a", finish="length"))])) as script:
        assert ask(script)[1].finish_reason == "length"


def test_a_schema_and_functions_are_passed_on() -> None:
    tool = {"name": "clock", "parameters": {}}
    request = Request(
        Prompt(messages=(Message("user", "time?"),), tools=(tool,)),
        constraint=Constraint("schema", '{"type": "object"}'),
    )
    call = {"index": 0, "id": "c1", "function": {"name": "clock", "arguments": '{"z'}}
    rest = {"index": 0, "function": {"arguments": '":1}'}}
    chunks = [{"choices": [{"delta": {"tool_calls": [part]}}]} for part in (call, rest)]
    with serving(Script([Reply(chunks=chunks)])) as script:
        done = ask(script, request)[1]
    assert [(c.name, c.arguments, c.id) for c in done.tool_calls] == [("clock", '{"z":1}', "c1")]
    assert script.requests[0]["tools"] == [{"type": "function", "function": tool}]
    assert script.requests[0]["response_format"]["json_schema"]["schema"] == {"type": "object"}


def test_functions_that_a_server_calls_are_run_and_their_results_go_back(capsys: pytest.CaptureFixture[str]) -> None:
    call = {"index": 0, "id": "c1", "function": {"name": "calculate", "arguments": '{"expression": "6 * 7"}'}}
    chunks = [{"choices": [{"delta": {"tool_calls": [call]}}]}, *words("", finish="tool_calls")]
    with serving(Script([Reply(chunks=chunks), Reply(chunks=words("It is 42."))])) as script:
        flags = ["--run-tools", "--allow-tool", "calculate", "--tool-choice", "required"]
        assert run(["--remote", script.url, "-q", *flags, "What?"]) == 0
    assert capsys.readouterr().out == "It is 42.\n"
    first, second = script.requests
    assert (first["tool_choice"], second["tool_choice"]) == ("required", "auto")
    assert second["messages"][-2]["tool_calls"][0]["id"] == "c1"
    assert second["messages"][-1] == {"role": "tool", "content": "42", "tool_call_id": "c1"}


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (Reply(401), ModelError, "{url} denies access (401)"),
        (Reply(403), ModelError, "{url} denies access (403)"),
        (
            Reply(404, body=b'{"error": {"message": "no model x"}}'),
            ModelError,
            "{url} has no such model or address: no model x",
        ),
        (Reply(302, headers={"Location": "http://evil.example/"}), ModelError, "{url} has moved to http://evil.example/"),
        (Reply(302, headers={"Location": f"/?key={KEY}"}), ModelError, "{url} has moved to /?key=***"),
        (Reply(400, body=b'{"error": "bad\\n f"}'), UsageError, "{url} refused this request (400): bad f"),
        (
            Reply(400, body=b'{"error": {"message": "maximum context length is 8"}}'),
            ContextError,
            "the prompt exceeds the server's context: maximum context length is 8",
        ),
        (Reply(500, body=b"<html>"), EngineError, "{url} failed (500)"),
        (Reply(429, headers={"Retry-After": "0"}), EngineError, "{url} is too busy; 4 tries failed"),
        (Reply(chunks=words("a")[:2], is_whole=False), EngineError, "{url} cut the answer off"),
        (Reply(body=b"data: {nonsense\n\n"), EngineError, "{url} sent an event that is not JSON"),
        (Reply(chunks=[[1]]), EngineError, "the server sent a chunk with an unknown structure"),
        *(
            (Reply(chunks=[*words("a")[:2], chunk]), EngineError, "the server sent a chunk with an unknown structure")
            for chunk in ODD
        ),
        (Reply(chunks=[{"error": {"message": "out of memory"}}]), EngineError, "the server failed: out of memory"),
        (
            Reply(chunks=[*words("a")[:2], {"error": {"message": f"a key\nlike {KEY}: \x1b[31mno"}}]),
            EngineError,
            "the server failed: a key like ***: \x1b[31mno",
        ),
        (Reply(chunks=[{"error": f"{KEY} " * 200}]), EngineError, f"the server failed: {'*** ' * 75}"),
        (Reply(chunks=[{"error": {"code": 7}}]), EngineError, "the server failed"),
        (
            Reply(429, headers={"Retry-After": "3600"}, body=b'{"error": {"message": "quota"}}'),
            EngineError,
            "{url} is too busy; it asks to wait 3600 s: quota",
        ),
        (Reply(body=b"<html>", is_whole=False), EngineError, "{url} answered without a stream of events"),
        (
            Reply(headers={"Content-Type": "application/json"}, body=b"<html>", is_whole=False),
            EngineError,
            "{url} sent something that is not JSON",
        ),
        (
            Reply(headers={"Content-Type": "application/json"}, body=b'{"error": "no GPU"}', is_whole=False),
            EngineError,
            "the server failed: no GPU",
        ),
        (Reply(body=b"data: " + b"x" * (1 << 20)), EngineError, "{url} sent a line of over 1048576 bytes"),
        (Reply(body=b"data:\n" * (1 << 18)), EngineError, "{url} sent an event without end"),
        (Reply(body=(b"data: " + b"x" * 600_000 + b"\n") * 2), EngineError, "{url} sent an event without end"),
    ],
)  # fmt: skip
def test_each_fault_is_one_sentence(reply: Reply, kind: type[ChatError], message: str) -> None:
    with serving(Script([reply])) as script, pytest.raises(kind) as caught:
        ask(script)
    assert caught.value.message == message.format(url=f"{script.url}/v1")
    assert KEY not in f"{caught.value!r} {caught.value.hint}"


@pytest.mark.parametrize(
    ("odd", "counts"),
    [
        ({"usage": "none"}, (0, 0, 0)),
        ({"usage": {"prompt_tokens": 9, "prompt_tokens_details": [1]}}, (9, 0, 0)),
        ({"usage": {"prompt_tokens": "9", "completion_tokens": 2}}, (0, 0, 2)),
        ({"model": 5}, (0, 0, 0)),
    ],
)
def test_figures_of_another_type_are_unknown_and_cost_no_answer(odd: Any, counts: tuple[int, int, int]) -> None:
    """Some of them ended in an unexpected AttributeError, when the answer was whole."""
    with serving(Script([Reply(chunks=[*words("a"), {"choices": [], **odd}])])) as script:
        texts, done = ask(script)
    assert (texts, done.model) == (["a"], "")
    assert (done.tokens.prompt, done.tokens.cached, done.tokens.generated) == counts


def test_a_busy_server_is_asked_again_after_the_time_it_names() -> None:
    replies = [
        Reply(429, headers={"Retry-After": "0.3"}),
        Reply(503, headers={"Retry-After": "0"}),
        Reply(chunks=words("a")),
    ]
    with serving(Script(replies)) as script:
        assert ask(script)[0] == ["a"]
    assert len(script.times) == 3
    assert script.times[1] - script.times[0] >= 0.3


def test_a_wait_for_a_busy_server_is_said() -> None:
    replies = [Reply(429, headers={"Retry-After": "0.2"}), Reply(chunks=words("a"))]
    with serving(Script(replies)) as script:
        events = list(engine(script).reply(HELLO))
    said = [event.text for event in events if isinstance(event, (Notice, TextDelta))]
    assert said == [f"{script.url}/v1 is busy; asking again in 1 s", "a"]


def test_a_date_to_come_back_at_is_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(transport, "_sleep_until", lambda end, _: waits.append(end - time.monotonic()))
    gone = Reply(503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})
    far = Reply(503, headers={"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"})
    with serving(Script([gone, Reply(chunks=words("a"))])) as script:
        assert ask(script)[0] == ["a"]
    assert len(waits) == 1 and waits[0] <= 0
    with serving(Script([far])) as script, pytest.raises(EngineError, match=r"failed \(503\)$"):
        ask(script)
    assert len(script.times) == 1


def test_cancel_ends_the_wait_for_a_busy_server_and_asks_no_more() -> None:
    with serving(Script([Reply(429, headers={"Retry-After": "30"})])) as script:
        remote = engine(script, "tiny")
        for event in remote.reply(HELLO):
            if isinstance(event, Notice):
                remote.cancel()
            done = event
    assert isinstance(done, Completion)
    assert (done.finish_reason, len(script.times)) == ("interrupted", 1)


def test_a_first_byte_that_is_slow_is_waited_for_and_counted() -> None:
    with serving(Script([Reply(chunks=words("a"), delay=0.3)])) as script:
        began = time.monotonic()
        texts, done = ask(script)
        seconds = time.monotonic() - began
    assert texts == ["a"]
    assert done.seconds.prompt >= 0.3
    assert done.seconds.prompt + done.seconds.generate <= seconds  # the wait is counted once


def test_a_server_that_does_not_stream_is_heard_as_well() -> None:
    whole = {"model": "big", "choices": [{"message": {"content": "All"}, "finish_reason": "length"}]}
    reply = Reply(headers={"Content-Type": "application/json"}, body=json.dumps(whole).encode(), is_whole=False)
    with serving(Script([reply])) as script:
        texts, done = ask(script)
    assert (texts, done.text, done.finish_reason, done.model) == (["All"], "All", "length", "big")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((b"SSH-2.0-OpenSSH_9.6\r\n",), "does not speak HTTP"),
        ((b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 200), "does not speak HTTP"),
        ((b"HTTP/1.1 200 OK\r\nX: ", b"y" * 100_000), "does not speak HTTP"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ndata: {}",), "cut the answer off"),
        ((), "broke"),
    ],
)
def test_what_is_no_http_is_one_sentence(parts: tuple[bytes, ...], message: str) -> None:
    with answering(*parts) as url, pytest.raises(EngineError, match=message):
        list(RemoteBackend(server_at(url, KEY, insecure=False), "tiny").reply(HELLO))


def test_a_key_may_end_in_a_line_and_one_that_no_header_takes_is_refused_unseen() -> None:
    """Python's own complaint about such a header repeats it, key and all."""
    assert server_at("localhost:80", f"{KEY}\r\n", insecure=False).key == KEY
    for key in (f"{KEY}\nX: y", f"{KEY}\u2026"):
        with pytest.raises(UsageError) as caught:
            server_at("localhost:80", key, insecure=False)
        assert caught.value.message == "MISTRAL_CHAT_REMOTE_KEY has characters that a key cannot have"


def test_nothing_listening_is_said_so() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ModelError, match=r"nothing answers at http://127\.0\.0\.1:\d+/v1"):
        RemoteBackend(server_at(url, None, insecure=False), None).info()


def test_several_models_must_be_chosen_from() -> None:
    with serving(Script([Reply()], models=["a", "b"])) as script, pytest.raises(ModelError) as caught:
        engine(script).info()
    assert (caught.value.message, caught.value.hint) == (
        f"{script.url}/v1 has 2 models",
        "choose one with `--remote-model`: a, b",
    )


@pytest.mark.parametrize("reply", [Reply(chunks=words("a", "b"), pause=120), Reply(delay=120)])
def test_cancel_does_not_wait_for_the_server_and_keeps_what_came(reply: Reply) -> None:
    with serving(Script([reply])) as script:
        remote = engine(script, "tiny")

        def cancel_once_asked() -> None:
            while not script.times:
                time.sleep(0.005)
            remote.cancel()

        threading.Thread(target=cancel_once_asked, daemon=True).start()
        events = list(remote.reply(HELLO))
    done = events[-1]
    assert isinstance(done, Completion)
    assert done.finish_reason == "interrupted"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://192.168.1.5:8000", "http to 192.168.1.5 would send everything unencrypted"),
        ("ftp://localhost", "--remote needs an address like http://localhost:8000, not 'ftp://localhost'"),
        ("http://me:secret@localhost", "--remote needs an address like http://localhost:8000, not 'localhost'"),
        ("http://localhost:99999", "--remote needs an address like http://localhost:8000, not 'http://localhost:99999'"),
    ],
)  # fmt: skip
def test_an_address_that_is_none_or_is_open_to_all_is_refused(url: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        server_at(url, None, insecure=False)
    assert caught.value.message == message


def test_insecure_allows_http_and_a_bare_host_means_http_on_loopback() -> None:
    assert server_at("http://192.168.1.5:8000", None, insecure=True).url == "http://192.168.1.5:8000/v1"
    assert server_at("localhost:8000", None, insecure=False).url == "http://localhost:8000/v1"
    assert (
        server_at("https://api.example.com/openai/v1/", None, insecure=False).url
        == "https://api.example.com:443/openai/v1"
    )


def test_the_filter_answers_through_a_server_and_keeps_the_key_to_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISTRAL_CHAT_REMOTE_KEY", KEY)
    counts = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    chunks = [*words("Hi", "!"), {"model": "tiny-v2", "choices": [], "usage": counts}]
    with serving(Script([Reply(chunks=chunks)])) as script:
        assert run(["--remote", script.url, "hello"]) == 0
        assert capsys.readouterr() == ("Hi!\n", "")
        assert run(["--remote", script.url, "--json", "hello"]) == 0
        plain = json.loads(capsys.readouterr().out)
    assert KEY not in json.dumps(plain)
    assert plain["seconds"].pop("load") == 0
    assert plain["sampling"].pop("seed") == script.requests[1]["seed"] >= 0  # drawn here
    assert all(0 <= seconds < 10 for seconds in plain.pop("seconds").values())
    assert plain == {
        "text": "Hi!",
        "finish_reason": "stop",
        "ids": None,
        "prompt_ids_sha256": None,
        "tokens": {"prompt": 9, "cached": 4, "generated": 2, "drafted": 0, "accepted": 0},
        "sampling": {
            "temperature": None, "top_p": None, "top_k": None, "min_p": None, "repeat_penalty": None,
        },
        "model": {
            "path": f"{script.url}/v1", "name": "tiny-v2", "size": None, "sha256": None, "type": None, "window": None,
            "prompt_format": None,
        },
    }  # fmt: skip


def test_a_server_that_repeats_the_key_in_its_fault_does_not_get_it_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISTRAL_CHAT_REMOTE_KEY", KEY)
    with serving(Script([Reply(400, body=json.dumps({"error": {"message": f"wrong key {KEY}"}}).encode())])) as script:
        assert run(["--remote", script.url, "hello"]) == 2
        said = f"error: {script.url}/v1 refused this request (400): wrong key ***\n"
        assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--grammar", "start: /a/"], "a server of an unknown kind takes no Lark grammar"),
        (["--dry-run"], "the server renders the prompt itself"),
        (["--raw", "--regex", "a"], "a server of an unknown kind takes --raw without a constraint only"),
    ],
)
def test_what_no_server_takes_is_refused(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Script([Reply()])) as script:
        assert run(["--remote", script.url, *flags, "hello"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}\n")
