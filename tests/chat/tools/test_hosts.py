"""Python files and MCP servers in child processes of their own: what they answer, and how they fail."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chat.config.tool_table import ToolServer
from chat.errors import EngineError, FileError
from chat.tools.host_client import HostedTools
from chat.tools.sources import source_of
from chat.tools.tool import CallControl, CallLimits, ToolError
from tests.processes import ends

Open = Callable[..., HostedTools]
FUNCTIONS = '''
import os, subprocess, time

__version__ = "1"
print("loaded")

def add(a: int, b: int = 2) -> int:
    """Add numbers."""
    print("to stdout")
    return a + b

async def later(names: list[str]) -> dict[str, int]:
    """Count."""
    return {name: len(name) for name in names}

def fails():
    """Fail."""
    raise ValueError("no such city")

def leaves():
    """Exit."""
    raise SystemExit(3)

def dies():
    """Die."""
    os._exit(7)

def hangs(file: str):
    """Start a process and wait."""
    child = subprocess.Popen(["sleep", "1000"])
    with open(file + ".part", "w") as out:
        out.write(str(child.pid))
    os.rename(file + ".part", file)
    time.sleep(1000)

def key() -> str:
    """Look for a key."""
    return str(os.environ.get("MISTRAL_CHAT_REMOTE_KEY"))

def floods() -> str:
    """Flood."""
    return "x" * 50_000_000

def _own(): ...
'''


@pytest.fixture
def open_source() -> Iterator[Open]:
    """Opens a source of functions, and closes it at the end."""
    opened: list[HostedTools] = []

    def open_one(**table: Any) -> HostedTools:
        opened.append(source_of(ToolServer("it", "test", **table), None))
        return opened[-1]

    yield open_one
    for source in opened:
        source.close()


def control(seconds: float = 60.0, characters: int = 20_000) -> CallControl:
    return CallControl(CallLimits(seconds, characters))


@pytest.mark.slow
def test_the_functions_of_a_python_file(open_source: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file, so that one process is started, and started again only where a call ended it."""
    monkeypatch.setenv("MISTRAL_CHAT_REMOTE_KEY", "secret")
    file = tmp_path / "functions.py"
    file.write_text(FUNCTIONS)
    source = open_source(file=str(file))
    names = [tool.name for tool in source.tools(60)]
    assert names == ["add", "later", "fails", "leaves", "dies", "hangs", "key", "floods"]
    assert source.call("add", {"a": 40}, control()) == "42"
    assert source.call("later", {"names": ["ab"]}, control()) == '{"ab": 2}'
    assert source.call("key", {}, control()) == "None"
    assert source.call("floods", {}, control(characters=9)).startswith("xxxxxxxxx\n[cut after 9 of 50,000,000")
    for name, message in [
        ("fails", "ValueError: no such city"),
        ("leaves", "the function tried to end the program"),
        ("dies", "`it` ended: its process ended"),
    ]:
        with pytest.raises(ToolError, match=f"^{message}$"):
            source.call(name, {}, control())
    pid = tmp_path / "pid"
    stopping, outcome = control(), []

    def hang() -> None:
        try:
            source.call("hangs", {"file": str(pid)}, stopping)
        except ToolError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=hang)
    thread.start()
    while not pid.exists():
        time.sleep(0.01)
    stopping.stopped.set()
    thread.join()
    assert outcome == ["stopped"]
    assert ends(int(pid.read_text()))
    with pytest.raises(ToolError, match=r"^it took longer than 0\.2 s and was ended$"):
        source.call("hangs", {"file": str(pid)}, control(seconds=0.2))
    assert source.call("add", {"a": 1}, control()) == "3"
    assert not (tmp_path / "__pycache__").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:", "`it` cannot be used: SyntaxError: "),
        ("import no_such_module", "`it` cannot be used: ModuleNotFoundError: No module named 'no_such_module'"),
        ("def f(x: complex): ...", "`f`: the argument `x` has the type complex, which JSON does not have"),
        ("raise SystemExit", "the file ends the program when it is loaded"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(open_source: Open, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "f.py").write_text(text)
    with pytest.raises(EngineError) as caught:
        open_source(file=str(tmp_path / "f.py")).tools(60)
    assert message in caught.value.message


def test_a_file_that_is_missing(open_source: Open, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="test: there is no such file"):
        open_source(file=str(tmp_path / "f.py"))
