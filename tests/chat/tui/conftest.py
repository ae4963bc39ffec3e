"""A session with a scripted engine in a pseudo-terminal, ended at the end of each test."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A function that starts a session with scripts and facts for the engine, flags, a size and an environment."""
    from tests.chat.tui.pseudo_terminal import Terminal, python

    begun: list[Any] = []

    def begin(
        *scripts: Any,
        columns: int = 80,
        lines: int = 24,
        environment: Any = None,
        ready: str = ">",
        shell: str = "",
        **facts: Any,
    ) -> Any:
        script = json.dumps({"scripts": scripts, **facts})
        environment = {"MISTRAL_CHAT_HOME": str(tmp_path / "home"), **(environment or {})}
        command = python(HERE / "program.py", script)
        if shell:
            command = ["bash", "-c", shell, "bash", *command]
        terminal = Terminal(command, columns=columns, lines=lines, environment=environment, folder=tmp_path)
        begun.append(terminal)
        terminal.wait(ready)  # the terminal itself would echo keys that come earlier
        return terminal

    yield begin
    for terminal in begun:
        terminal.kill()
