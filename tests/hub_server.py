"""A hub on the loopback: lists repositories and serves files as huggingface.co does, and misbehaves when told to.

Large files are redirected to a second server, as the real hub does with its CDN, so that a token that follows is seen.
"""

from __future__ import annotations

import functools
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

GOOD_TOKEN = "hf_GoodTokenThatNobodyMayEverSee"
LARGE = 1000  # bytes from which on a file is kept in LFS


@dataclass(frozen=True)
class Fault:
    """How one answer goes wrong. Only what is given differs from a good answer."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None  # instead of the right one
    cut_after: int | None = None  # bytes of the body, then the connection is reset
    ignores_range: bool = False  # 200 and the whole file
    wrong_range: bool = False  # 206, but from byte 0
    hold_after: int | None = None  # bytes of the body, then wait for `HubServer.release`


@dataclass(frozen=True)
class Seen:
    """One request that came."""

    server: str  # hub | cdn
    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Repository:
    """What one repository holds, and who may read it."""

    files: dict[str, bytes]
    commit: str
    gated: bool = False
    private: bool = False
    branches: tuple[str, ...] = ("main",)
    listed: dict[str, Any] | None = None  # the list instead of the right one


def git_sha1(data: bytes) -> str:
    """A small file's name in git."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@functools.lru_cache(maxsize=64)
def etag(data: bytes) -> str:
    """What the hub calls a file's bytes."""
    return hashlib.sha256(data).hexdigest() if len(data) >= LARGE else git_sha1(data)


