"""A server on loopback that speaks the API, well or badly, as a test's script says."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Script:
    """What the server does; each reply to a chat request takes the next of `replies`, the last one for ever."""

    replies: list[Reply]
    models: list[str] = field(default_factory=lambda: ["tiny"])
    owner: str = "somebody"  # of the models
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)  # of GET requests
    seen_end: threading.Event = field(default_factory=threading.Event)  # the client ended a response
    port: int = 0
    connections: int = 0  # opened so far
    keeps_alive: bool = False  # HTTP/1.1 in chunks, else HTTP/1.0
    tls: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"


@dataclass
class Reply:
    """One answer: `chunks` as server-sent events, after `delay` seconds, each followed by a `pause`."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[Any] = field(default_factory=list)
    body: bytes = b""
    delay: float = 0.0
    pause: float = 0.0
    is_whole: bool = True  # ends with [DONE]
    end: str = "end"  # of the response in chunks; `hang`: none comes, `close`: the connection is closed after it


def words(*texts: str, finish: str = "stop", **usage: int) -> list[Any]:
    """Chunks of a chat answer."""
    chunks: list[Any] = [{"choices": [{"delta": {"role": "assistant"}}]}]
    chunks += [{"choices": [{"delta": {"content": text}}]} for text in texts]
    chunks.append({"choices": [{"delta": {}, "finish_reason": finish}]})
    if usage:
        chunks.append({"choices": [], "usage": usage})
    return chunks


@contextmanager
def serving(script: Script) -> Iterator[Script]:
    """Serve until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if script.keeps_alive else "HTTP/1.0"

        def setup(self) -> None:
            script.connections += 1
            super().setup()

        def send(self, data: bytes) -> None:
            if data and script.keeps_alive:
                data = b"%x\r\n%b\r\n" % (len(data), data)
            self.wfile.write(data)
            self.wfile.flush()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

        def do_GET(self) -> None:
            script.paths.append(self.path)
            data = json.dumps({"data": [{"id": name, "owned_by": script.owner} for name in script.models]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            script.requests.append({"path": self.path, **json.loads(self.rfile.read(length))})
            script.headers.append(dict(self.headers))
            reply = script.replies.pop(0) if len(script.replies) > 1 else script.replies[0]
            script.times.append(time.monotonic())  # a test may go on from here
            time.sleep(reply.delay)
            try:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if script.keeps_alive:
                    self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                self.send(reply.body)
                for chunk in reply.chunks:
                    self.send(b"data: " + json.dumps(chunk).encode() + b"\n\n")
                    time.sleep(reply.pause)
                if reply.status == 200 and reply.is_whole:
                    self.send(b"data: [DONE]\n\n")
                if reply.end == "hang":
                    with contextlib.suppress(OSError):  # TLS that ends without a farewell
                        self.rfile.read(1)
                    script.seen_end.set()
                elif script.keeps_alive:
                    self.wfile.write(b"0\r\n\r\n")
                self.close_connection |= reply.end != "end"
            except OSError:  # the client is gone
                script.seen_end.set()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if script.tls is not None:
        server.socket = script.tls.wrap_socket(server.socket, server_side=True)
    script.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield script
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def answering(*parts: bytes, once: bool = False, heard: list[bytes] | None = None) -> Iterator[str]:
    """Answer every connection with these bytes, whatever they are; yields the address.

    Args:
        parts: what is sent, one after the other.
        once: the next request on the same connection is read, and the connection closed.
        heard: gets what the client sent first.
    """

    def talk() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed
                return
            with connection, contextlib.suppress(OSError):
                first = connection.recv(65536)
                if heard is not None:
                    heard.append(first)
                for part in parts:
                    connection.sendall(part)
                if once:
                    connection.recv(65536)
                    continue
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):  # what is closed with something unread breaks what was sent
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=talk, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
