"""Progress on stderr: how much of a long job is done, and the time left; as a bar, or in words for a screen reader."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from chat.system.environment import Environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from rich.progress import ProgressColumn

NARROW = 100  # columns of a terminal
SPOKEN_SECONDS = 15.0  # between two lines for a screen reader


class Progress(Protocol):
    """Takes the progress of a long job."""

    def advance(self, count: int) -> None:
        """Count `count` more units (bytes) as done."""

    def describe(self, text: str) -> None:
        """Name the current part of the job."""


class Silent:
    """Progress that is not shown."""

    def advance(self, count: int) -> None:
        """Count nothing."""

    def describe(self, text: str) -> None:
        """Name nothing."""


class _Spoken:
    """Progress as lines for a screen reader: at most one in `SPOKEN_SECONDS`."""

    def __init__(self, title: str, total: int | None, environment: Environment) -> None:
        self._title = title
        self._total = total
        self._environment = environment
        self._done = 0
        self._began_at = self._said_at = time.monotonic()

    def advance(self, count: int) -> None:
        self._done += count
        now = time.monotonic()
        if now - self._said_at >= SPOKEN_SECONDS:
            self._said_at = now
            self._say(now - self._began_at)

    def describe(self, text: str) -> None:
        self._title = text

    def _say(self, seconds: float) -> None:
        from chat.system.terminal_text import escape_line

        title = escape_line(self._title)
        if not self._total or not self._done:
            self._environment.notify(f"{title}: {self._done:,} done")
            return
        left = max(0, self._total - self._done) * seconds / self._done
        words = f"{round(left)} seconds" if left < 90 else f"{round(left / 60)} minutes"
        self._environment.notify(f"{title}: {min(1.0, self._done / self._total):.0%} done, {words} left")


def byte_bar(
    title: str, total_bytes: int, *, enabled: bool = True, environment: Environment | None = None
) -> AbstractContextManager[Progress]:
    """Draw a bar on stderr with bytes, speed and time left while the block runs.

    Nothing is drawn if stderr is no terminal or `enabled` is false; `environment` is the process's own by default.
    """
    return _bar(title, total_bytes, in_bytes=True, enabled=enabled, environment=environment)


def count_bar(
    title: str, total: int | None, *, enabled: bool = True, environment: Environment | None = None
) -> AbstractContextManager[Progress]:
    """Draw a bar on stderr that counts units, with the time left, while the block runs; `total` None is unknown.

    Nothing is drawn if stderr is no terminal or `enabled` is false; `environment` is the process's own by default.
    """
    return _bar(title, total, in_bytes=False, enabled=enabled, environment=environment)


@contextmanager
def _bar(
    title: str, total: int | None, *, in_bytes: bool, enabled: bool, environment: Environment | None
) -> Iterator[Progress]:
    environment = environment or Environment()
    if not (enabled and environment.stderr.isatty()):
        yield Silent()
        return
    if environment.is_accessible:
        yield _Spoken(title, total, environment)
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    console = Console(file=environment.stderr, width=environment.size().columns if environment.size else None)
    with Bars(*_columns(console.width, in_bytes), console=console, transient=True) as bars:
        task = bars.add_task(title, total=total)

        class Bar:
            def advance(self, count: int) -> None:
                bars.advance(task, count)

            def describe(self, text: str) -> None:
                bars.update(task, description=text)

        yield Bar()


def _columns(width: int, in_bytes: bool) -> Iterator[ProgressColumn]:
    """The parts of the line; the name is cut on a narrow terminal, because the numbers matter more."""
    from rich import progress as rich
    from rich.table import Column
    from rich.text import Text

    from chat.system.terminal_text import escape_line

    class Name(rich.ProgressColumn):
        def render(self, task: rich.Task) -> Text:
            return Text(escape_line(task.description), no_wrap=True, overflow="ellipsis")

    whole = Column(no_wrap=True)
    yield Name()
    yield rich.BarColumn(bar_width=40 if width > NARROW else 10)
    if in_bytes:
        yield rich.DownloadColumn(binary_units=False, table_column=whole)
        yield rich.TransferSpeedColumn(whole)
    else:
        yield rich.MofNCompleteColumn(table_column=whole)
        yield rich.TimeElapsedColumn(whole)
    yield rich.TimeRemainingColumn(table_column=whole)
