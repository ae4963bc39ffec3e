"""The keys of servers in the keyring of the operating system, through the package `keyring`."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

from chat.errors import FileError, UsageError, reason_text
from chat.system.environment import notify
from chat.system.installer import install_extra

if TYPE_CHECKING:
    from collections.abc import Callable

    from chat.config.remotes import Remote

_SERVICE = "mistral-chat"  # under which the keyring's own program lists the keys
_QUIET_SECONDS = 3.0  # that a keyring may take before the user is told; it may ask for its password in a window
_LONGEST_SECONDS = 120.0  # after which it is taken for one that never answers
_OTHER_WAY = "`key_variable` in the settings file takes the key from an environment variable instead"


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
        return _answer(lambda: question(keyring))
    except keyring.errors.NoKeyringError as error:
        raise FileError("there is no keyring here", hint=_OTHER_WAY) from error
    except queue.Empty as error:
        raise FileError("the keyring does not answer", hint=_OTHER_WAY) from error
    except (Exception, SystemExit) as error:  # each keyring has errors of its own, which the package does not all know
        raise FileError(f"the keyring cannot be used: {reason_text(error)}", hint="is it unlocked?") from error


def _answer(question: Callable[[], Any]) -> Any:
    """What a function returns or raises; it runs in a thread, as a keyring without a screen may wait forever.

    Raises:
        queue.Empty: it takes too long; the thread does not keep the program from ending.
    """
    # Not a SimpleQueue: in CPython a signal near the end of its timeout makes it wait forever
    answers: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue()

    def ask() -> None:
        try:
            answers.put((question(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=ask, daemon=True).start()
    try:
        found, error = answers.get(timeout=_QUIET_SECONDS)
    except queue.Empty:
        notify("note: waiting for the keyring, which may ask for its password in a window of its own")
        found, error = answers.get(timeout=_LONGEST_SECONDS)
    if error is not None:
        raise error
    return found
