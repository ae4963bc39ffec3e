"""Keep-alive connections to one server, from any number of threads, of which each can be aborted.

httpcore2 is the layer below httpx2: it has the pool, the proxies and the streaming, and takes the network from outside,
which `abort` needs: no client closes a connection while another thread reads from it.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import httpcore2

from chat import __version__
from chat.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from chat.remote.server_address import ServerAddress

CONNECT_SECONDS = 10
SILENCE_SECONDS = 300  # a busy server may queue us; its prompt reading sends nothing
IDLE_SECONDS = 4.0  # common servers close idle connections after 5 s
TIMEOUTS = {"connect": CONNECT_SECONDS, "read": SILENCE_SECONDS, "write": SILENCE_SECONDS}
_sending = threading.local()  # `call`: the request that this thread sends now


class Call:
    """One request's use of a connection.

    Attributes:
        aborted: whether `abort` was called.
        is_sent: whether the request was begun to be sent.
        has_received: whether anything came back.
        silence_seconds: how long a read waits.
    """

    def __init__(self) -> None:
        self.aborted = False
        self.is_sent = False
        self.has_received = False
        self.silence_seconds: float = SILENCE_SECONDS
        self._stream: _Stream | None = None
        self._is_reused = False

    @property
    def is_stale(self) -> bool:
        """Whether the server closed an idle connection just when it was used again."""
        return self._is_reused and not self.has_received and not self.aborted

    def abort(self) -> None:
        """End the request from any thread or a signal handler: reads end at once, and the server sees the end."""
        self.aborted = True
        if self._stream is not None:
            self._stream.shut_down()

    def release(self) -> None:
        """The connection may serve another request from now on."""
        self._stream = None

    def use(self, stream: _Stream, *, is_reused: bool) -> None:
        """Read and write through this stream from now on."""
        self._stream, self._is_reused = stream, is_reused
        self.check()

    def check(self) -> None:
        """Fail if the request was aborted before there was a connection to shut down.

        Raises:
            ConnectionAbortedError: it was.
        """
        if self.aborted:
            raise ConnectionAbortedError


class Connections:
    """The connections to one server."""

    def __init__(self, server: ServerAddress) -> None:
        self._server = server
        self._lock = threading.Lock()
        self._pool: httpcore2.ConnectionPool | None = None
        self.proxy = ""  # host and port of the one that the environment names, once a request was sent

    def send(self, call: Call, method: str, path: str, content: bytes | None) -> httpcore2.Response:
        """Send a request and wait for the headers of its response.

        Raises:
            OSError: the connection failed or was aborted.
            httpcore2.ProtocolError: what came back is not HTTP.
            httpcore2.ProxyError: the proxy refused.
            UsageError: the environment names a proxy that cannot be used.
        """
        server = self._server
        headers = [
            ("Host", server.authority),
            ("User-Agent", f"mistral-chat/{__version__}"),
            ("Accept", "text/event-stream, application/json"),
            ("Accept-Encoding", "identity"),
        ]
        if content is not None:
            headers += [("Content-Type", "application/json"), ("Content-Length", str(len(content)))]
        url = httpcore2.URL(scheme=server.scheme, host=server.host, port=server.port, target=server.target(path))
        own = {name.lower() for name, _ in server.request_headers()}
        headers = [each for each in headers if each[0].lower() not in own] + server.request_headers()
        while True:
            request = httpcore2.Request(
                method, url, headers=headers, content=content, extensions={"timeout": dict(TIMEOUTS)}
            )
            _sending.call = call
            try:
                return self._opened().handle_request(request)
            except (OSError, httpcore2.RemoteProtocolError):
                if not call.is_stale:
                    raise
            finally:
                _sending.call = None

    def close(self) -> None:
        """Close the idle connections; a later request opens new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _opened(self) -> httpcore2.ConnectionPool:
        with self._lock:
            if self._pool is None:
                proxy = proxy_of(self._server)
                self.proxy = str(proxy.url.origin).partition("://")[2] if proxy else ""
                context = httpcore2.default_ssl_context() if self._server.scheme == "https" else None
                self._pool = httpcore2.ConnectionPool(
                    ssl_context=context,
                    proxy=proxy,
                    max_connections=None,
                    keepalive_expiry=IDLE_SECONDS,
                    network_backend=_Network(),
                )
            return self._pool


def proxy_of(server: ServerAddress) -> httpcore2.Proxy | None:
    """The proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names, unless NO_PROXY has the host; None without one.

    A server on this machine is never asked through a proxy, which could not reach it and would see the key.

    Raises:
        UsageError: the proxy is not one for HTTP.
    """
    has_system_settings = sys.platform in ("darwin", "win32")
    if server.is_loopback or not (has_system_settings or any(name.lower().endswith("_proxy") for name in os.environ)):
        return None
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    address = proxies.get(server.scheme) or proxies.get("all")
    if not address or proxy_bypass(server.authority) or _is_in_networks(server.host, proxies.get("no", "")):
        return None
    try:
        parts = urlsplit(address if "://" in address else f"http://{address}")
        port = parts.port or (443 if parts.scheme == "https" else 8080)
    except ValueError as error:
        raise UsageError("the address of the proxy in the environment cannot be read") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"no way through a proxy of the kind {parts.scheme}", hint="NO_PROXY excepts the server's host"
        )
    return httpcore2.Proxy(
        httpcore2.URL(scheme=parts.scheme, host=parts.hostname, port=port, target="/"),
        auth=(unquote(parts.username), unquote(parts.password or "")) if parts.username else None,
        ssl_context=httpcore2.default_ssl_context() if parts.scheme == "https" else None,
    )


def _is_in_networks(host: str, listed: str) -> bool:
    """Whether NO_PROXY has a network with this address, such as 10.0.0.0/8."""
    for each in listed.split(","):
        with suppress(ValueError):
            if ipaddress.ip_address(host) in ipaddress.ip_network(each.strip(), strict=False):
                return True
    return False


class _Stream(httpcore2.NetworkStream):
    """A connection that belongs to the `Call` that wrote last; errors of the network stay `OSError`."""

    def __init__(self, inner: httpcore2.NetworkStream, call: Call) -> None:
        self._inner = inner
        self._call = call
        self._was_used = False
        call.use(self, is_reused=False)

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._call.check()
        try:
            data = self._inner.read(max_bytes, self._call.silence_seconds if timeout else timeout)
        except (httpcore2.ReadError, httpcore2.ReadTimeout) as error:
            raise _cause(error) from error
        self._call.has_received |= bool(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if _sending.call is not self._call or not self._was_used:
            self._call = _sending.call
            self._call.use(self, is_reused=self._was_used)
            self._call.is_sent = self._was_used = True
        self._inner.write(buffer, timeout)  # httpcore2 reads on after its own WriteError: the server may have answered

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        try:
            return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout), self._call)
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
            raise _cause(error) from error

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    def shut_down(self) -> None:
        """End both directions, also while another thread reads."""
        with suppress(OSError):  # already gone
            # not `SSLSocket.shutdown`, which drops the encryption under the reader
            socket.socket.shutdown(self._inner.get_extra_info("socket"), socket.SHUT_RDWR)


class _Network(httpcore2.SyncBackend):
    """Opens connections that can be aborted."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        try:
            inner = super().connect_tcp(host, port, timeout, local_address, socket_options)
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
            raise _cause(error) from error
        return _Stream(inner, _sending.call)


def _cause(error: Exception) -> Exception:
    return error.__cause__ if isinstance(error.__cause__, OSError) else error
