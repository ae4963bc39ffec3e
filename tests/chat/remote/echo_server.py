"""A server on loopback that answers each prompt with itself, many at a time, and dies and comes back as a test says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

HEADERS = b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class EchoServer:
    """What it does, and what it saw.

    Attributes:
        status_of: the status for a prompt; the body of all but 200 is an error.
        headers: more headers of a response that is an error.
        dies_after: numbers of answers after which all connections break and nobody listens.
        back_after_seconds: when it listens again; None: never.
        waits_for: how many requests must be here at a time before the first one is answered.
        asked: how often each prompt was answered completely.
        paths: of GET requests.
        connections: opened so far.
        most: the most requests that were here at a time.
    """

    status_of: Callable[[str], int] = lambda _: 200
    headers: str = ""
    dies_after: set[int] = field(default_factory=set)
    back_after_seconds: float | None = 0.05
    waits_for: int = 1
    asked: Counter[str] = field(default_factory=Counter)
    paths: list[str] = field(default_factory=list)
    connections: int = 0
    most: int = 0
    port: int = 0
    _here: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _enough: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def listen(self) -> None:
        """Accept connections, always at the same port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def die(self) -> None:
        """Break all connections in the middle of what they send."""
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()
        if self.back_after_seconds is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(self.back_after_seconds, lambda: loop.create_task(self.listen()))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        if self._server is None or not self._server.is_serving():  # it was accepted in the moment of the death
            writer.transport.abort()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = [line.partition(":")[2] for line in head.lower().split("\r\n") if "content-length" in line]
                body = await reader.readexactly(int(length[0]) if length else 0)
                if head.startswith("GET"):
                    self.paths.append(head.split()[1])
                    self._send_whole(writer, 200, {"data": [{"id": "echo"}]})
                else:
                    await self._answer(writer, json.loads(body)["messages"][-1]["content"])
        self._open.discard(writer)
        writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, prompt: str) -> None:
        self._here += 1
        self.most = max(self.most, self._here)
        if self._here >= self.waits_for:
            self._enough.set()
        await self._enough.wait()
        self._here -= 1
        status = self.status_of(prompt)
        if status != 200:
            self._send_whole(writer, status, {"error": {"message": f"no answer to {prompt}"}}, self.headers)
            return
        writer.write(b"HTTP/1.1 200 OK\r\n" + HEADERS)
        *first, last = prompt.split(" ")
        for word in first:
            self._send_event(writer, {"delta": {"content": word + " "}})
            await asyncio.sleep(0)
        if sum(self.asked.values()) + 1 in self.dies_after:
            self.dies_after.remove(sum(self.asked.values()) + 1)
            self.die()
            return
        self._send_event(writer, {"delta": {"content": last}, "finish_reason": "stop"})
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")
        await writer.drain()
        self.asked[prompt] += 1

    def _send_event(self, writer: asyncio.StreamWriter, choice: dict[str, Any]) -> None:
        data = b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"
        writer.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _send_whole(self, writer: asyncio.StreamWriter, status: int, plain: Any, headers: str = "") -> None:
        data = json.dumps(plain).encode()
        writer.write(f"HTTP/1.1 {status} .\r\nContent-Length: {len(data)}\r\n{headers}\r\n".encode() + data)


@contextmanager
def echoing(server: EchoServer) -> Iterator[EchoServer]:
    """Serve from another thread until the block ends."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(server.listen())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
