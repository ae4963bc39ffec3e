"""The servers that the settings file names: `[remote.NAME]`, and what may be stored and shown of an address."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from chat.config.server_table import checked_server
from chat.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PUBLIC_QUERY = ("api-version",)  # parameters that are no secrets; without it Azure answers nothing
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_KINDS: dict[str, tuple[type, str]] = {
    "url": (str, "a text"),
    "model": (str, "a text"),
    "key_variable": (str, "the name of an environment variable"),
    "keyring": (bool, "true or false"),
    "key_header": (str, "the name of a header"),
    "headers": (dict, 'a table of texts, as in { "X-Team" = "search" }'),
    "insecure": (bool, "true or false"),
}
_HINTS = dict.fromkeys(("key", "api_key", "token"), "`key_variable` names the environment variable that holds the key")


@dataclass(frozen=True)
class Remote:
    """A server that the settings file names.

    Attributes:
        name: what `--remote` takes.
        url: its address.
        place: the file and the line of the address, for messages.
        model: its model, where it has several.
        key_variable: the environment variable that holds its key; without one no key is sent, unless the host has one.
        keyring: whether the key is in the keyring of the operating system.
        key_header: the header of the key.
        headers: more headers by name; may hold secrets.
        insecure: whether plain http to another machine is allowed.
    """

    name: str
    url: str = field(repr=False)
    place: str
    model: str | None = None
    key_variable: str | None = None
    keyring: bool = False
    key_header: str = "Authorization"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    insecure: bool = False

    def public_values(self) -> dict[str, Any]:
        """What is no secret, by key: of the headers only the names, of the address no password."""
        values = {
            "url": public_address(self.url),
            "model": self.model,
            "key_variable": self.key_variable,
            "keyring": self.keyring,
            "key_header": self.key_header,
            "headers": [name for name, _ in self.headers],
            "insecure": self.insecure,
        }
        return {key: value for key, value in values.items() if value}


def read_remotes(tables: Mapping[str, Any], place: Callable[..., str]) -> tuple[Remote, ...]:
    """The servers in the tables `[remote.NAME]`; messages repeat no values, which may be secrets.

    Args:
        place: gives the file and the line of a key below `remote`.

    Raises:
        UsageError: an unknown key, a wrong value, or a server without an address.
    """
    return tuple(_remote(name, table, place) for name, table in tables.items())


def is_url(text: str) -> bool:
    """Whether a value of `--remote` is an address rather than the name of a server."""
    return "/" in text or ":" in text


def public_value(name: str, value: Any) -> Any:
    """The value of an option as it may be stored and shown: that of `--remote` without secrets."""
    return public_address(value) if name == "remote" and value else value


def public_address(text: str) -> str:
    """A value of `--remote` as it may be stored and shown: without a password, and without secrets in its query."""
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
    except ValueError:
        return text.rpartition("@")[2].partition("?")[0]
    if not parts.query and "@" not in parts.netloc:
        return text
    query = urlencode([(name, value) for name, value in parse_qsl(parts.query) if name in PUBLIC_QUERY])
    kept = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, parts.fragment))
    return kept if "://" in text else kept.removeprefix("//")


def _remote(name: str, table: Any, place: Callable[..., str]) -> Remote:
    values = checked_server("remote", name, table, _KINDS, place, _HINTS)
    if "url" not in values:
        raise UsageError(f"{place(name)}: [remote.{name}] needs a `url`")
    if not _VARIABLE.fullmatch(values.get("key_variable", "_")):
        at = place(name, "key_variable" if "key_variable" in table else "key-variable")
        raise UsageError(f"{at}: `key_variable` must be {_KINDS['key_variable'][1]}, not the key itself")
    if values.get("keyring") and "key_variable" in values:
        raise UsageError(f"{place(name, 'keyring')}: `keyring` and `key_variable` cannot be used together")
    headers = values.pop("headers", {})
    return Remote(name=name, place=place(name, "url"), headers=tuple(headers.items()), **values)
