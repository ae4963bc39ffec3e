"""Handle signals for a while. Knows what a system calls them, not what they mean."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@contextmanager
def signal_handlers(handlers: Mapping[str, Any]) -> Iterator[None]:
    """Handle signals while the block runs; afterwards their handlers are as they were.

    Args:
        handlers: by the signals' names; those that this system lacks are left out.
    """
    numbers = {getattr(signal, name): handler for name, handler in handlers.items() if hasattr(signal, name)}
    before = {number: signal.signal(number, handler) for number, handler in numbers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
