"""Little address space (`ulimit -v`) is an error of memory, said before numpy waits for ever or ends the process."""

from __future__ import annotations

import resource

import pytest

from chat.cli import main
from chat.cli.main import run
from chat.errors import ExitCode, MemoryLimitError
from chat.llama import hardware
from chat.system import address_space
from chat.worker.process import WorkerProcess
from tests.environments import pipes

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
    assert address_space.address_space_limit() == address_space.NO_LIMIT
    assert address_space.require_address_space("a test") is None
