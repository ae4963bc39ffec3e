"""The error for each way in which a server or the way to it can fail."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

import httpcore2

from chat.errors import ChatError, ContextError, EngineError, ModelError, UsageError

if TYPE_CHECKING:
    from chat.remote.server_address import ServerAddress


class RejectedRequestError(UsageError):
    """The server does not take the request.

    Attributes:
        text: its message.
    """

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


class EmptyStreamError(EngineError):
    """A stream without an event came: some servers do not say there why they refuse a request."""


class TemporaryError(ChatError):
    """The server is gone or too busy for now: it may answer if it is asked again.

    Attributes:
        wait_seconds: how long it asks to wait; 0 if it does not.
        is_cut: whether the connection broke after the request was sent.
    """

    def __init__(
        self, message: str, *, hint: str | None = None, wait_seconds: float = 0.0, is_cut: bool = False
    ) -> None:
        super().__init__(message, hint=hint)
        self.wait_seconds = wait_seconds
        self.is_cut = is_cut


class UnreachableError(TemporaryError, ModelError):
    """There is no connection to the server."""


class UnavailableError(TemporaryError, EngineError):
    """The server broke the connection off, or is too busy."""


def connection_error(
    error: Exception, server: ServerAddress, *, proxy: str, silence_seconds: float, has_received: bool
) -> ChatError:
    """The error for a failed connection.

    Args:
        error: what the network or the HTTP client raised.
        server: the server that was asked.
        proxy: host and port of the proxy between; empty without one.
        silence_seconds: how long nothing came, if that was the fault.
        has_received: whether anything of an answer came before.
    """
    place = f"the proxy {proxy}" if proxy else server.url
    if isinstance(error, httpcore2.ProxyError):
        return ModelError(f"{place} refuses: {server.for_display(str(error))}")
    if isinstance(error, ConnectionRefusedError):
        return UnreachableError(f"nothing answers at {place}", hint="is the server running, and is the port right?")
    if isinstance(error, socket.gaierror):
        return UnreachableError(f"there is no host {proxy.rpartition(':')[0] or server.host}")
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "verify_message", None) or getattr(error, "reason", None) or error
        return ModelError(f"{server.url} cannot be trusted: {reason}")
    if isinstance(error, TimeoutError):
        return UnavailableError(f"{server.url} sent nothing for {silence_seconds:.0f} s", is_cut=True)
    if isinstance(error, httpcore2.ProtocolError) and has_received:
        return EngineError(f"{server.url} does not speak HTTP", hint="is it the right port, and https or http?")
    return UnavailableError(f"the connection to {server.url} broke", is_cut=True)


def status_error(
    status: int, text: str, location: str, server: ServerAddress, *, tries: int, wait_seconds: float
) -> ChatError:
    """The error for a response that is not 200.

    Args:
        status: of the response.
        text: the server's message, fit for display; empty if there is none.
        location: where it says that its content is; empty if it does not.
        server: the server that was asked.
        tries: how often the server was asked.
        wait_seconds: how long it asks to wait, if it is busy; 0 if it does not.
    """
    detail = f": {text}" if text else ""
    if status in (401, 403):
        return ModelError(
            f"{server.url} denies access ({status})", hint=f"set {server.key_variable} to the server's key"
        )
    if status == 404:
        return ModelError(f"{server.url} has no such model or address{detail}", hint="`--remote-model` names the model")
    if status == 429:
        how = f"; it asks to wait {wait_seconds:.0f} s" if wait_seconds else ""
        how = f"; {tries} tries failed" if tries > 1 else how
        return UnavailableError(f"{server.url} is too busy{how}{detail}", wait_seconds=wait_seconds)
    if status in (502, 503, 504):
        return UnavailableError(f"{server.url} failed ({status}){detail}", wait_seconds=wait_seconds)
    if 300 <= status < 400:
        return ModelError(f"{server.url} has moved to {server.for_display(location or 'another place')}")
    if status in (400, 413, 422) and _is_overflow(text):
        return ContextError(f"the prompt exceeds the server's context{detail}")
    if status < 500:
        return RejectedRequestError(f"{server.url} refused this request ({status}){detail}", text)
    return EngineError(f"{server.url} failed ({status}){detail}")


def event_error(text: str) -> ChatError:
    """The error for one that came in the place of an answer or in the middle of it.

    Args:
        text: the server's message, fit for display; empty if there is none.
    """
    if _is_overflow(text):
        return ContextError(f"the prompt exceeds the server's context: {text}")
    return EngineError(f"the server failed{f': {text}' if text else ''}")


def _is_overflow(text: str) -> bool:
    """Whether a message says that a prompt does not fit."""
    text = text.lower()
    return "context" in text and any(word in text for word in ("exceed", "length", "window", "size", "long", "maximum"))
