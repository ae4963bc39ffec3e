"""Connections to a server: kept, shared by threads, aborted, behind a proxy and over TLS; and where the key goes."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chat.core.conversation import Message
from chat.core.events import Completion
from chat.core.request import Prompt, Request
from chat.errors import EngineError, ModelError, UsageError
from chat.remote.client import RemoteBackend
from chat.remote.connections import proxy_of
from chat.remote.server_address import server_at
from tests.chat.remote.stub_server import Reply, Script, answering, serving, words

HELLO = Request(Prompt(messages=(Message("user", "hi"),)))
KEY = "sk-very-secret"
TLS = Path(__file__).parent / "tls"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of the tests names none."""
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)


@contextmanager
def backend(url: str) -> Iterator[RemoteBackend]:
    remote = RemoteBackend(server_at(url, KEY, insecure=True), "tiny")
    try:
        yield remote
    finally:
        remote.close()


def completion(remote: RemoteBackend) -> Completion:
    *_, done = remote.reply(HELLO)
    assert isinstance(done, Completion)
    return done


def test_one_connection_serves_many_requests() -> None:
    again = Reply(429, headers={"Retry-After": "0"}, body=b"{}")
    script = Script([again, Reply(chunks=words("a", "b"))], keeps_alive=True)
    with serving(script), backend(script.url) as remote:
        assert [completion(remote).text for _ in range(3)] == ["ab"] * 3
        remote.model_names()
    assert (len(script.requests), script.connections) == (4, 1)


