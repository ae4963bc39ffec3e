"""All functions on offer: those that can be run, by the names that the model gets, and those described only."""

from __future__ import annotations

import re
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

from chat.errors import ChatError
from chat.tools.host_client import END_SECONDS, HostedTools
from chat.tools.tool import BUILT_IN, RunnableTool

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from chat.tools.tool import SourceTool, ToolSource

LONGEST_NAME = 64  # what the servers of all models allow, with these characters
_OTHER = re.compile(r"[^a-zA-Z0-9_-]+")


class Toolbox:
    """The functions of all sources.

    A source that cannot be used is left out, with a notice.
    """

    def __init__(
        self,
        sources: Sequence[ToolSource] = (),
        described: Sequence[dict[str, Any]] = (),
        notices: Sequence[str] = (),
    ) -> None:
        """Take the sources; `start` starts them.

        Args:
            sources: run their functions.
            described: functions that nobody here runs, as requests have them.
            notices: sentences for the user.
        """
        self._sources = list(sources)
        self._described = tuple(described)
        self._found: dict[str, RunnableTool] | None = None
        self._notices = list(notices)
        self._lock = threading.Lock()  # of finding the functions, as the lines of a batch call side by side

    def __enter__(self) -> Toolbox:
        """Start the sources."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        """End them."""
        self.close()

    def start(self) -> None:
        """Begin to start all sources, without waiting."""
        for source in tuple(self._sources):
            try:
                source.start()
            except ChatError as error:
                self._drop(source, error)

    @property
    def is_ready(self) -> bool:
        """Whether all sources have started, so that nothing waits for them."""
        return not self.starting

    @property
    def starting(self) -> list[str]:
        """The names of the sources that have not started yet."""
        return [source.name for source in self._hosted() if not source.is_ready]

    def close(self, *, at_once: bool = False) -> None:
        """End all sources, those in child processes side by side.

        Args:
            at_once: do not wait for them to end in order.
        """
        hosted = self._hosted()
        for source in hosted:
            source.begin_end()
        for source in hosted:
            source.close(0.0 if at_once else END_SECONDS)

    def _hosted(self) -> list[HostedTools]:
        return [source for source in self._sources if isinstance(source, HostedTools)]

    def tools(self) -> dict[str, RunnableTool]:
        """The functions that can be run, by name; waits until all sources have started."""
        with self._lock:
            if self._found is None or any(source.has_news for source in self._hosted()):
                before, self._found = self._found, self._named()
                self._note_changes(before or self._found, self._found)
            return self._found

    def schemas(self) -> tuple[dict[str, Any], ...]:
        """All functions as requests have them; one that is described hides none that can be run."""
        found = self.tools()
        described = [each for each in self._described if name_of(each) not in found]
        return (*(tool.schema() for tool in found.values()), *described)

    def is_described(self, name: str) -> bool:
        """Whether a function is on offer that the user answers by hand."""
        return name not in self.tools() and name in map(name_of, self._described)

    def take_notices(self) -> list[str]:
        """Sentences for the user since the last call."""
        found, self._notices = self._notices, []
        return found

    def _note_changes(self, before: dict[str, RunnableTool], now: dict[str, RunnableTool]) -> None:
        """Say which sources offer other functions than before."""
        for source in self._hosted():
            own = [[tool.own for tool in found.values() if tool.source is source] for found in (before, now)]
            if own[0] != own[1]:
                self._notices.append(f"`{source.name}` offers other functions now")

    def _drop(self, source: ToolSource, error: ChatError) -> None:
        self._sources.remove(source)
        source.close()
        self._notices.append(f"{error.message}; its functions are not on offer")

    def _named(self) -> dict[str, RunnableTool]:
        """The functions by name; names that several sources have get that of the source before them."""
        listed: list[tuple[ToolSource, SourceTool]] = []
        for source in tuple(self._sources):
            try:
                listed += [(source, tool) for tool in source.tools()]
            except ChatError as error:
                self._drop(source, error)
                continue
            if isinstance(source, HostedTools):
                self._notices += source.notices
                source.notices.clear()
        counts = Counter(_allowed(tool.name) for source, tool in listed)
        own = {tool.name for source, tool in listed if source.name == BUILT_IN}
        found: dict[str, RunnableTool] = {}
        for source, tool in listed:
            name = _allowed(tool.name)
            if source.name != BUILT_IN and (name in own or counts[name] > 1):
                name = _allowed(f"{source.name}_{tool.name}")
            number, free = 2, name
            while free in found:
                free = f"{name[: LONGEST_NAME - 4]}_{number}"
                number += 1
            found[free] = RunnableTool(free, tool, source)
        return found


def _allowed(name: str) -> str:
    return _OTHER.sub("_", name)[:LONGEST_NAME] or "_"


def name_of(tool: dict[str, Any]) -> str:
    """The name in a schema as requests have it, or flat."""
    inner = tool.get("function", tool)
    return str(inner.get("name")) if isinstance(inner, dict) else ""
