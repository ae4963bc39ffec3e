"""What errors of the system say to the user."""

from __future__ import annotations

import socket
import ssl

import pytest

from chat.errors import fault_text, reason_text


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
