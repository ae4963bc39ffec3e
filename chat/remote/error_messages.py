"""Turn errors of the connection and of the server into one sentence each."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from typing import TYPE_CHECKING

from chat.errors import ChatError, ContextError, EngineError, ModelError, UsageError

if TYPE_CHECKING:
    from chat.remote.server_address import ServerAddress

LONGEST_ERROR_BYTES = 1 << 16


def connection_error(error: Exception, server: ServerAddress, silence_seconds: float) -> ChatError:
    """What a fault of the connection means.

    Args:
        silence_seconds: how long was waited, if that was the fault.
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
    """What a refusal means.

    Args:
        tries: how often the server was asked.
        wait_seconds: how long it wants us to wait, if it is busy.
    """
    status, words = response.status, _said(response, server)
    said = f": {words}" if words else ""
    if status in (401, 403):
        return ModelError(f"{server.url} refuses us ({status})", hint="set MISTRAL_CHAT_REMOTE_KEY to the server's key")
    if status == 404:
        return ModelError(f"{server.url} knows no such model or address{said}", hint="`--remote-model` names the model")
    if status == 429:
        how = f"{tries} tries failed" if tries > 1 else f"it asks to wait {wait_seconds:.0f} s"
        return EngineError(f"{server.url} is too busy; {how}{said}")
    if 300 <= status < 400:
        place = server.shown(response.headers.get("Location", "another place"))
        return ModelError(f"{server.url} has moved to {place}")
    if status in (400, 413, 422) and "context" in words.lower():
        return ContextError(f"the prompt exceeds the server's context{said}")
    if status < 500:
        return UsageError(f"{server.url} does not take this request ({status}){said}")
    return EngineError(f"{server.url} failed ({status}){said}")


def _said(response: http.client.HTTPResponse, server: ServerAddress) -> str:
    """The server's own words for a fault; '' where they are no JSON."""
    try:
        return server.words(json.loads(response.read(LONGEST_ERROR_BYTES)))
    except (OSError, http.client.HTTPException, ValueError, RecursionError):
        return ""
