"""Pages of the web: asked for once, with a limit, and each failure one sentence."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from chat.documents import web_page
from chat.documents.open_document import open_document
from chat.errors import ChatError
from tests.chat.documents import document_makers as make


@contextmanager
def serving(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[tuple[str, list[str]]]:
    """A server's address, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            answer(self)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def reply(data: bytes, media: str = "", code: int = 200, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def send(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in {**({"Content-Type": media} if media else {}), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(data)

    return send


def test_a_page_is_read_as_what_the_server_says_it_is() -> None:
    with serving(reply(b"<title>T</title><p>words</p>", "text/html; charset=utf-8")) as (address, asked):
        assert open_document(f"{address}/a?b#c").fenced() == f"Page `{address}/a?b#c`:\n```markdown\n# T\n\nwords\n```"
    assert asked == ["/a?b"]
    with serving(reply(b"<p>source</p>", "text/plain")) as (address, _):
        assert open_document(f"{address}/x.html").fenced() == f"File `{address}/x.html`:\n```\n<p>source</p>\n```"
    with serving(reply(make.pdf(["on paper"]))) as (address, _):
        assert open_document(f"{address}/x").text == "[page 1]\non paper"


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (reply(b"", code=404), "the server answers 404 (Not Found)"),
        (reply(b"MM\0*\0", "image/tiff"), "is a TIFF picture, not text"),
        (reply(b"short", Content_Length="100"), "the connection ended before all of it had arrived"),
        (reply(b"", code=302, Location="/again"), "the server answers 302"),
        (reply(b"", code=302, Location="file:///etc/passwd"), "the server answers 302"),
        (reply(b"1" * 2000), "is larger than the limit of 0 MiB"),
        (lambda handler: handler.wfile.write(b"no HTTP\r\n\r\n"), "cannot be read"),
        (lambda handler: None, "cannot be read"),
    ],
)
def test_each_failure_is_one_sentence(
    answer: Callable[[BaseHTTPRequestHandler], None], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_page, "MOST_BYTES", 1000)
    with serving(answer) as (address, asked), pytest.raises(ChatError) as caught:
        open_document(f"{address}/again")
    assert caught.value.message.startswith(f"{address}/again: ") and sentence in caught.value.message
    assert len(asked) <= 10


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(ChatError, match=r"^http://127\.0\.0\.1:9/x: cannot be reached: Connection refused$"):
        open_document("http://127.0.0.1:9/x")
