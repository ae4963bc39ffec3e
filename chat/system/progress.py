"""Progress bars on stderr: how much of a long job is done, and the time left."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from chat.system.environment import Environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from rich.progress import ProgressColumn

NARROW = 100  # columns of a terminal


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
