"""The errors that are shown to the user, and the exit codes of the program.

ChatError                unexpected fault, or an answer that is not as asked for (1)
├── UsageError           contradicting options or impossible values (2)
├── ModelError           the model is missing or cannot be used (3)
├── MemoryLimitError     the model or its cache does not fit in memory (4)
├── ContextError         the prompt exceeds the context (5)
├── DataError            input data breaks a rule of its format (6)
├── FileError            a file cannot be read or written (7)
└── EngineError          the engine process ended or broke its protocol (8)
"""

from __future__ import annotations

import os
import re
import sys
from enum import IntEnum
from importlib.machinery import PathFinder
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_REASON = 300  # letters; some libraries quote whatever they could not read
_NUMBER = r"\[(?:Errno|WinError|SSL)[^\]]*\] ?| \(_ssl\.c:\d+\)"  # not compiled at each start
# What the system, libraries and the loader say; without a right to run files the loader says the same and why
NO_MEMORY = (
    r"(?i)cannot allocate memory|unable to allocate|bad_alloc|cannot map zero-fill|mem_buffer != NULL"
    r"|failed to map segment from shared object(?!: operation not permitted)|memory allocation of \d+ bytes failed"
)
# Of Python's own threads, those of OpenMP and those of C++
NO_THREADS = r"can't start new thread|Thread creation failed|Resource temporarily unavailable"
LESS_MEMORY = "close other programs, or use a smaller model, a smaller `--context`, or `--kv-type q8_0`"
FEWER_THREADS = "end other programs, use fewer `--threads`, or raise the limit (`ulimit -u`)"


class ExitCode(IntEnum):
    """Process exit codes; the numbers are part of the command line's contract."""

    DONE = 0
    UNEXPECTED = 1
    USAGE = 2
    MODEL = 3
    MEMORY = 4
    CONTEXT = 5
    DATA = 6
    FILE = 7
    ENGINE = 8
    INTERRUPTED = 130
    PIPE = 141


class ChatError(Exception):
    """A fault in one sentence without a full stop, and a hint on how to solve it.

    Raised where the cause is known; caught by the command line, or shown by a session.

    Attributes:
        exit_code: the exit code of the program if the error ends it.
        message: what is wrong.
        hint: what the user can do; None if there is nothing to suggest.
    """

    exit_code: ExitCode = ExitCode.UNEXPECTED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(ChatError):
    """Options that contradict each other or have impossible values."""

    exit_code = ExitCode.USAGE


class ModelError(ChatError):
    """The model is missing or cannot be used."""

    exit_code = ExitCode.MODEL


class MemoryLimitError(ChatError):
    """The model or its cache does not fit in memory."""

    exit_code = ExitCode.MEMORY


class ContextError(ChatError):
    """The prompt exceeds the context."""

    exit_code = ExitCode.CONTEXT


class DataError(ChatError):
    """Input data breaks a rule of its format."""

    exit_code = ExitCode.DATA


class FileError(ChatError):
    """A file cannot be read or written: missing, denied, or the disk is full."""

    exit_code = ExitCode.FILE


class EngineError(ChatError):
    """The engine process ended or broke its protocol."""

    exit_code = ExitCode.ENGINE


class UnexpectedError(ChatError):
    """A fault that nobody expected, as its cause: it ends one answer or command, and no more than that."""

    def __init__(self, fault: BaseException, *, hint: str | None = None) -> None:
        super().__init__(f"unexpected: {fault_text(fault)}", hint=hint)
        self.__cause__ = fault


def as_chat_error(error: Exception, *, hint: str | None = None) -> ChatError:
    """The error itself, or the sentence for one that nobody expected, with a hint."""
    if isinstance(error, ChatError):
        return error
    shortage = shortage_error(error)
    if shortage is not None:
        shortage.__cause__ = error
        return shortage
    return UnexpectedError(error, hint=hint)


def shortage_error(error: Exception) -> ChatError | None:
    """What the system lacks, or which file hides a library of ours, where an error, or one that caused it, says so."""
    if lacks_memory(error):
        return MemoryLimitError("there is not enough memory for this", hint=LESS_MEMORY)
    if any(re.search(NO_THREADS, str(each)) for each in _causes(error)):
        return EngineError("the system allows no more threads or processes", hint=FEWER_THREADS)
    return hiding_error(error)


def hiding_error(error: BaseException) -> ChatError | None:
    """The error for a file in a folder of PYTHONPATH that was imported for its name, in place of a library of ours."""
    folders = [os.path.realpath(each) for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    files = [file for each in _causes(error) for file in _imported_files(each)] if folders else []
    for file in files:
        folder, name = os.path.split(os.path.realpath(file))
        if name == "__init__.py":
            folder, name = os.path.split(folder)
        others = [each for each in sys.path if os.path.realpath(each) not in folders]
        if folder in folders and PathFinder.find_spec(name.removesuffix(".py"), others):
            return UsageError(
                f"{file} hides a library that this program needs", hint="take its folder out of PYTHONPATH"
            )
    return None


def _imported_files(error: BaseException) -> Iterator[str]:
    """The files that an error may be due to.

    One with an error of syntax, one that lacks the name that was asked for, and the one that raised it.
    """
    modules = [getattr(error, "obj", None)]
    if isinstance(error, SyntaxError) and error.filename:
        yield error.filename
    if isinstance(error, ImportError) and error.name:
        modules.append(sys.modules.get(error.name.partition(".")[0]))
    yield from (module.__file__ for module in modules if isinstance(module, ModuleType) and module.__file__)
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    if place is not None:
        yield place.tb_frame.f_code.co_filename


def lacks_memory(error: BaseException) -> bool:
    """Whether an error, or one that caused it, says that the system gave no more memory."""
    return any(isinstance(each, MemoryError) or re.search(NO_MEMORY, str(each)) for each in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that caused it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def reason_text(error: BaseException | str) -> str:
    """What an error of the system or a library says, without numbers that only a programmer knows."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if "int_max_str_digits" in str(error):
        return "a number in it has too many digits"
    reason = error.strerror if isinstance(error, OSError) else None
    text = re.sub(_NUMBER, "", str(reason or error)) or type(error).__name__
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}…"


def fault_text(error: BaseException) -> str:
    """An error that nobody expected: its class, and what it says."""
    return f"{type(error).__name__}: {re.sub(_NUMBER, '', str(error))}"


ERROR_OF_CODE: dict[ExitCode, type[ChatError]] = {
    kind.exit_code: kind
    for kind in (ChatError, UsageError, ModelError, MemoryLimitError, ContextError, DataError, FileError, EngineError)
}
