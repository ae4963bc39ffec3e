"""`--offline`: what needs the network says so, Python opens no socket, and the kernel holds the child processes."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chat.doctor.engine_checks import check_network
from chat.system import network
from chat.system.paths import config_folder
from tests.folders import ROOT
from tests.hub_server import hub_server
from tests.program import PROGRAM, run

OPEN_SOCKETS = """
import ctypes, os, socket, sys
sys.path.insert(0, {root!r})
from chat.errors import ChatError
from chat.system import network
from chat.system.paths import config_folder
{before}
refused = []
for attempt in (
    lambda: socket.socket(),
    lambda: socket.create_connection(("127.0.0.1", {port})),
    lambda: socket.getaddrinfo("localhost", 80),
    lambda: socket.socket(fileno=os.dup(inherited.fileno())).connect(("10.0.0.1", 80)),
):
    try:
        attempt()
        refused.append("")
    except ChatError as error:
        refused.append(error.message)
ours, theirs = socket.socketpair()  # what event loops are made of
ours.send(b"x")
assert theirs.recv(1) == b"x"
library = ctypes.CDLL(None, use_errno=True)
descriptor = library.socket(2, 1, 0)
address = (2).to_bytes(2, sys.byteorder) + ({port}).to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)
reached = descriptor >= 0 and library.connect(descriptor, address, 16) == 0
import json
print(json.dumps([refused, network.kernel_lock(), reached]))
"""


def in_a_process(before: str, port: int) -> tuple[list[str], str, bool]:
    """What Python's attempts to open sockets raise, what the kernel locks with, and whether C reaches the port."""
    script = OPEN_SOCKETS.format(root=str(ROOT), before=f"inherited = socket.socket()\n{before}", port=port)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    refused, lock, reached = json.loads(done.stdout)
    return refused, lock, reached


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A port that this machine listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.skipif(sys.platform == "win32", reason="opens sockets by the C library, too")
def test_python_opens_no_socket_but_local_ones(port: int) -> None:
    refused, lock, reached = in_a_process("network.go_offline(); network.go_offline()", port)
    assert refused == ["`--offline` forbids opening a connection"] * 4
    assert (lock, reached) == ("", True)  # C is not held in the parent, which runs no code but Python's


@pytest.mark.skipif(sys.platform == "win32", reason="opens sockets by the C library, too")
def test_the_kernel_holds_a_child(port: int) -> None:
    *_, is_reached = in_a_process("network.seal_child()", port)
    assert is_reached  # the parent is online, so nothing was locked
    refused, lock, reached = in_a_process("os.environ[network.VARIABLE] = '1'; network.seal_child()", port)
    assert refused == ["`--offline` forbids opening a connection"] * 4
    if not lock:
        pytest.skip("this kernel gives neither a network namespace nor a filter of system calls")
    assert not reached


def test_a_filter_of_system_calls_does_where_there_is_no_namespace(port: int) -> None:
    pytest.importorskip("pyseccomp", reason="the extra `offline` is for Linux", exc_type=Exception)
    before = "network._own_namespace = lambda: ''; os.environ[network.VARIABLE] = '1'; network.seal_child()"
    refused, lock, reached = in_a_process(before, port)
    assert len(refused) == 4 and all(refused)
    assert (lock, reached) == ("a filter of system calls", False)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["-m", "hf:a/b", "hello"], 7, "`--offline` forbids asking the hub for a/b"),
        (["-f", "https://127.0.0.1:9/", "hello"], 7, "`--offline` forbids asking for https://127.0.0.1:9/"),
        (["--remote", "http://127.0.0.1:9", "hello"], 2, "--offline and --remote cannot be used together"),
    ],
)
def test_what_needs_the_network_is_refused(arguments: list[str], code: int, sentence: str) -> None:
    done = run("--offline", *arguments)
    assert (done.returncode, done.stdout) == (code, b"")
    assert f"error: {sentence}\n" in done.stderr.decode()


@pytest.mark.parametrize("command", [["models", "pull", "hf:a/b"], ["convert", "hf:a/b"]], ids=" ".join)
@pytest.mark.parametrize(
    ("setting", "reason", "hint"),
    [
        ("offline = true", "{file}, line 1", "`mistral-chat config edit` opens it"),
        ("offline = 'yes, please'", "{file}, line 1", "`mistral-chat config edit` opens it"),
        ("offline =", "{file}, which cannot be read,", "`mistral-chat config edit` opens it"),
        ("", "$MISTRAL_CHAT_OFFLINE", "`unset MISTRAL_CHAT_OFFLINE` allows it"),
    ],
)
def test_the_settings_hold_for_every_command(
    command: list[str], setting: str, reason: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISTRAL_CHAT_HOME", str(tmp_path))
    file = config_folder() / "config.toml"
    file.parent.mkdir()
    file.write_text(setting)
    if not setting:
        monkeypatch.setenv("MISTRAL_CHAT_OFFLINE", "on")
    done = run(*command)
    assert done.returncode == 7
    assert done.stderr.decode() == f"error: {reason.format(file=file)} forbids asking the hub for a/b\nhint: {hint}\n"


@pytest.mark.engine
def test_an_answer_opens_no_socket(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted by strace, which sees those of a download."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    calls = tmp_path / "calls"

    def sockets_of(*arguments: object) -> tuple[int, list[str]]:
        command = ["strace", "-f", "-qq", "-e", "trace=socket,connect", "-o", calls, *PROGRAM, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, cwd=ROOT, check=False)
        if b"ptrace" in done.stderr or b"PTRACE" in done.stderr:
            pytest.skip("this machine lets no process trace another")
        lines = calls.read_text().splitlines()
        return done.returncode, [line for line in lines if "socket(" in line or "connect(" in line]

    with hub_server() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        code, seen = sockets_of("models", "pull", "hf:nobody/nothing")
        assert code != 0 and seen
        assert sockets_of("--offline", "-m", tiny_model, "-n", 2, "hello") == (0, [])


def test_the_doctor_says_how_the_engine_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_network("") == []
    monkeypatch.setattr(network, "_reason", "`--offline`")
    assert [each.state for each in (*check_network(""), *check_network("a network namespace"))] == ["note", "ok"]
