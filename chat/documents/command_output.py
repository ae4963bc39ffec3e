"""The output of a command that the user typed; never of one that stands in a file or comes from a model."""

from __future__ import annotations

import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from chat import platform
from chat.errors import ContextError, FileError, UsageError, reason_text
from chat.system.secrets import child_environment
from chat.system.text_files import MOST_TEXT_BYTES

if TYPE_CHECKING:
    from typing import IO

MOST_ERROR_BYTES = 4096
_AT_ONCE = 1 << 16
_POLL_SECONDS = 0.1  # after which Windows looks for Ctrl+C again


def run_command(command: str) -> bytes:
    """What a command of the shell writes to stdout. It gets no input; Ctrl+C ends it.

    Raises:
        UsageError: there is none.
        FileError: it cannot be started, or fails.
        ContextError: no context holds that much.
    """
    if not command.strip():
        raise UsageError("no command stands behind the `!`")
    try:
        process = subprocess.Popen(
            platform.shell_command(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=child_environment(),
            start_new_session=True,
            creationflags=platform.OWN_GROUP,
            bufsize=0,
        )
    except OSError as error:
        raise FileError(f"`{command}` cannot be started: {reason_text(error)}") from error
    with process:
        try:
            output, errors = _read_both(process, command)
        except BaseException:
            platform.kill_group(process.pid)
            raise
        code = process.wait()
    if code:
        last = platform.console_output(bytes(errors)).decode("utf-8", "replace").strip().splitlines()[-1:]
        ended = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        raise FileError(f"`{command}` {ended}{''.join(f': {line[:300]}' for line in last)}")
    return platform.console_output(output)


def _read_both(process: subprocess.Popen[bytes], command: str) -> tuple[bytes, bytes]:
    """All of stdout, and the end of stderr. Each is read by a thread: Windows waits for one pipe at a time."""
    assert process.stdout is not None and process.stderr is not None
    output, errors = bytearray(), bytearray()
    readers = [
        threading.Thread(target=_read, args=(process.stdout, output), daemon=True),
        threading.Thread(target=_read, args=(process.stderr, errors, MOST_ERROR_BYTES), daemon=True),
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        while reader.is_alive():
            reader.join(_POLL_SECONDS)
            if len(output) > MOST_TEXT_BYTES:
                raise ContextError(f"`{command}` writes more than the limit of {MOST_TEXT_BYTES >> 20} MiB")
    return bytes(output), bytes(errors)


def _read(stream: IO[bytes], kept: bytearray, most: int | None = None) -> None:
    """Append what a pipe gives until it ends, is closed, or has given more than a prompt may have.

    Args:
        most: how many of the last bytes are kept; None for all.
    """
    with suppress(OSError, ValueError):  # closed
        while len(kept) <= MOST_TEXT_BYTES and (part := stream.read(_AT_ONCE)):
            kept.extend(part)
            if most is not None:
                del kept[:-most]
