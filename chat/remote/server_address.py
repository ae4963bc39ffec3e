"""The address and key of a server, and the removal of its secrets from everything that is shown."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from chat.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST_TEXT = 300  # characters of a text from the server
KEY_VARIABLE = "MISTRAL_CHAT_REMOTE_KEY"
USUAL_PORTS = {"https": 443, "http": 80}
SHORTEST_SECRET = 8  # characters; a shorter header is a word that any text may have
OWN_HEADERS = ("host", "content-length", "content-type", "transfer-encoding", "connection", "accept-encoding")
MOST_LEVELS = 6  # of an error that are read
MOST_REASONS = 3
_ENDPOINTS = ("/chat/completions", "/completions", "/models")  # what documentation shows instead of the base address
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


@dataclass(frozen=True)
class ServerAddress:
    """The address of a server.

    Attributes:
        scheme: http or https.
        host: a name, or an IP address without brackets.
        port: the TCP port.
        path: what comes before `/chat/completions`, without a slash at the end.
        key: the secret that is sent with each request and never shown.
        query: sent with each request, without the question mark; may hold secrets.
        headers: (name, value) of headers that are sent with each request; may hold secrets.
        key_header: the header that carries the key: `Authorization: Bearer KEY`, or any other with the bare key.
        key_variable: the environment variable that holds the key, for hints.
    """

    scheme: str
    host: str
    port: int
    path: str
    key: str | None = None
    query: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    key_header: str = "Authorization"
    key_variable: str = KEY_VARIABLE

    def __repr__(self) -> str:  # secrets stay out of tracebacks and logs
        return f"Server({self.url})"

    @property
    def authority(self) -> str:
        """Host and port as a URL has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def name(self) -> str:
        """Host and port as histories and exports have them: without a usual port, key, path or query."""
        return self.authority.removesuffix(f":{USUAL_PORTS[self.scheme]}")

    @property
    def url(self) -> str:
        """The address as it is shown: without the query, which may hold a secret."""
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def is_loopback(self) -> bool:
        """Whether the server is on this machine."""
        return is_loopback(self.host)

    def target(self, path: str) -> str:
        """What the first line of a request for `path` names."""
        return self.path + path + (f"?{self.query}" if self.query else "")

    def request_headers(self) -> list[tuple[str, str]]:
        """The headers that are the server's own: its key and the extra ones."""
        headers = list(self.headers)
        if self.key:
            is_bearer = self.key_header.lower() == "authorization"
            headers.append((self.key_header, f"Bearer {self.key}" if is_bearer else self.key))
        return headers

    def error_text(self, plain: Any) -> str:
        """The error message in the JSON that the server sent, as `for_display` gives it; empty if there is none."""
        return self.for_display(_reason(plain, MOST_LEVELS))

    def for_display(self, text: str) -> str:
        """A text from the server as it may be shown: on one line, short, without the key and other secrets."""
        for secret in self._secrets():
            text = text.replace(secret, "***")
        return " ".join(text.split())[:LONGEST_TEXT]

    def _secrets(self) -> list[str]:
        sent = [value for _, value in self.headers] + [value for _, value in parse_qsl(self.query)]
        long = [value for value in sent if len(value) >= SHORTEST_SECRET]
        return sorted([*long, *([self.key] if self.key else [])], key=len, reverse=True)  # one may hold another


def server_at(
    url: str,
    key: str | None,
    *,
    insecure: bool,
    key_header: str = "Authorization",
    key_variable: str = KEY_VARIABLE,
    headers: Iterable[tuple[str, str]] = (),
) -> ServerAddress:
    """The server that `url` names; `/v1` is added where the URL has no path, and the end of a pasted endpoint is cut.

    Args:
        url: an http or https address; a query is sent with every request.
        key: the secret; None or an empty one sends none.
        insecure: allow plain http to another machine.
        key_header: the header for the key.
        key_variable: where the key comes from, for messages.
        headers: (name, value) of further headers.

    Raises:
        UsageError: no http(s) address, plain http to another machine without `insecure`, or a key or header with
            characters that no header has.
    """
    wrong = UsageError(f"--remote needs an address like http://localhost:8000, not {_without_secrets(url)!r}")
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or USUAL_PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise wrong from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.fragment:
        raise wrong
    if not _is_one_word(parts.netloc + parts.path + parts.query):
        raise wrong
    if parts.scheme == "http" and not insecure and not is_loopback(parts.hostname):
        raise UsageError(
            f"http to {parts.hostname} would send everything unencrypted", hint="use https, or add `--insecure`"
        )
    key = (key or "").strip() or None  # a line end comes with `$(cat FILE)` on some systems
    if key and not _is_one_word(key):
        raise UsageError(f"{key_variable} has characters that a key cannot have")
    return ServerAddress(
        scheme=parts.scheme,
        host=parts.hostname,
        port=port,
        path=_base_path(parts.path),
        key=key,
        query=parts.query,
        headers=tuple(checked_header(name, value) for name, value in headers),
        key_header=checked_header(key_header, "")[0],
        key_variable=key_variable,
    )


def _reason(plain: Any, levels: int) -> str:
    """The words of an error: OpenAI's `error.message`, FastAPI's `detail` with a place in the request, and others."""
    if isinstance(plain, str):
        return plain
    if levels and isinstance(plain, list):
        return "; ".join(filter(None, (_reason(each, levels - 1) for each in plain[:MOST_REASONS])))
    if not levels or not isinstance(plain, dict):
        return ""
    if isinstance(words := plain.get("msg"), str):
        place = plain.get("loc")
        names = [str(each) for each in place if each != "body"] if isinstance(place, list) else []
        return f"{'.'.join(names)}: {words}" if names else words
    found = (_reason(plain.get(key), levels - 1) for key in ("error", "message", "detail"))
    return next(filter(None, found), "")


def _base_path(path: str) -> str:
    path = path.rstrip("/")
    for end in _ENDPOINTS:
        if path.endswith(end):
            return path.removesuffix(end)
    return path or "/v1"


def checked_header(name: str, value: str) -> tuple[str, str]:
    """The header without spaces around its value.

    Raises:
        UsageError: no request can have it; the message does not repeat the value, which may be a secret.
    """
    name, value = name.strip(), value.strip()
    if not _HEADER_NAME.fullmatch(name) or name.lower() in OWN_HEADERS:
        raise UsageError(f"a request cannot have the header {name!r}")
    if not (value.isascii() and value.isprintable()):
        raise UsageError(f"the header {name} has characters that a header cannot have")
    return name, value


def _is_one_word(text: str) -> bool:
    """Whether a header or a request's first line can hold it."""
    return text.isascii() and text.isprintable() and " " not in text


def _without_secrets(url: str) -> str:
    return url.rpartition("@")[2].partition("?")[0]


def is_loopback(host: str) -> bool:
    """Whether a name or an IP address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
