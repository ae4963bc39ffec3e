"""A source of functions in this process, which answers as the test wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from chat.errors import ChatError
from chat.tools.tool import CallControl, SourceTool

ANY = {"type": "object", "properties": {}}


class FakeSource:
    """Functions that are Python functions of `arguments` and `control`."""

    def __init__(self, name: str, fault: ChatError | None = None, **functions: Callable[..., str]) -> None:
        self.name = self.origin = name
        self.fault = fault
        self.functions = functions
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.is_closed = False

    def start(self) -> None:
        pass

    def tools(self) -> tuple[SourceTool, ...]:
        if self.fault is not None:
            raise self.fault
        return tuple(SourceTool(name.replace("__", "."), f"Do {name}.", ANY) for name in self.functions)

    def call(self, name: str, arguments: Mapping[str, Any], control: CallControl) -> str:
        self.calls.append((name, dict(arguments)))
        return self.functions[name.replace(".", "__")](arguments, control)

    def path_argument(self, name: str, arguments: Mapping[str, Any]) -> None:
        return None

    def close(self) -> None:
        self.is_closed = True
