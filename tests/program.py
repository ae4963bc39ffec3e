"""Run the program, or other Python commands, in processes of their own that need not import everything first.

`run`, `start` and `Popen` take what subprocess takes. On Linux they have a server fork the process where nothing speaks
against it: fork_server.py, one for each worker of the tests. The process is then our child as any other is: it has a
pid to signal and to wait for. Elsewhere, and for a command or an environment that asks Python itself for something, a
new interpreter is started. Tests of what happens while the interpreter starts use subprocess.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.folders import ROOT
from tests.fork_server import LENGTH_BYTES, can_fork

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROGRAM = (sys.executable, "-m", "chat")
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER


class ForkServer:
    """The server, started at the first use."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path}
        environment.pop("HOME", None)  # of one test; each run gets its own
        command = [sys.executable, str(Path(__file__).with_name("fork_server.py")), str(theirs.fileno())]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, env=environment, pass_fds=[theirs.fileno()], cwd=ROOT
        )
        theirs.close()
        self._connection = ours
        self._lock = threading.Lock()
        self._started_with = environment
        self._prctl = ctypes.CDLL(None).prctl
        self._owner = os.getpid()
        atexit.register(self.close)

    def can_run(self, command: Sequence[str], environment: Mapping[str, str]) -> bool:
        """Whether a fork does the same as the command."""
        return can_fork(command, environment, self._started_with)

    def fork(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: str | os.PathLike[str] | None,
        streams: Sequence[int],
        *,
        session: bool = False,
        terminal: bool = False,
    ) -> int:
        """Start a command.

        Args:
            streams: descriptors of its stdin, stdout and stderr.
            session: it begins a session of its own.
            terminal: stdin is the controlling terminal of that session.

        Returns:
            The process id of a child of ours.
        """
        request = json.dumps(
            {
                "command": command[1:],
                "environment": dict(environment),
                "folder": os.path.abspath(folder or "."),  # noqa: PTH100 - links stay
                "session": session or terminal,
                "terminal": terminal,
            }
        ).encode("utf-8", "surrogateescape")
        with self._lock:
            self._adopt(True)
            try:
                socket.send_fds(self._connection, [len(request).to_bytes(LENGTH_BYTES)], streams)
                self._connection.sendall(request)
                return int.from_bytes(self._connection.recv(LENGTH_BYTES))
            finally:
                self._adopt(False)

    def _adopt(self, flag: bool) -> None:
        """Be the parent of descendants whose own parents end, or let them go to the system's first process."""
        if self._prctl(SUBREAPER, int(flag), 0, 0, 0):
            raise OSError("prctl(PR_SET_CHILD_SUBREAPER) failed")

    def close(self) -> None:
        """End it."""
        if self._owner == os.getpid():
            self._connection.close()
            self._process.wait()


@functools.cache
def fork_server() -> ForkServer | None:
    """The server of this process; None where there can be none."""
    return ForkServer() if sys.platform == "linux" else None


class Popen(subprocess.Popen[Any]):
    """subprocess.Popen that has the process forked where that does the same."""

    def _execute_child(  # type: ignore[misc]
        self, args: Any, executable: Any, preexec_fn: Any, close_fds: bool, pass_fds: Any, cwd: Any, env: Any,
        startupinfo: Any, creationflags: int, shell: bool, p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int,
        errread: int, errwrite: int, *identity: Any,
    ) -> None:  # fmt: skip
        pipes = (p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)
        server = fork_server()
        command = [] if isinstance(args, str | bytes) else [os.fspath(each) for each in args]
        environment = os.environ if env is None else env
        *who, new_session, group = identity
        is_plain = not (preexec_fn or pass_fds or shell) and (*who, group) == (True, None, None, None, -1, -1)
        if server is None or not is_plain or not server.can_run(command, environment):
            more = (preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell)
            super()._execute_child(args, executable, *more, *pipes, *identity)  # type: ignore[misc]
            return
        streams = [own if given == -1 else given for own, given in enumerate((p2cread, c2pwrite, errwrite))]
        self.pid = server.fork(command, environment, cwd, streams, session=new_session)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def run_command(
    command: Sequence[Any], *, input: Any = None, timeout: float | None = None, check: bool = False, **more: Any
) -> subprocess.CompletedProcess[Any]:
    """subprocess.run, with `Popen`."""
    if more.pop("capture_output", False):
        more |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if input is not None:
        more["stdin"] = subprocess.PIPE
    with Popen(command, **more) as process:
        try:
            output, errors = process.communicate(input, timeout=timeout)
        except BaseException:
            process.kill()
            raise
        code = process.poll()
        assert code is not None
    if check and code:
        raise subprocess.CalledProcessError(code, process.args, output, errors)
    return subprocess.CompletedProcess(process.args, code, output, errors)


def run(*arguments: object, stdin: bytes = b"", **more: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the program to its end."""
    return run_command([*PROGRAM, *map(str, arguments)], input=stdin, capture_output=True, timeout=60, **more)


def start(*arguments: object) -> subprocess.Popen[bytes]:
    """Start the program with nothing on stdin."""
    command = [*PROGRAM, *map(str, arguments)]
    return Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
