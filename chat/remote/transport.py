"""Send one HTTP request to a server and parse its event stream as it arrives."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from chat.errors import ChatError, ContextError, EngineError, ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chat.remote.server_address import ServerAddress

CONNECT_SECONDS = 10
SILENCE_SECONDS = 300  # a busy server may queue us; its prompt reading sends nothing
TRIES = 4  # for 429 and 503
LONGEST_WAIT_SECONDS = 60  # a server that asks for more is not waited for
LONGEST_LINE_BYTES = 1 << 20
LONGEST_JSON_BYTES = 64 << 20
LONGEST_ERROR_BYTES = 1 << 16


@dataclass(frozen=True)
class Busy:
    """The server is busy; the request is sent again after these seconds."""

    seconds: float


class Exchange:
    """One request and its answer; `abort` from another thread or a signal handler ends it."""

    def __init__(self, server: ServerAddress) -> None:
        self._server = server
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None  # http.client passes it to the response and drops it
        self.aborted = False

    def abort(self) -> None:
        """Stop waiting for the server; reads end at once."""
        self.aborted = True
        if self._socket is not None:
            with suppress(OSError):  # already gone
                self._socket.shutdown(socket.SHUT_RDWR)

    def json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """The JSON that the server answers with."""
        *_, response = self._tries(method, path, body)
        assert not isinstance(response, Busy)
        return self._json_of(response)

    def events(self, path: str, body: Mapping[str, Any]) -> Iterator[Any]:
        """The JSON objects of a stream of server-sent events, up to `[DONE]`; before them `Busy` for each wait.

        A server that does not stream gives one object. Source: the HTML standard, section 9.2; data of one event may
        come in several lines.

        Raises:
            ChatError: the server refuses, or the stream ends before `[DONE]` (`aborted` tells whether we ended it).
        """
        for each in self._tries("POST", path, body):
            if isinstance(each, Busy):
                yield each
            elif each.headers.get_content_type() == "application/json":
                yield self._json_of(each)
            else:
                yield from self._events_of(each)

    def _events_of(self, response: http.client.HTTPResponse) -> Iterator[Any]:
        data: list[str] = []
        size = 0
        is_begun = False
        for line in self._lines(response):
            if line.startswith("data:"):
                is_begun = True
                data.append(line[5:].removeprefix(" "))
                size += len(line)
            elif not line and data:
                text = "\n".join(data)
                data, size = [], 0
                if text == "[DONE]":
                    return
                yield self._parsed(text.encode(), "an event that is not JSON")
            if size > LONGEST_LINE_BYTES:
                raise EngineError(f"{self._server.url} sent an event without end")
        if data == ["[DONE]"]:
            return
        if is_begun or self.aborted:
            raise EngineError(f"{self._server.url} cut the answer off")
        hint = "is it the address of an OpenAI-compatible server?"
        raise EngineError(f"{self._server.url} answered without a stream of events", hint=hint)

    def _tries(
        self, method: str, path: str, body: Mapping[str, Any] | None
    ) -> Iterator[Busy | http.client.HTTPResponse]:
        """The response; before it each wait for a busy server."""
        for attempt in range(1, TRIES + 1):
            response = self._send(method, path, body)
            if response.status == 200:
                yield response
                return
            wait = _wait_seconds(response, attempt)
            is_last = attempt == TRIES or wait > LONGEST_WAIT_SECONDS or self.aborted
            if response.status not in (429, 503) or is_last:
                raise status_error(response, self._server, attempt, wait)
            self._close()
            yield Busy(wait)
            _sleep_until(time.monotonic() + wait, self)

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> http.client.HTTPResponse:
        server = self._server
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
        if server.key:
            headers["Authorization"] = f"Bearer {server.key}"
        kind = http.client.HTTPSConnection if server.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(server.host, server.port, timeout=CONNECT_SECONDS)
        patience: float = CONNECT_SECONDS
        try:
            self._connection.connect()
            self._socket = self._connection.sock
            if self.aborted:  # before there was a socket to shut down
                raise ConnectionAbortedError
            self._socket.settimeout(patience := SILENCE_SECONDS)
            self._connection.request(method, server.path + path, json.dumps(body).encode() if body else None, headers)
            return self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise connection_error(error, server, patience) from error

    def _lines(self, response: http.client.HTTPResponse) -> Iterator[str]:
        while True:
            try:
                line = response.readline(LONGEST_LINE_BYTES)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise connection_error(error, self._server, SILENCE_SECONDS) from error
            if not line:
                return
            if len(line) >= LONGEST_LINE_BYTES:
                raise EngineError(f"{self._server.url} sent a line of over {LONGEST_LINE_BYTES} bytes")
            yield line.decode("utf-8", errors="replace").rstrip("\r\n")

    def _json_of(self, response: http.client.HTTPResponse) -> Any:
        try:
            data = response.read(LONGEST_JSON_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise connection_error(error, self._server, SILENCE_SECONDS) from error
        return self._parsed(data, "something that is not JSON")

    def _parsed(self, data: bytes, nonsense: str) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise EngineError(f"{self._server.url} sent {nonsense}") from error

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


def _wait_seconds(response: http.client.HTTPResponse, attempt: int) -> float:
    """How long the server asks us to wait (RFC 9110, section 10.2.3); longer at each attempt if it does not say."""
    value = response.headers.get("Retry-After", "")
    with suppress(ValueError):
        return max(float(value), 0.0)
    with suppress(ValueError, TypeError):
        return max((parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds(), 0.0)
    return 0.5 * 2.0**attempt


def _sleep_until(end: float, exchange: Exchange) -> None:
    while not exchange.aborted and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))


def connection_error(error: Exception, server: ServerAddress, silence_seconds: float) -> ChatError:
    """The error for a failed connection.

    Args:
        silence_seconds: how long the server sent nothing, if that was the fault.
    """
    if isinstance(error, ConnectionRefusedError):
        return ModelError(f"nothing answers at {server.url}", hint="is the server running, and is the port right?")
    if isinstance(error, socket.gaierror):
        return ModelError(f"there is no host {server.host}")
    if isinstance(error, ssl.SSLError):
        return ModelError(f"{server.url} is not to be trusted: {getattr(error, 'reason', None) or error}")
    if isinstance(error, TimeoutError):
        return EngineError(f"{server.url} sent nothing for {silence_seconds:.0f} s")
    if isinstance(error, http.client.HTTPException) and not isinstance(error, (OSError, http.client.IncompleteRead)):
        return EngineError(f"{server.url} does not speak HTTP", hint="is it the right port, and https or http?")
    return EngineError(f"the connection to {server.url} broke")


def status_error(
    response: http.client.HTTPResponse, server: ServerAddress, tries: int, wait_seconds: float
) -> ChatError:
    """The error for a response that is not 200.

    Args:
        tries: how often the server was asked.
        wait_seconds: how long it wants us to wait, if it is busy.
    """
    status, text = response.status, _error_text(response, server)
    detail = f": {text}" if text else ""
    if status in (401, 403):
        return ModelError(
            f"{server.url} denies access ({status})", hint="set MISTRAL_CHAT_REMOTE_KEY to the server's key"
        )
    if status == 404:
        return ModelError(
            f"{server.url} knows no such model or address{detail}", hint="`--remote-model` names the model"
        )
    if status == 429:
        how = f"{tries} tries failed" if tries > 1 else f"it asks to wait {wait_seconds:.0f} s"
        return EngineError(f"{server.url} is too busy; {how}{detail}")
    if 300 <= status < 400:
        place = server.for_display(response.headers.get("Location", "another place"))
        return ModelError(f"{server.url} has moved to {place}")
    if status in (400, 413, 422) and "context" in text.lower():
        return ContextError(f"the prompt exceeds the server's context{detail}")
    if status < 500:
        return UsageError(f"{server.url} does not take this request ({status}){detail}")
    return EngineError(f"{server.url} failed ({status}){detail}")


def _error_text(response: http.client.HTTPResponse, server: ServerAddress) -> str:
    """The server's error message; empty if there is none."""
    try:
        return server.error_text(json.loads(response.read(LONGEST_ERROR_BYTES)))
    except (OSError, http.client.HTTPException, ValueError, RecursionError):
        return ""
