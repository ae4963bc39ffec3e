"""Which server `--remote` means, with the key that belongs to it and to no other."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from chat.config.remotes import is_url
from chat.errors import ChatError, EngineError, UsageError
from chat.system.network import require_network
from chat.system.secrets import HOST_KEYS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chat.config.options import Settings
    from chat.config.remotes import Remote
    from chat.remote.server_address import ServerAddress
    from chat.system.environment import Environment

LIST_SECONDS = 10.0  # the longest wait for a list of models


@dataclass(frozen=True)
class RemoteOptions:
    """Which server and which of its models answer.

    Attributes:
        model: None for the only one.
    """

    server: ServerAddress
    model: str | None


def remote_options(settings: Settings, variables: Mapping[str, str] = os.environ) -> RemoteOptions:
    """The server that the settings name, with its key.

    A server of the settings file gets the key from its own variable or the keyring only; an address gets
    $MISTRAL_CHAT_REMOTE_KEY.
    Where neither names a key, a host with a variable of its own, such as $MISTRAL_API_KEY, gets that.

    Raises:
        UsageError: the address or a header cannot be used, the settings file has no such server, or its key is missing.
        FileError: the program is offline, or the keyring cannot be used.
    """
    from chat.remote.server_address import KEY_VARIABLE, server_at

    require_network("asking a server")
    named = _named(settings)
    if named is None:
        typed = settings.remote or ""
        host_key = _host_key(typed)
        variable = host_key if host_key and not variables.get(KEY_VARIABLE) else KEY_VARIABLE
        server = server_at(typed, variables.get(variable), insecure=settings.insecure, key_variable=variable)
        return RemoteOptions(server, settings.remote_model)
    if named.keyring:
        from chat.app.key_store import stored_key

        server = server_of(named, stored_key(named), insecure=settings.insecure)
        return RemoteOptions(server, settings.remote_model or named.model)
    key_variable = named.key_variable or _host_key(named.url)
    if named.key_variable and named.key_variable not in variables:
        raise UsageError(
            f"${named.key_variable} is not set, but `{named.name}` takes its key from it",
            hint=f"set it to the server's key; {named.place} names it",
        )
    server = server_of(named, variables.get(key_variable) if key_variable else None, insecure=settings.insecure)
    return RemoteOptions(server, settings.remote_model or named.model)


def named_options(name: str | None, environment: Environment, model: str | None = None) -> RemoteOptions:
    """The server that a command names; without a name that of the settings, or their only one.

    Args:
        name: of the settings file, or an address.
        environment: its variables and its settings file hold the settings.
        model: one of the server's models.

    Raises:
        FileError: the settings file cannot be read.
        UsageError: none is named, or it cannot be used, or the settings have a fault.
    """
    from chat.config.resolve import resolve_settings

    settings = resolve_settings({}, environment.variables, file=environment.config_file).settings
    only = settings.remotes[0].name if len(settings.remotes) == 1 else None
    chosen = name or settings.remote or only
    if chosen is None:
        names = ", ".join(remote.name for remote in settings.remotes)
        raise UsageError("`--remote` needs a server", hint=f"servers: {names}" if names else "its name or address")
    own_model = settings.remote_model if chosen == settings.remote else None
    return remote_options(replace(settings, remote=chosen, remote_model=model or own_model), environment.variables)


def server_of(remote: Remote, key: str | None, *, insecure: bool = False) -> ServerAddress:
    """The address of a server of the settings file.

    Raises:
        UsageError: the address, the key or a header cannot be used; the message says on which line the server is.
    """
    from chat.remote.server_address import server_at

    variable = remote.key_variable or _host_key(remote.url) or "`key_variable` in the settings file"
    try:
        return server_at(
            remote.url,
            key,
            insecure=remote.insecure or insecure,
            key_header=remote.key_header,
            key_variable=f"the key of `{remote.name}`" if remote.keyring else variable,
            headers=remote.headers,
        )
    except UsageError as error:
        hint = error.hint.replace("add `--insecure`", "set `insecure = true` there") if error.hint else None
        raise UsageError(f"{remote.place}: {error.message}", hint=hint) from error


def answered_by(options: RemoteOptions, model: str = "") -> str:
    """The model and the server in words, as histories and exports name them."""
    from chat.core.answer_details import AnswerDetails

    return AnswerDetails(model or options.model or "", options.server.name).source


def server_models(options: RemoteOptions, seconds: float = LIST_SECONDS) -> tuple[str, ...]:
    """The models that a server lists.

    Args:
        seconds: the longest wait.

    Raises:
        ChatError: the server cannot be reached, lists none, or takes longer.
    """
    from chat.remote.client import RemoteBackend

    backend = RemoteBackend(options.server, None)
    found: list[tuple[str, ...]] = []
    faults: list[ChatError] = []

    def ask() -> None:
        try:
            found.append(backend.model_names())
        except ChatError as error:
            faults.append(error)

    thread = threading.Thread(target=ask, daemon=True, name="models")
    thread.start()
    try:
        thread.join(seconds)
    finally:
        backend.close()
    if found:
        return found[0]
    late = EngineError(f"{options.server.url} did not list its models within {seconds:g} s")
    raise faults[0] if faults and not thread.is_alive() else late


def _named(settings: Settings) -> Remote | None:
    """The server of the settings file; None where `--remote` is an address.

    Raises:
        UsageError: it is a word that can only be the name of a server, and there is none with it.
    """
    typed = settings.remote or ""
    names = [remote.name for remote in settings.remotes]
    if typed in names:
        return settings.remotes[names.index(typed)]
    if is_url(typed) or "." in typed or typed in ("", "localhost") or settings.insecure:
        return None
    near = get_close_matches(typed, names, 1)
    known = f"did you mean `{near[0]}`?" if near else f"servers: {', '.join(names)}" if names else None
    raise UsageError(
        f"no server `{typed}` in the settings file",
        hint=known or "`[remote.NAME]` there names one; an address looks like http://localhost:8000",
    )


def _host_key(url: str) -> str | None:
    """The variable that holds the key of a well-known host."""
    try:
        parts = urlsplit(url)
        return HOST_KEYS.get(parts.hostname or "") if parts.scheme == "https" and parts.port in (None, 443) else None
    except ValueError:
        return None
