"""What errors of the system say to the user."""

from __future__ import annotations

import socket
import ssl

import pytest

from chat.errors import ExitCode, as_chat_error, fault_text, reason_text


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermissionError(13, "Permission denied", "/srv/x"), "Permission denied"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (RuntimeError("[Errno -2] Name or service not known"), "Name or service not known"),
        (ssl.SSLError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed (_ssl.c:1006)"),
         "certificate verify failed"),
        ("[WinError 5] Access is denied", "Access is denied"),
        (TimeoutError(), "TimeoutError"),
    ],
)  # fmt: skip
def test_a_reason_has_no_number_of_the_system(error: BaseException | str, expected: str) -> None:
    """A user read `no connection to huggingface.co: [Errno -2] Name or service not known`."""
    assert reason_text(error) == expected


def test_a_fault_has_its_class_and_no_number() -> None:
    assert fault_text(FileNotFoundError(2, "No such file", "x")) == "FileNotFoundError: No such file: 'x'"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), ExitCode.MEMORY),
        (RuntimeError("std::bad_alloc"), ExitCode.MEMORY),
        (OSError(12, "Cannot allocate memory"), ExitCode.MEMORY),
        (ImportError("libx.so: failed to map segment from shared object"), ExitCode.MEMORY),
        (
            ImportError("libx.so: failed to map segment from shared object: Operation not permitted"),
            ExitCode.UNEXPECTED,
        ),
        (RuntimeError("odd"), ExitCode.UNEXPECTED),
    ],
)
def test_a_lack_of_memory_is_told_from_other_faults(error: Exception, code: ExitCode) -> None:
    assert as_chat_error(error).exit_code == code
    try:
        raise ImportError("cannot import it") from error
    except ImportError as fault:
        assert as_chat_error(fault).exit_code == code
