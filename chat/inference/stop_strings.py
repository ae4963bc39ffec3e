"""Hold back text that may become a stop string, and cut the answer at one."""

from __future__ import annotations


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
        passing = len(self._held) - self._partial_stop_length()
        shown, self._held = self._held[:passing], self._held[passing:]
        return shown

    def flush(self) -> str:
        """The text still held back; only when no more text can come."""
        shown, self._held = self._held, ""
        return shown

    def _partial_stop_length(self) -> int:
        """The length of the longest suffix of the held text that is the start of a stop string."""
        longest = max(len(stop) for stop in self._stops) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            end = self._held[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0
