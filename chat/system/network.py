"""Keep the network from this program where the user says `--offline`.

Two locks. In every process of ours Python opens no socket but local ones (an audit hook). Our child processes also ask
the kernel, before they import anything: for a network namespace of their own, which has no way out, else for a filter
of system calls (seccomp, where the package `pyseccomp` is installed). So the engine's compiled code has no network,
either. What the user runs through us, such as an editor or a `!command`, is not ours, and keeps the network.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from chat.errors import FileError

VARIABLE = "MISTRAL_CHAT_OFFLINE"  # also how the settings spell the option as a variable
_NEW_USER = 0x10000000  # CLONE_NEWUSER of <linux/sched.h>
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
_LOCAL_SOCKETS = 1  # AF_UNIX
_reason = ""  # why there is no network; empty while there is one
_kernel_lock = ""  # what the kernel holds this process with


def go_offline(reason: str = "`--offline`") -> None:
    """Open no socket from now on, neither here nor in our child processes; there is no way back.

    Args:
        reason: what says so, for messages: the flag, the variable, or the setting.
    """
    global _reason
    is_hooked, _reason = bool(_reason), reason
    os.environ[VARIABLE] = os.environ["HF_HUB_OFFLINE"] = "1"
    if not is_hooked:
        sys.addaudithook(_refuse_sockets)


def is_offline() -> bool:
    """Whether `go_offline` was called in this process."""
    return bool(_reason)


def require_network(purpose: str) -> None:
    """Say in one sentence why something cannot be done offline, before a library finds out.

    Args:
        purpose: what the network is needed for, such as `asking the hub`.

    Raises:
        FileError: the program is offline.
    """
    if _reason:
        hints = {"`": "leave it out to allow that", "$": f"`unset {VARIABLE}` allows it"}
        raise FileError(
            f"{_reason} forbids {purpose}", hint=hints.get(_reason[0], "`mistral-chat config edit` opens it")
        )


def seal_child() -> None:
    """Go offline in a child process whose parent is; called before anything is imported."""
    global _kernel_lock
    if os.environ.get(VARIABLE) == "1":
        go_offline()
        _kernel_lock = _own_namespace() or _own_filter()


def kernel_lock() -> str:
    """What the kernel holds this process with, in words; empty where it offers nothing, or there is a network."""
    return _kernel_lock


def _refuse_sockets(event: str, arguments: tuple[Any, ...]) -> None:
    """Raise before Python opens a socket to elsewhere; the arguments are those of the audit event."""
    if event == "socket.__new__":  # Windows has pairs of sockets through its own address only
        is_local = arguments[1] == _LOCAL_SOCKETS or sys.platform == "win32"
    elif event == "socket.connect":
        is_local = isinstance(arguments[1], (str, bytes)) or arguments[1][0] in ("127.0.0.1", "::1")
    else:
        is_local = event not in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
    if not is_local:
        require_network("opening a connection")


def _own_namespace() -> str:
    """Move into a network namespace of our own; without privileges together with a user namespace."""
    if sys.platform != "linux":
        return ""
    import ctypes

    user, group = os.getuid(), os.getgid()
    unshare = ctypes.CDLL(None, use_errno=True).unshare
    if unshare(_NEW_NETWORK) == 0:
        return "a network namespace"
    if unshare(_NEW_USER | _NEW_NETWORK) != 0:
        return ""
    maps = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
    for name, content in maps.items():  # so that files keep their owners
        try:
            with open(f"/proc/self/{name}", "w") as file:
                file.write(content)
        except OSError:  # only the names of the owners differ
            break
    return "a network namespace"


def _own_filter() -> str:
    """Let the kernel refuse sockets but local ones."""
    try:
        import pyseccomp
    except (ImportError, OSError, RuntimeError):  # not installed, or without the library that it binds
        return ""
    import errno
    import socket

    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for family in (socket.AF_INET, socket.AF_INET6):
        rules.add_rule(pyseccomp.ERRNO(errno.EACCES), "socket", pyseccomp.Arg(0, pyseccomp.EQ, family))
    try:
        rules.load()
    except OSError:
        return ""
    return "a filter of system calls"
