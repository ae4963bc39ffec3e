"""The address and key of a server, and the removal of the key from everything that is shown."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from chat.errors import UsageError

LONGEST_TEXT = 300  # characters of a text from the server


@dataclass(frozen=True)
class ServerAddress:
    """The address of a server; `key` is sent as a bearer token and never shown."""

    scheme: str
    host: str
    port: int
    path: str  # before `/chat/completions`, without a slash at the end
    key: str | None = None

    def __repr__(self) -> str:  # the key stays out of tracebacks and logs
        return f"Server({self.url})"

    @property
    def url(self) -> str:
        """The address as a user writes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    def error_text(self, plain: Any) -> str:
        """The error message in the JSON that the server sent, as `for_display` gives it; empty if there is none."""
        error = plain.get("error", plain) if isinstance(plain, dict) else plain
        words = error.get("message") or error.get("detail") if isinstance(error, dict) else error
        return self.for_display(words) if isinstance(words, str) else ""

    def for_display(self, text: str) -> str:
        """A text from the server as it may be shown: on one line, short, without the key."""
        text = text.replace(self.key, "***") if self.key else text
        return " ".join(text.split())[:LONGEST_TEXT]


def server_at(url: str, key: str | None, *, insecure: bool) -> ServerAddress:
    """The server that `url` names; `/v1` is added where the URL has no path.

    Raises:
        UsageError: no http(s) address, plain http to another machine without `insecure`, or characters that no key has.
    """
    wrong = UsageError(f"--remote needs an address like http://localhost:8000, not {_without_login(url)!r}")
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError as error:
        raise wrong from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise wrong
    if not _is_one_word(parts.netloc + parts.path):
        raise wrong
    if parts.scheme == "http" and not insecure and not _is_loopback(parts.hostname):
        raise UsageError(
            f"http to {parts.hostname} would send everything in the open", hint="use https, or add `--insecure`"
        )
    key = (key or "").strip() or None  # a line end comes with `$(cat FILE)` on some systems
    if key and not _is_one_word(key):
        raise UsageError("MISTRAL_CHAT_REMOTE_KEY has characters that no key has")
    return ServerAddress(parts.scheme, parts.hostname, port, parts.path.rstrip("/") or "/v1", key)


def _is_one_word(text: str) -> bool:
    """Whether a header or a request's first line can hold it."""
    return text.isascii() and text.isprintable() and " " not in text


def _without_login(url: str) -> str:
    return url.rpartition("@")[2]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
