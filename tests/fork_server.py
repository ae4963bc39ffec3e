"""A process that has imported the program and starts runs of it by `fork`: `python fork_server.py SOCKET`.

A run begins as a fresh interpreter would: its own arguments, environment, folder, standard streams and, where asked
for, its own session and terminal. It ends as an interpreter does, too, but for the memory: to free each object would
copy every page that it shares with the server, which takes longer than most runs. huggingface_hub, which reads the
environment when it is imported, is left to the run; llama.cpp's library is loaded, but no backend of it initialised.

A run starts its engine by another `fork` where it has a single thread then, and by a new interpreter where it has more.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = str(Path(__file__).resolve().parent.parent)
# how the variables begin that Python and the libraries read before a run could change them
READ_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "COVERAGE", "MALLOC", "OPENBLAS", "OMP_", "LLAMA_CPP_")
PYTHON_CHILD = str(Path(ROOT) / "chat" / "system" / "python_child.py")  # runs a module of ours, such as the engine's
IMPORTED_LATER = (
    "tests.chat.tui.scripted",
    "gguf",
    "llguidance.gbnf_to_lark",
    "markdown_it.tree",
    "prompt_toolkit.input.vt100",
    "prompt_toolkit.patch_stdout",
    "rich.console",
    "rich.markdown",
    "tiktoken",
    "typer._adapters",  # pydantic, at the first argument that Typer reads
)
LENGTH_BYTES = 8
STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


def can_fork(command: Sequence[str], environment: Mapping[str, str], started_with: Mapping[str, str]) -> bool:
    """Whether a fork does the same as a command.

    Args:
        started_with: the environment that the forking process was started with.
    """
    if len(command) < 2 or command[0] != sys.executable:
        return False
    known = command[1] in ("-m", "-c") or list(command[1:3]) == ["-P", PYTHON_CHILD] or command[1].endswith(".py")
    folders = [set(each.get("PYTHONPATH", ROOT).split(os.pathsep)) for each in (environment, started_with)]
    return known and folders[0] <= folders[1] and _read_at_start(environment) == _read_at_start(started_with)


def _read_at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(READ_AT_START) and name not in ("PYTHONPATH", "LC_CTYPE")  # Python sets that one itself
    }


def serve(connection: socket.socket) -> tuple[dict[str, Any], list[int]] | None:
    """Fork for each request until the connection closes.

    Each child gets as parent the process that made the request: it must be an ancestor and a subreaper then, and the
    process between us ends at once.

    Returns:
        The request and the descriptors of the standard streams, in a child; None in the server, after the last one.
    """
    while True:
        head, descriptors, _, _ = socket.recv_fds(connection, LENGTH_BYTES, len(STREAMS))
        if not head:
            return None
        request: dict[str, Any] = json.loads(_receive(connection, int.from_bytes(head)))
        ours, theirs = os.pipe()
        between = os.fork()
        if not between:
            parent = os.getpid()
            child = os.fork()
            if not child:
                while os.getppid() == parent:  # it ends at once
                    os.sched_yield()
                connection.detach()
                return request, descriptors
            os.write(theirs, child.to_bytes(LENGTH_BYTES))
            os.kill(os.getpid(), signal.SIGKILL)  # no handler of anybody's runs
        os.waitpid(between, 0)
        for descriptor in (theirs, *descriptors):
            os.close(descriptor)
        connection.sendall(os.read(ours, LENGTH_BYTES))
        os.close(ours)


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += connection.recv(size - len(data))
    return data


def begin(request: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    """Make this process what a new interpreter would be that was started for the request."""
    gc.freeze()  # what the parent had open is never closed by us, by numbers that are another file's now
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(len(STREAMS), os.sysconf("SC_OPEN_MAX"))
    if request["session"]:
        os.setsid()
    if request["terminal"]:
        import fcntl
        import termios

        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    locale = {name: value for name, value in os.environ.items() if name == "LC_CTYPE"}  # Python sets it under `C`
    os.environ.clear()
    os.environ.update({**locale, **request["environment"]})
    time.tzset()
    os.chdir(request["folder"])
    _reset_signals()
    for number, (name, mode) in enumerate(STREAMS):
        stream = _stream(number, name, mode, getattr(sys, f"__{name}__"))
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)) and number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _stream(number: int, name: str, mode: str, model: io.TextIOWrapper) -> io.TextIOWrapper:
    """A standard stream, with the encoding and the buffering that this process got from the same environment."""
    is_unbuffered = model.write_through
    data: Any = open(number, mode + "b", 0 if is_unbuffered and mode == "w" else -1, closefd=False)  # noqa: SIM115
    getattr(data, "raw", data).name = f"<{name}>"
    text = io.TextIOWrapper(
        data,
        model.encoding,
        model.errors,
        newline="\n",
        line_buffering=not is_unbuffered and (number == 2 or data.isatty()),
        write_through=is_unbuffered,
    )
    text.mode = mode  # type: ignore[attr-defined]
    return text


def run_command(command: list[str]) -> None:
    """Run what follows `python` on a command line: `-m module`, `-c code` or a file, each with its arguments."""
    if command[0] == "-P":
        command = command[1:]
        sys.modules.pop(command[1], None)  # it is run anew, as the main module
    elif command[0] == "-m":
        sys.path[0] = str(Path.cwd())
    else:
        sys.path[0] = "" if command[0] == "-c" else str(Path(command[0]).parent)
    if command[0] == "-m":
        sys.argv = command[1:]
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    elif command[0] == "-c":
        sys.argv = ["-c", *command[2:]]
        exec(compile(command[1], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")


class WorkerPopen(subprocess.Popen[Any]):
    """subprocess.Popen in a forked run: it forks the engine's worker, too."""

    started_with: Mapping[str, str] = {}

    def _execute_child(  # type: ignore[misc]
        self, args: Any, executable: Any, preexec_fn: Any, close_fds: bool, pass_fds: Any, cwd: Any, env: Any,
        startupinfo: Any, creationflags: int, shell: bool, p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int,
        errread: int, errwrite: int, *identity: Any,
    ) -> None:  # fmt: skip
        pipes = (p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)
        *who, new_session, group = identity
        is_worker = isinstance(args, list) and args[1:3] == ["-P", PYTHON_CHILD] and not (preexec_fn or pass_fds or cwd)
        is_worker = (
            is_worker and (*who, group) == (True, None, None, None, -1, -1) and min(p2cread, c2pwrite, errwrite) > 2
        )
        env = os.environ if env is None else env
        if (
            not is_worker
            or not can_fork(args, env, self.started_with)
            or len(list(Path("/proc/self/task").iterdir())) > 1
        ):
            more = (preexec_fn, close_fds, pass_fds, cwd, env, startupinfo, creationflags, shell)
            super()._execute_child(args, executable, *more, *pipes, *identity)  # type: ignore[misc]
            return
        # What Python calls after a fork loses the KeyboardInterrupt of a signal that comes meanwhile.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self.pid = os.fork()
        if not self.pid:
            _run_in_place(args[1:], env, (p2cread, c2pwrite, errwrite), mask, session=new_session)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def end_quickly(code: int) -> None:
    """End as an interpreter does (CPython's `Py_FinalizeEx`), but leave the memory to the kernel."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        return  # the interpreter's own end says so, and has another code
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code & 0xFF)


def _run_in_place(
    command: list[str], environment: Mapping[str, str], descriptors: Sequence[int], mask: Any, *, session: bool
) -> None:
    """Become a worker below the frames of the run that starts it, which are never returned to."""
    code = 1
    try:
        begin({"session": session, "terminal": False, "environment": dict(environment), "folder": "."}, descriptors)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        run_command(command)
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def import_program() -> None:
    """Import each module of the program but its beginning, what these import later, and the tests' scripted engine."""
    import chat
    import convert
    from chat.core.conversation import Message
    from chat.core.request import EngineOptions, Request
    from chat.llama import library
    from chat.worker import protocol

    for package in (chat, convert):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            name = module.name.rpartition(".")[2]  # the kernels are libraries, but no modules of Python
            is_ours = name not in ("__main__", "windows") and "launcher" not in module.name
            if is_ours and not name.startswith("_kernels"):
                importlib.import_module(module.name)
    sys.modules["mistral_common"] = None  # type: ignore[assignment]  # gguf would import it, and it huggingface_hub
    for name in IMPORTED_LATER:
        importlib.import_module(name)
    del sys.modules["mistral_common"]
    for kind in (*protocol.EVENTS.values(), Message, EngineOptions, Request):
        protocol._hints(kind)
    os.environ["GGML_NO_BACKTRACE"] = "1"  # read when the library is loaded; `llama` sets it, too
    library._bindings()
    del os.environ["GGML_NO_BACKTRACE"]


def main() -> None:
    """Serve, or in a child run what was asked for."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    sys.path[0] = ROOT
    import_program()
    gc.collect()
    gc.freeze()  # so that collections in children touch none of these pages
    WorkerPopen.started_with = dict(os.environ)
    asked = serve(connection)
    if asked is not None:
        begin(*asked)
        subprocess.Popen = WorkerPopen  # type: ignore[misc]
        code = 0
        try:
            run_command(asked[0]["command"])
        except SystemExit as ending:
            if not isinstance(ending.code, int | None):
                raise
            code = ending.code or 0
        end_quickly(code)


if __name__ == "__main__":
    main()
