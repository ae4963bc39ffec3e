"""A server on loopback whose model calls the functions that a question names.

A question is a JSON list of rounds. A round is a text, in which `=` stands for the results so far, or a list of calls,
each `[name, arguments]`: arguments that are a text are sent as they are. As a program it prints its port and serves.
"""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def answer_to(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """The delta that holds the whole answer to a conversation."""
    asked = max(number for number, message in enumerate(messages) if message["role"] == "user")
    later = messages[asked + 1 :]
    rounds = json.loads(messages[asked]["content"].splitlines()[-1])  # after a question that was never answered
    done = sum(1 for message in later if message["role"] == "assistant")
    now = rounds[min(done, len(rounds) - 1)]
    if isinstance(now, str):
        return {"content": now.replace("=", " + ".join(each["content"] for each in later if each["role"] == "tool"))}
    calls = [
        {
            "index": number,
            "id": f"r{done:04}c{number:03}",
            "type": "function",
            "function": {"name": name, "arguments": given if isinstance(given, str) else json.dumps(given)},
        }
        for number, (name, given) in enumerate(now)
    ]
    return {"tool_calls": calls}


class CallingServer(ThreadingHTTPServer):
    """Serves the API; `requests` are the bodies that came."""

    daemon_threads = True

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: CallingServer

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self._send(json.dumps({"data": [{"id": "caller", "owned_by": "tests"}]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append(body)
        delta = answer_to(body["messages"])
        finish = "tool_calls" if "tool_calls" in delta else "stop"
        chunks = [
            {"choices": [{"index": 0, "delta": {"role": "assistant"} | delta}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
            {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}},
        ]
        self._send(b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in chunks) + b"data: [DONE]\n\n")

    def _send(self, data: bytes) -> None:
        try:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data)
        except OSError:  # the client is gone
            pass


@contextmanager
def calling_server() -> Iterator[CallingServer]:
    """Serve until the block ends."""
    server = CallingServer()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    serving = CallingServer()
    print(serving.server_port, flush=True)
    serving.serve_forever()
