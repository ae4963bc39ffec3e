"""Run a measurement in a child process, show its progress, and write its picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chat.errors import EngineError, FileError

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


def run_measurement(
    module: str, question: dict[str, Any], log_file: Path | None, environment: Environment, name: str
) -> dict[str, Any]:
    """Run a measurement in a child process, and show its progress and its notices.

    Args:
        module: the task, for `run_isolated_task`.
        question: what the task gets.
        log_file: keeps what the process prints.
        environment: where progress is shown.
        name: what is measured, in a sentence.

    Returns:
        The report as the process sent it.

    Raises:
        ChatError: a model cannot be used, or the measurement failed.
    """
    from chat.worker.task import run_isolated_task

    report: dict[str, Any] | None = None
    try:
        for message in run_isolated_task(module, question, log_file):
            if "report" in message:
                report = message["report"]
            elif "notice" in message:
                _show_progress({"progress": ""}, environment)
                environment.notify(f"note: {message['notice']}")
            else:
                _show_progress(message, environment)
    finally:
        _show_progress({"progress": ""}, environment)
    if report is None:
        raise EngineError(f"the {name} ended without a report")
    return report


def write_picture(path: Path, picture: str) -> None:
    """Write an SVG.

    Raises:
        FileError: it cannot be written.
    """
    try:
        path.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise FileError(f"{path}: cannot be written: {error.strerror}") from error


def _show_progress(message: dict[str, Any], environment: Environment) -> None:
    """Show the current step on a terminal, in place of the one before."""
    if not environment.stderr.isatty():
        return
    seconds_left = message.get("seconds_left")
    words = message["progress"]
    if seconds_left and seconds_left >= 1:
        words += f", about {seconds_left:,.0f} s left"
    print(f"\r\x1b[K{words}", end="", file=environment.stderr, flush=True)
