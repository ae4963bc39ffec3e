"""The output of a command that the user typed; never of one that stands in a file or comes from a model."""

from __future__ import annotations

import os
import selectors
import subprocess

from chat import platform
from chat.errors import ContextError, FileError, UsageError, reason_text
from chat.system.secrets import child_environment
from chat.system.text_files import MOST_TEXT_BYTES

MOST_ERROR_BYTES = 4096
_AT_ONCE = 1 << 16


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
        last = errors.decode("utf-8", "replace").strip().splitlines()[-1:]
        ended = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        raise FileError(f"`{command}` {ended}{''.join(f': {line[:300]}' for line in last)}")
    return output


def _read_both(process: subprocess.Popen[bytes], command: str) -> tuple[bytes, bytes]:
    """All of stdout, and the end of stderr."""
    assert process.stdout is not None and process.stderr is not None
    output, errors = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, output)
        selector.register(process.stderr, selectors.EVENT_READ, errors)
        while selector.get_map():
            for key, _ in selector.select():
                part = os.read(key.fd, _AT_ONCE)
                key.data.extend(part)
                if not part:
                    selector.unregister(key.fileobj)
            del errors[:-MOST_ERROR_BYTES]
            if len(output) > MOST_TEXT_BYTES:
                raise ContextError(f"`{command}` writes more than the limit of {MOST_TEXT_BYTES >> 20} MiB")
    return bytes(output), bytes(errors)