def test_threads_share_the_connections_and_each_gets_its_own_answer() -> None:
    script = Script([Reply(chunks=words(*"abcdefgh"), pause=0.002)], keeps_alive=True)
    texts: list[str] = []
    with serving(script), backend(script.url) as remote:
        threads = [
            threading.Thread(target=lambda: texts.extend(completion(remote).text for _ in range(5))) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert texts == ["abcdefgh"] * 20
    assert 1 <= script.connections <= 4


@pytest.mark.parametrize("end", ["hang", "close"])
def test_an_answer_is_complete_at_its_mark_however_the_response_ends(end: str) -> None:
    """A connection that the server closes while it is idle costs no answer either."""
    script = Script([Reply(chunks=words("a"), end=end)], keeps_alive=True)
    with serving(script), backend(script.url) as remote:
        assert [completion(remote).text for _ in range(2)] == ["a"] * 2
    assert script.connections == 2


def test_a_connection_that_is_closed_when_it_is_used_again_is_replaced() -> None:
    """The server closes it between two requests, so that the second one is lost before any answer."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n"
    with answering(answer + b'{"choices": [{"text": ""}]}', once=True) as url, backend(url) as remote:
        assert completion(remote).text == ""
        assert completion(remote).text == ""


def aborted_after(remote: RemoteBackend, is_ready: Callable[[], bool]) -> float:
    """Cancel the request as soon as `is_ready`; the seconds that it took to end after that."""
    pressed: list[float] = []

    def press() -> None:
        while not is_ready():
            time.sleep(0.002)
        pressed.append(time.monotonic())
        remote.cancel()

    threading.Thread(target=press, daemon=True).start()
    assert completion(remote).finish_reason == "interrupted"
    return time.monotonic() - pressed[0]


@pytest.mark.parametrize("is_encrypted", [False, True])
@pytest.mark.parametrize("reply", [Reply(delay=60), Reply(chunks=words("a"), is_whole=False, end="hang")])
def test_an_abort_ends_a_blocked_read_and_the_server_sees_it(
    reply: Reply, is_encrypted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "authority.pem"))
    script = Script([reply], keeps_alive=True, tls=server_tls() if is_encrypted else None)
    with serving(script), backend(script.url) as remote:
        seconds = aborted_after(remote, lambda: bool(script.times))
        print(f"ended after {seconds:.3f} s")
        if reply.end == "hang":  # the server waits for our side of the connection to end
            assert script.seen_end.wait(30)
        script.replies[:] = [Reply(chunks=words("b"))]
        assert completion(remote).text == "b"


def server_tls() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem")
    return context


def test_only_a_server_with_a_known_authority_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script([Reply(chunks=words("a"))], tls=server_tls())
    with serving(script):
        with backend(script.url) as remote, pytest.raises(ModelError) as caught:
            completion(remote)
        assert caught.value.message.startswith(f"{script.url}/v1 cannot be trusted: ")
        assert script.requests == []
        monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "authority.pem"))
        with backend(script.url) as remote:
            assert completion(remote).text == "a"
        with backend(script.url.replace("https", "http")) as remote, pytest.raises(EngineError):
            completion(remote)
        with backend(script.url.replace("127.0.0.1", "localhost")) as remote, pytest.raises(ModelError, match="match"):
            completion(remote)


def test_a_proxy_of_the_environment_is_used_and_named_in_its_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script([Reply(chunks=words("a"))])
    with serving(script), backend("http://server.example:81/v1?api-version=3") as remote:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:pass%20word@127.0.0.1:{script.port}")
        assert completion(remote).text == "a"
        assert script.requests[0]["path"] == "http://server.example:81/v1/chat/completions?api-version=3"
        assert script.headers[0]["Proxy-Authorization"] == "Basic bWU6cGFzcyB3b3Jk"
        assert script.headers[0]["Host"] == "server.example:81"
    with backend("http://server.example:81") as remote, pytest.raises(ModelError) as caught:
        completion(remote)
    assert caught.value.message == f"nothing answers at the proxy 127.0.0.1:{script.port}"


def test_the_key_goes_through_a_proxy_only_inside_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []
    with answering(b"HTTP/1.1 403 Forbidden\r\n\r\n", heard=heard) as url, backend("https://server.example") as remote:
        monkeypatch.setenv("https_proxy", url)
        with pytest.raises(ModelError, match=r"the proxy 127\.0\.0\.1:\d+ refuses: 403 Forbidden$"):
            completion(remote)
    assert heard[0].startswith(b"CONNECT server.example:443 HTTP/1.1\r\n")
    assert KEY.encode() not in heard[0]


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_used"),
    [
        ("", "https://a.example", True),
        ("example", "https://a.example", False),
        (".a.example, b.example:8000", "https://b.example:8000", False),
        ("b.example", "https://a.example", True),
        ("10.0.0.0/8", "https://10.1.2.3", False),
        ("10.0.0.0/8,fd00::/8", "https://[fd00::1]", False),
        ("10.0.0.0/8", "https://11.1.2.3", True),
        ("*", "https://a.example", False),
        ("", "https://localhost:9000", False),
        ("", "http://[::1]:9000", False),
    ],
)
def test_no_proxy_excepts_hosts_and_networks(
    no_proxy: str, url: str, is_used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    proxy = proxy_of(server_at(url, None, insecure=True))
    assert (proxy is not None) is is_used
    assert proxy is None or str(proxy.url.origin) == "http://proxy.example:3128"


def test_a_proxy_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://me:secret@proxy.example")
    with pytest.raises(UsageError) as caught:
        proxy_of(server_at("https://a.example", None, insecure=False))
    assert caught.value.message == "no way through a proxy of the kind socks5"


def test_a_redirect_is_not_followed() -> None:
    there = Script([Reply(chunks=words("a"))])
    here = Script([Reply(307, headers={"Location": ""})])
    with serving(there), serving(here), backend(here.url) as remote:
        here.replies[0].headers["Location"] = f"{there.url}/v1/chat/completions"
        with pytest.raises(ModelError, match="has moved to"):
            completion(remote)
    assert there.requests == []


def test_query_headers_and_another_header_for_the_key_come_with_each_request() -> None:
    script = Script([Reply(400, body=b'{"error": "secret-value api-key-1234 sk-very-secret, 2024-10-21"}')])
    with serving(script):
        url = f"{script.url}/openai/deployments/d/chat/completions?api-version=2024-10-21&sig=api-key-1234"
        server = server_at(url, KEY, insecure=False, key_header="api-key", headers=[("X-Org", "secret-value")])
        remote = RemoteBackend(server, None)
        remote.info()
        with pytest.raises(UsageError, match=r"\(400\): \*\*\* \*\*\* \*\*\*, \*\*\*$"):
            completion(remote)
    query = "?api-version=2024-10-21&sig=api-key-1234"
    assert script.requests[0]["path"] == f"/openai/deployments/d/chat/completions{query}"
    assert script.paths == [f"/openai/deployments/d/models{query}"]
    sent = script.headers[0]
    assert (sent["api-key"], sent["X-Org"], sent.get("Authorization")) == (KEY, "secret-value", None)
    assert not any(secret in f"{server!r} {remote.info()!r}" for secret in (KEY, "secret-value", "api-key-1234"))


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("localhost:8000/v1/chat/completions", "http://localhost:8000/v1"),
        ("localhost:8000/v1/completions/", "http://localhost:8000/v1"),
        ("https://a.example/api/v1/models", "https://a.example:443/api/v1"),
        ("https://a.example/v1?x=y", "https://a.example:443/v1"),
        ("http://[::1]:8000", "http://[::1]:8000/v1"),
    ],
)
def test_a_pasted_endpoint_is_an_address(url: str, base: str) -> None:
    assert server_at(url, None, insecure=False).url == base


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("X Y", "z", "a request cannot have the header 'X Y'"),
        ("Host", "z", "a request cannot have the header 'Host'"),
        ("X-Y", "a\nb: c", "the header X-Y has characters that a header cannot have"),
    ],
)
def test_a_header_that_no_request_takes_is_refused(name: str, value: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        server_at("localhost", None, insecure=False, headers=[(name, value)])
    assert caught.value.message == message
