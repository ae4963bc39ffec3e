"""Speak HTTP to one server: who may be spoken to, what its faults mean in words. Knows no chat."""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from chat.ground.errors import ChatError, ContextError, EngineError, ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONNECT_SECONDS = 10
SILENCE_SECONDS = 300  # a busy server may queue us; its prompt reading sends nothing
TRIES = 4  # for 429 and 503
LONGEST_WAIT_SECONDS = 30
LONGEST_LINE_BYTES = 1 << 20
LONGEST_ERROR_BYTES = 1 << 16


@dataclass(frozen=True)
class Server:
    """Where the server is; `key` is sent as a bearer token and never shown."""

    scheme: str
    host: str
    port: int
    path: str  # before `/chat/completions`, without a slash at the end
    key: str | None = None

    def __repr__(self) -> str:  # the key stays out of tracebacks and logs
        return f"Server({self.url})"

    @property
    def url(self) -> str:
        """The address as a person would write it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def server_at(url: str, key: str | None, *, insecure: bool) -> Server:
    """The server that `url` names; `/v1` is added where the URL has no path.

    Raises:
        UsageError: no http(s) address, or plain http to another machine without `insecure`.
    """
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError as error:
        raise UsageError(f"--remote needs an address like http://localhost:8000, not {url!r}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise UsageError(f"--remote needs an address like http://localhost:8000, not {_without_login(url)!r}")
    if parts.scheme == "http" and not insecure and not _is_loopback(parts.hostname):
        raise UsageError(
            f"http to {parts.hostname} would send everything in the open", hint="use https, or add `--insecure`"
        )
    return Server(parts.scheme, parts.hostname, port, parts.path.rstrip("/") or "/v1", key)


def _without_login(url: str) -> str:
    return url.rpartition("@")[2]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Exchange:
    """One request and its answer; `abort` from another thread or a signal handler ends it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None  # http.client hands it on, and forgets it
        self.aborted = False

    def abort(self) -> None:
        """Stop waiting for the server; reads end at once."""
        self.aborted = True
        if self._socket is not None:
            with suppress(OSError):  # already gone
                self._socket.shutdown(socket.SHUT_RDWR)

    def json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON that the server answers with."""
        data = b"".join(self._read(self._open(method, path, body)))
        try:
            return json.loads(data)
        except ValueError as error:
            raise EngineError(f"{self._server.url} answered with something that is not JSON") from error

    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[Any]:
        """The JSON objects of a stream of server-sent events, up to `[DONE]`.

        Source: the HTML standard, section 9.2; data of one event may come in several lines.

        Raises:
            EngineError: the stream ends before `[DONE]` (`aborted` tells whether we ended it).
        """
        data: list[str] = []
        for line in self._lines(self._open("POST", path, body)):
            if line.startswith("data:"):
                data.append(line[5:].removeprefix(" "))
            elif not line and data:
                text = "\n".join(data)
                data = []
                if text == "[DONE]":
                    return
                yield _parsed(text, self._server)
        if data and "\n".join(data) == "[DONE]":
            return
        raise EngineError(f"{self._server.url} cut the answer off")

    def _open(self, method: str, path: str, body: Mapping[str, Any] | None) -> http.client.HTTPResponse:
        for attempt in range(1, TRIES + 1):
            response = self._send(method, path, body)
            if response.status == 200:
                return response
            wait = _wait_seconds(response, attempt)
            if response.status not in (429, 503) or attempt == TRIES or self.aborted:
                raise _status_error(response, self._server)
            self._close()
            _sleep_until(time.monotonic() + wait, self)
        raise AssertionError("unreachable")

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> http.client.HTTPResponse:
        server = self._server
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
        if server.key:
            headers["Authorization"] = f"Bearer {server.key}"
        kind = http.client.HTTPSConnection if server.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(server.host, server.port, timeout=CONNECT_SECONDS)
        try:
            self._connection.connect()
            self._socket = self._connection.sock
            self._socket.settimeout(SILENCE_SECONDS)
            self._connection.request(method, server.path + path, json.dumps(body).encode() if body else None, headers)
            return self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise _connection_error(error, server) from error

    def _lines(self, response: http.client.HTTPResponse) -> Iterator[str]:
        while True:
            try:
                line = response.readline(LONGEST_LINE_BYTES)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise _connection_error(error, self._server) from error
            if not line:
                return
            if len(line) >= LONGEST_LINE_BYTES:
                raise EngineError(f"{self._server.url} sent a line of over {LONGEST_LINE_BYTES} bytes")
            yield line.decode("utf-8", errors="replace").rstrip("\r\n")

    def _read(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        try:
            yield response.read(64 << 20)
        except (OSError, http.client.HTTPException) as error:
            raise _connection_error(error, self._server) from error

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


def _parsed(text: str, server: Server) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise EngineError(f"{server.url} sent an event that is not JSON") from error


def _wait_seconds(response: http.client.HTTPResponse, attempt: int) -> float:
    try:
        wait = float(response.headers.get("Retry-After", ""))
    except ValueError:
        wait = 0.5 * 2.0**attempt
    return min(max(wait, 0.0), LONGEST_WAIT_SECONDS)


def _sleep_until(end: float, exchange: Exchange) -> None:
    while not exchange.aborted and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))


def _connection_error(error: Exception, server: Server) -> ChatError:
    if isinstance(error, ConnectionRefusedError):
        return ModelError(f"nothing answers at {server.url}", hint="is the server running, and is the port right?")
    if isinstance(error, socket.gaierror):
        return ModelError(f"there is no host {server.host}")
    if isinstance(error, ssl.SSLError):
        return ModelError(f"{server.url} is not to be trusted: {getattr(error, 'reason', None) or error}")
    if isinstance(error, TimeoutError):
        return EngineError(f"{server.url} does not answer")
    return EngineError(f"the connection to {server.url} broke")


def _status_error(response: http.client.HTTPResponse, server: Server) -> ChatError:
    status, words = response.status, _said(response, server.key)
    said = f": {words}" if words else ""
    if status in (401, 403):
        return ModelError(f"{server.url} refuses us ({status})", hint="set MISTRAL_CHAT_REMOTE_KEY to the server's key")
    if status == 404:
        return ModelError(f"{server.url} knows no such model or address{said}", hint="`--remote-model` names the model")
    if status == 429:
        return EngineError(f"{server.url} is too busy; {TRIES} tries failed{said}")
    if 300 <= status < 400:
        return ModelError(f"{server.url} has moved to {response.headers.get('Location', 'another place')}")
    if status in (400, 413, 422) and "context" in words.lower():
        return ContextError(f"the prompt exceeds the server's context{said}")
    if status < 500:
        return UsageError(f"{server.url} does not take this request ({status}){said}")
    return EngineError(f"{server.url} failed ({status}){said}")


def _said(response: http.client.HTTPResponse, key: str | None) -> str:
    """The server's own words for a fault, on one line and without the key; '' where they are no JSON."""
    try:
        plain = json.loads(response.read(LONGEST_ERROR_BYTES))
    except (OSError, http.client.HTTPException, ValueError):
        return ""
    error = plain.get("error", plain) if isinstance(plain, dict) else None
    words = error.get("message") or error.get("detail") if isinstance(error, dict) else error
    if not isinstance(words, str):
        return ""
    return " ".join((words.replace(key, "***") if key else words).split())[:300]
