"""The limit of a process's address space (`ulimit -v`), and what the numeric libraries need of it."""

from __future__ import annotations

from chat.errors import MemoryLimitError
from chat.system.terminal_text import size_text

NO_LIMIT = 1 << 62
LEAST_BYTES = 384 << 20  # with less, numpy's library waits forever for its buffers, or ends the process
HINT = "`ulimit -v unlimited` lifts the limit"


def address_space_limit() -> int:
    """The bytes that this process and each of its children may map; `NO_LIMIT` where there is none."""
    try:
        import resource
    except ImportError:  # Windows
        return NO_LIMIT
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return NO_LIMIT if limit == resource.RLIM_INFINITY else limit


def require_address_space(what: str) -> None:
    """Check that the numeric libraries can be loaded.

    Args:
        what: needs them, as the message names it.

    Raises:
        MemoryLimitError: the limit is too small.
    """
    limit = address_space_limit()
    if limit < LEAST_BYTES:
        raise MemoryLimitError(
            f"{what} needs {size_text(LEAST_BYTES)} of address space, but `ulimit -v` allows {size_text(limit)}",
            hint=HINT,
        )


def memory_error() -> MemoryLimitError:
    """The error where the system gives no more memory."""
    limit = address_space_limit()
    if limit == NO_LIMIT:
        return MemoryLimitError("there is not enough memory", hint="close other programs and try again")
    return MemoryLimitError(f"there is not enough memory: `ulimit -v` allows {size_text(limit)}", hint=HINT)
