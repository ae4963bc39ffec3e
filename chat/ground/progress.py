"""Show how far a long job is and how long it still takes. The only door to rich below the wings' own rooms."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Progress(Protocol):
    """What a long job reports to."""

    def advance(self, count: int) -> None:
        """Count `count` more units (bytes) as done."""

    def describe(self, text: str) -> None:
        """Name what is being worked on now."""


class Silent:
    """Progress that nobody watches."""

    def advance(self, count: int) -> None:
        """Count nothing."""

    def describe(self, text: str) -> None:
        """Name nothing."""


@contextmanager
def byte_bar(title: str, total_bytes: int, *, enabled: bool = True) -> Iterator[Progress]:
    """Draw a bar on stderr with bytes, speed and time left while the block runs.

    Silent where stderr is no terminal or `enabled` is false.
    """
    if not (enabled and sys.stderr.isatty()):
        yield Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=False),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=total_bytes)

        class Bar:
            def advance(self, count: int) -> None:
                bars.advance(task, count)

            def describe(self, text: str) -> None:
                bars.update(task, description=text)

        yield Bar()
