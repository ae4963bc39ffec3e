"""The keys of servers in the keyring of the operating system, through the package `keyring`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chat.errors import FileError, UsageError, reason_text
from chat.system.installer import install_extra

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.config.remotes import Remote

_SERVICE = "mistral-chat"  # under which the keyring's own program lists the keys


def stored_key(remote: Remote) -> str:
    """The key of a server that takes it from the keyring.

    Raises:
        UsageError: there is none.
        FileError: there is no keyring, or it is locked.
    """
    key = _ask(lambda keyring: keyring.get_password(_SERVICE, remote.name))
    if not key:
        raise UsageError(
            f"the keyring has no key for `{remote.name}`", hint=f"`mistral-chat config key {remote.name}` stores it"
        )
    return str(key)


def store_key(remote: Remote, key: str) -> None:
    """Store the key of a server, in place of an earlier one.

    Raises:
        FileError: there is no keyring, or it is locked.
    """
    _ask(lambda keyring: keyring.set_password(_SERVICE, remote.name, key))


def remove_key(remote: Remote) -> None:
    """Remove the key of a server.

    Raises:
        UsageError: there is none.
        FileError: there is no keyring, or it is locked.
    """
    stored_key(remote)
    _ask(lambda keyring: keyring.delete_password(_SERVICE, remote.name))


def _ask(question: Callable[[Any], Any]) -> Any:
    try:
        import keyring
    except ImportError as error:
        hint = f"`{install_extra('keyring')}` installs it"
        raise FileError("a keyring needs the package `keyring`, which is not installed", hint=hint) from error
    try:
        return question(keyring)
    except keyring.errors.NoKeyringError as error:
        hint = "`key_variable` in the settings file takes the key from an environment variable instead"
        raise FileError("there is no keyring here", hint=hint) from error
    except Exception as error:  # each system's keyring has errors of its own, which the package does not all know
        raise FileError(f"the keyring cannot be used: {reason_text(error)}", hint="is it unlocked?") from error
