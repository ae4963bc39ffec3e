"""Show the progress of a measurement, and write its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chat.errors import FileError

if TYPE_CHECKING:
    from pathlib import Path

    from chat.system.environment import Environment


def require_picture(path: Path) -> None:
    """Refuse a place where no picture can be written, before anything is measured.

    Raises:
        FileError: it is a folder, or its folder is missing.
    """
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise FileError(f"{path}: {'is a folder' if path.is_dir() else 'there is no such folder'}")


def show_progress(message: dict[str, Any], environment: Environment) -> None:
    """Show the current step on a terminal, in place of the one before."""
    if not environment.stderr.isatty():
        return
    seconds_left = message.get("seconds_left")
    words = message["progress"]
    if seconds_left and seconds_left >= 1:
        words += f", about {seconds_left:,.0f} s left"
    print(f"\r\x1b[K{words}", end="", file=environment.stderr, flush=True)


def write_picture(path: Path, picture: str) -> None:
    """Write an SVG.

    Raises:
        FileError: it cannot be written.
    """
    try:
        path.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror}") from error
