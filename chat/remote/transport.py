"""Send one HTTP request to a server and parse its event stream as it arrives."""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import httpcore2

from chat.errors import ChatError, EngineError
from chat.remote.connections import CONNECT_SECONDS, Call
from chat.remote.server_errors import EmptyStreamError, UnavailableError, connection_error, status_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chat.remote.connections import Connections
    from chat.remote.server_address import ServerAddress

TRIES = 4  # for 429 and 503
LONGEST_WAIT_SECONDS = 60  # a server that asks for more is not waited for
LONGEST_LINE_BYTES = 1 << 20
LONGEST_JSON_BYTES = 64 << 20
LONGEST_ERROR_BYTES = 1 << 16
LONGEST_NUMBER = 20  # digits
LAST_SECONDS = 0.2  # after the answer, for the end of the response: then the connection can be used again


@dataclass(frozen=True)
class Busy:
    """The server is busy; the request is sent again after these seconds."""

    seconds: float


class Exchange:
    """One request and its answer; `abort` from another thread or a signal handler ends it."""

    def __init__(self, server: ServerAddress, connections: Connections, *, tries: int = TRIES) -> None:
        """Send nothing yet.

        Args:
            server: is asked.
            connections: to the server.
            tries: how often a busy server is asked; 1 leaves that to the caller.
        """
        self._server = server
        self._connections = connections
        self._most_tries = tries
        self._call = Call()
        self._response: httpcore2.Response | None = None

    @property
    def aborted(self) -> bool:
        """Whether `abort` was called."""
        return self._call.aborted

    def abort(self) -> None:
        """Stop waiting for the server; reads end at once."""
        self._call.abort()

    def header(self, name: str) -> str:
        """A header of the last response; empty if there is none."""
        return _header(self._response, name) if self._response is not None else ""

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
            elif _header(each, "Content-Type").partition(";")[0].strip().lower() == "application/json":
                yield self._json_of(each)
            else:
                yield from self._events_of(each)

    def _events_of(self, response: httpcore2.Response) -> Iterator[Any]:
        data: list[str] = []
        size = total = 0
        is_begun = False
        chunks = self._chunks(response)
        for line in self._lines(chunks):
            total += len(line)
            if total > LONGEST_JSON_BYTES:
                raise EngineError(f"{self._server.url} sent an answer without end")
            if line.startswith("data:"):
                is_begun = True
                data.append(line[5:].removeprefix(" "))
                size += len(line)
            elif not line and data:
                text = "\n".join(data)
                data, size = [], 0
                if text == "[DONE]":
                    self._read_end(chunks)
                    return
                yield self._parsed(text.encode(), "an event that is not JSON")
            if size > LONGEST_LINE_BYTES:
                raise EngineError(f"{self._server.url} sent an event without end")
        if data == ["[DONE]"]:
            return
        if is_begun or self.aborted:
            raise UnavailableError(f"{self._server.url} cut the answer off", is_cut=True)
        hint = "is it the address of an OpenAI-compatible server?"
        is_stream = _header(response, "Content-Type").startswith("text/event-stream")
        raise (EmptyStreamError if is_stream else EngineError)(
            f"{self._server.url} answered without a stream of events", hint=hint
        )

    def _tries(self, method: str, path: str, body: Mapping[str, Any] | None) -> Iterator[Busy | httpcore2.Response]:
        """The response; before it each wait for a busy server."""
        content = None if body is None else json.dumps(body).encode()
        for attempt in range(1, self._most_tries + 1):
            response = self._send(method, path, content)
            if response.status == 200:
                yield response
                return
            asked = _wait_seconds(response)
            wait = 0.5 * 2.0**attempt if asked is None else asked  # longer at each attempt
            is_last = attempt == self._most_tries or wait > LONGEST_WAIT_SECONDS or self.aborted
            if response.status not in (429, 503) or is_last:
                text, location = self._error_text(response), _header(response, "Location")
                raise status_error(
                    response.status, text, location, self._server, tries=attempt, wait_seconds=asked or 0.0
                )
            self._read_end(self._chunks(response))
            self._close()
            yield Busy(wait)
            _sleep_until(time.monotonic() + wait, self)

    def _send(self, method: str, path: str, content: bytes | None) -> httpcore2.Response:
        try:
            self._response = self._connections.send(self._call, method, path, content)
        except (OSError, httpcore2.ProtocolError, httpcore2.ProxyError) as error:
            raise self._connection_error(error) from error
        return self._response

    def _chunks(self, response: httpcore2.Response) -> Iterator[bytes]:
        try:
            yield from response.iter_stream()
        except httpcore2.ProtocolError as error:
            raise UnavailableError(f"{self._server.url} cut the answer off", is_cut=True) from error
        except OSError as error:
            raise self._connection_error(error) from error

    def _lines(self, chunks: Iterator[bytes]) -> Iterator[str]:
        rest = b""
        for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            if any(len(line) >= LONGEST_LINE_BYTES for line in (*lines, rest)):
                raise EngineError(f"{self._server.url} sent a line of over {LONGEST_LINE_BYTES} bytes")
            for line in lines:
                yield line.decode("utf-8", errors="replace").rstrip("\r")
        if rest:
            yield rest.decode("utf-8", errors="replace").rstrip("\r")

    def _json_of(self, response: httpcore2.Response) -> Any:
        return self._parsed(self._read(response, LONGEST_JSON_BYTES), "something that is not JSON")

    def _read(self, response: httpcore2.Response, most: int) -> bytes:
        """The first `most` bytes of the response, or all that it has."""
        data = bytearray()
        for chunk in self._chunks(response):
            data += chunk
            if len(data) >= most:
                break
        return bytes(data[:most])

    def _read_end(self, chunks: Iterator[bytes]) -> None:
        """Read what is left, if it is there at once, so that the connection can be used again."""
        self._call.silence_seconds = LAST_SECONDS
        size = 0
        with suppress(ChatError):
            for chunk in chunks:
                size += len(chunk)
                if size > LONGEST_ERROR_BYTES:
                    return

    def _error_text(self, response: httpcore2.Response) -> str:
        """The server's error message; empty if there is none."""
        try:
            return self._server.error_text(json.loads(self._read(response, LONGEST_ERROR_BYTES)))
        except (ChatError, ValueError, RecursionError):
            return ""

    def _parsed(self, data: bytes, nonsense: str) -> Any:
        try:
            return json.loads(data, parse_int=_number)
        except (ValueError, RecursionError) as error:
            raise EngineError(f"{self._server.url} sent {nonsense}") from error

    def _connection_error(self, error: Exception) -> ChatError:
        return connection_error(
            error,
            self._server,
            proxy=self._connections.proxy,
            silence_seconds=self._call.silence_seconds if self._call.is_sent else CONNECT_SECONDS,
            has_received=self._call.has_received,
        )

    def _close(self) -> None:
        self._call.release()
        if self._response is not None:
            self._response.close()

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


def _number(text: str) -> int | float:
    """An integer; a longer one than any count becomes a float, because Python refuses thousands of digits."""
    return int(text) if len(text) <= LONGEST_NUMBER else float(text)


def _header(response: httpcore2.Response, name: str) -> str:
    """The value of a header; empty if there is none."""
    for key, value in response.headers:
        if key.lower() == name.lower().encode():
            return value.decode("latin-1")
    return ""


def _wait_seconds(response: httpcore2.Response) -> float | None:
    """How long the server asks us to wait (RFC 9110, section 10.2.3); None if it does not say."""
    value = _header(response, "Retry-After")
    with suppress(ValueError):
        seconds = float(value)
        return seconds if 0 <= seconds < math.inf else None
    with suppress(ValueError, TypeError, OverflowError):
        return max((parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds(), 0.0)
    return None


def _sleep_until(end: float, exchange: Exchange) -> None:
    while not exchange.aborted and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))
