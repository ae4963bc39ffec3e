"""Hold back text that may become a stop string, and cut the answer at one."""

from __future__ import annotations

from chat.prompts.reasoning_splitter import partial_length


class StopFilter:
    """Passes text through, but never the start of a stop string until it is certain not to be one.

    Attributes:
        stopped: whether a stop string was found; then no text passes any more.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Add text; the return value is the text that may be shown."""
        if self.stopped:
            return ""
        if not self._stops:
            return text
        self._held += text
        found = [index for stop in self._stops if (index := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        passing = len(self._held) - partial_length(self._held, self._stops)
        shown, self._held = self._held[:passing], self._held[passing:]
        return shown

    def flush(self) -> str:
        """The text still held back; only when no more text can come."""
        shown, self._held = self._held, ""
        return shown
