"""What the system allows is said before numpy waits for ever or ends the process, and where it has ended the engine."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from chat.cli import main
from chat.cli.main import run
from chat.errors import FEWER_THREADS, LESS_MEMORY, EngineError, ExitCode, MemoryLimitError
from chat.llama import hardware
from chat.system import process_limits
from chat.worker import process
from chat.worker.process import WorkerProcess
from tests.environments import pipes

resource = pytest.importorskip("resource")  # of POSIX
SMALL = 100_000_000


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `ulimit -v`, without a limit for the tests themselves."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (SMALL, resource.RLIM_INFINITY))


@pytest.mark.usefixtures("small")
def test_neither_an_engine_nor_a_conversion_is_started() -> None:
    """With 100 to 300 MB the engine's process hung, and a conversion ended by SIGINT or with a traceback's words."""
    words = "needs 403 MB of address space, but `ulimit -v` allows 100 MB"
    with pytest.raises(MemoryLimitError, match=f"^the engine {words}$"):
        WorkerProcess()
    environment = pipes()
    assert run(["convert", "x"], environment) == ExitCode.MEMORY
    assert environment.err == f"error: a conversion {words}\nhint: `ulimit -v unlimited` lifts the limit\n"


def test_a_failed_allocation_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was "unexpected: MemoryError: "."""

    def fail(*_: object) -> int:
        raise MemoryError

    monkeypatch.setattr(main, "_dispatch", fail)
    environment = pipes()
    assert run(["models", "list"], environment) == ExitCode.MEMORY
    assert environment.err == "error: there is not enough memory\nhint: close other programs and try again\n"
    monkeypatch.setattr(resource, "getrlimit", lambda _: (SMALL, SMALL))
    assert run(["models", "list"], environment) == ExitCode.MEMORY
    assert "there is not enough memory: `ulimit -v` allows 100 MB\n" in environment.err


@pytest.mark.usefixtures("small")
def test_free_memory_is_within_the_limit() -> None:
    assert 0 <= hardware.host_free_bytes() < SMALL


def test_there_is_no_limit_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert process_limits.address_space_limit() == process_limits.NO_LIMIT
    assert process_limits.require_address_space("a test") is None


GROUP = "sys/fs/cgroup/user.slice/run-7.scope"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        ("0::/user.slice/run-7.scope", {f"{GROUP}/memory.max": "300000", f"{GROUP}/memory.current": "100000"}),
        (
            "0::/user.slice/run-7.scope",  # the limit is that of the group around it
            {"sys/fs/cgroup/user.slice/memory.max": "300000", "sys/fs/cgroup/user.slice/memory.current": "100000",
             f"{GROUP}/memory.max": "max", f"{GROUP}/memory.current": "100"},
        ),
        (
            "9:name=systemd:/\n4:cpu,memory:/a b",
            {"sys/fs/cgroup/memory/a b/memory.limit_in_bytes": "300000",
             "sys/fs/cgroup/memory/a b/memory.usage_in_bytes": "100000",
             "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
             "sys/fs/cgroup/memory/memory.usage_in_bytes": "5"},
        ),
        ("0::/../..", {"sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/memory.current": "1"}),
        ("", {}),
    ],
)  # fmt: skip
def test_the_limit_of_any_group_counts(tmp_path: Path, groups: str, files: dict[str, str]) -> None:
    """Only the group of a container was seen, not that of `systemd-run -p MemoryMax=4G`."""
    root = write(tmp_path, {"proc/self/cgroup": groups, **files})
    is_limited = "300000" in files.values()
    assert process_limits.group_free_bytes(root) == (200_000 if is_limited else process_limits.NO_LIMIT)
    assert process_limits.group_limit(root) == (300_000 if is_limited else process_limits.NO_LIMIT)


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        ("4000000000", "the system killed it because it ran out of memory, which its control group limits to 4.0 GB"),
        ("max", "the system killed it because it ran out of memory"),
    ],
)
def test_an_engine_that_was_killed_for_memory_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, sentence: str
) -> None:
    """The system's count tells it apart from `kill -9`, for which memory is only the likeliest reason."""
    write(tmp_path, {f"{GROUP}/memory.max": limit, "proc/self/cgroup": "0::/user.slice/run-7.scope"})
    monkeypatch.setattr(process, "group_limit", lambda: process_limits.group_limit(tmp_path))
    monkeypatch.setattr(process, "memory_kills", lambda: process_limits.memory_kills(tmp_path))
    for kills, reason in (
        (0, "it was killed (SIGKILL), most likely because the system ran out of memory"),
        (1, sentence),
    ):
        engine = WorkerProcess()
        write(tmp_path, {f"{GROUP}/memory.events": f"low 0\noom 2\noom_kill {kills}\n"})
        os.kill(engine.pid, signal.SIGKILL)
        error = engine.death_error()
        engine.close()
        assert error.message == f"the engine stopped: {reason}"
        assert error.hint == f"asking again starts the engine anew; {LESS_MEMORY}"


def test_a_limit_of_threads_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversion ended as if Ctrl+C were pressed, or with "unexpected: RuntimeError: can't start new thread"."""

    def fail(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(threading.Thread, "start", fail)
    environment = pipes()
    assert run(["convert", "x"], environment) == ExitCode.ENGINE
    assert environment.err == f"error: the system allows no more threads or processes\nhint: {FEWER_THREADS}\n"


@pytest.mark.parametrize(
    "said",
    ["RuntimeError: can't start new thread", "libgomp: Thread creation failed: Resource temporarily unavailable"],
)
def test_an_engine_that_may_start_no_thread_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """It said the library's words only, and with one thread fewer that the engine had failed, to be reported."""
    code = f"import sys; print({said!r}, file=sys.stderr); sys.exit(1)"
    monkeypatch.setattr(process, "python_child", lambda _: [sys.executable, "-c", code])
    engine = WorkerProcess()
    error = engine.death_error()
    engine.close()
    assert error.message == f"the engine stopped: the system allows no more threads ({said})"
    assert error.hint == f"asking again starts the engine anew; {FEWER_THREADS}"


@pytest.mark.parametrize(("number", "way"), [(errno.EAGAIN, "ulimit -u"), (errno.EMFILE, "ulimit -n")])
def test_a_process_that_cannot_be_started_names_the_limit(
    monkeypatch: pytest.MonkeyPatch, number: int, way: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(process.subprocess, "Popen", fail)
    with pytest.raises(EngineError, match=f"cannot be started: {os.strerror(number)}$") as caught:
        WorkerProcess()
    assert way in (caught.value.hint or "")