class HubServer:
    """The hub and its CDN; use as a context."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.faults: dict[str, list[Fault]] = {}  # by file name, or `list`: one for each answer, then good ones
        self.seen: list[Seen] = []
        self.held = threading.Event()  # an answer is being held
        self.release = threading.Event()
        self._hub = _serve(self, "hub")
        self._cdn = _serve(self, "cdn")

    def add(self, name: str, files: dict[str, bytes], **more: Any) -> Repository:
        """Have a repository."""
        commit = hashlib.sha1(
            repr((name, [(file, etag(data)) for file, data in sorted(files.items())])).encode()
        ).hexdigest()
        self.repositories[name] = Repository(files, commit, **more)
        return self.repositories[name]

    @property
    def url(self) -> str:
        """What HF_ENDPOINT is set to."""
        return f"http://127.0.0.1:{self._hub.server_port}"

    @property
    def cdn_url(self) -> str:
        """Where large files are redirected to."""
        return f"http://127.0.0.1:{self._cdn.server_port}"

    def paths(self, method: str = "GET") -> list[str]:
        """The requests that came, as `server path`."""
        return [f"{each.server} {each.path}" for each in self.seen if each.method == method]

    def ranges(self) -> list[str | None]:
        """The Range of each request for content that reached a CDN."""
        return [each.headers.get("range") for each in self.seen if each.server == "cdn"]

    def fault(self, key: str) -> Fault:
        """The next fault of a file."""
        waiting = self.faults.get(key)
        return waiting.pop(0) if waiting else Fault()

    def close(self) -> None:
        """Stop serving."""
        self.release.set()
        for server in (self._hub, self._cdn):
            server.shutdown()
            server.server_close()


@contextmanager
def hub_server() -> Iterator[HubServer]:
    """A hub while the block runs."""
    server = HubServer()
    try:
        yield server
    finally:
        server.close()


def _serve(hub: HubServer, name: str) -> ThreadingHTTPServer:
    handler = type("Handler", (_Handler,), {"hub": hub, "server_name": name})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who reads a header only goes away early
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer
    server_name: str

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        """Answer with the head only."""
        self.answer()

    def do_GET(self) -> None:
        """Answer."""
        self.answer()

    def answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.seen.append(Seen(self.server_name, self.command, self.path, headers))
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if self.server_name == "cdn":
            owner, name, *rest = parts
            self.content("/".join(rest), self.hub.repositories[f"{owner}/{name}"].files["/".join(rest)])
        elif parts[:2] == ["api", "models"]:
            self.listing("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main")
        else:
            self.resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]))

    def listing(self, name: str, revision: str) -> None:
        fault = self.hub.fault("list")
        if fault.status or fault.body is not None:
            return self.reply(fault.status or 200, fault.headers, fault.body or b"", fault)
        repository = self.allowed(name, revision, "list")
        if repository is None:
            return None
        plain = repository.listed or {
            "id": name,
            "sha": repository.commit,
            "siblings": [_sibling(name, data) for name, data in sorted(repository.files.items())],
        }
        return self.reply(200, {"Content-Type": "application/json"}, json.dumps(plain).encode(), fault)

    def resolve(self, name: str, revision: str, file: str) -> None:
        repository = self.allowed(name, revision, "file")
        if repository is None:
            return
        if file not in repository.files:
            self.refuse(404, "EntryNotFound")
            return
        data = repository.files[file]
        head = {"X-Repo-Commit": repository.commit, "X-Linked-Etag": f'"{etag(data)}"', "X-Linked-Size": str(len(data))}
        if len(data) >= LARGE:
            self.reply(302, head | {"Location": f"{self.hub.cdn_url}/{name}/{file}?Signature=secret"}, b"", Fault())
        else:
            self.content(file, data, head | {"ETag": f'"{etag(data)}"'})

    def content(self, file: str, data: bytes, head: dict[str, str] | None = None) -> None:
        fault = self.hub.fault(file) if self.command == "GET" else Fault()
        headers = {
            "Content-Type": "application/octet-stream",
            "Accept-Ranges": "bytes",
            **(head or {}),
            **fault.headers,
        }
        asked = self.headers.get("Range")
        first, _, last = (asked or "bytes=0-").removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last) + 1, len(data)) if last else len(data)
        if fault.status or fault.body is not None:
            return self.reply(fault.status or 200, headers, fault.body or b"", fault)
        if asked and start >= len(data):
            return self.reply(416, {"Content-Range": f"bytes */{len(data)}"}, b"", fault)
        if not asked or fault.ignores_range:
            return self.reply(200, headers, data, fault)
        start = 0 if fault.wrong_range else start
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        return self.reply(206, headers, data[start:stop], fault)

    def allowed(self, name: str, revision: str, what: str) -> Repository | None:
        """The repository, or None after a refusal in the hub's words."""
        repository = self.hub.repositories.get(name)
        token = self.headers.get("Authorization")
        if token not in (None, f"Bearer {GOOD_TOKEN}"):
            self.refuse(401, "", "Invalid credentials in Authorization header")
        elif repository is None or (repository.private and token is None):
            self.refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        elif revision not in (*repository.branches, repository.commit):
            self.refuse(404, "RevisionNotFound", "Invalid rev id")
        elif repository.gated and what == "file":
            self.refuse(403 if token else 401, "GatedRepo", "Access to model is restricted")
        else:
            return repository
        return None

    def refuse(self, status: int, code: str, message: str = "") -> None:
        head = {"X-Error-Code": code} if code else {}
        self.reply(status, head | {"X-Error-Message": message}, json.dumps({"error": message}).encode(), Fault())

    def reply(self, status: int, headers: dict[str, str], body: bytes, fault: Fault) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            self.wfile.write(body[: self.stop(fault, len(body))])
            if fault.cut_after is not None:
                self.close_connection = True
            elif fault.hold_after is not None:
                self.wfile.flush()
                self.hub.held.set()
                self.hub.release.wait(300)
                self.wfile.write(body[fault.hold_after :])
        except OSError:
            self.close_connection = True

    @staticmethod
    def stop(fault: Fault, length: int) -> int:
        stops = [each for each in (fault.cut_after, fault.hold_after) if each is not None]
        return min([length, *stops])


def _sibling(name: str, data: bytes) -> dict[str, Any]:
    plain: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git_sha1(data)}
    if len(data) >= LARGE:
        plain["lfs"] = {"sha256": etag(data), "size": len(data), "pointerSize": 134}
    return plain
