"""Environments in memory: pipes with given input, and a terminal of any size whose screen can be read."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass

import pyte
from wcwidth import wcwidth

from chat.system.environment import Environment


class FakeStream(io.TextIOWrapper):
    """A text stream in memory that is a terminal or a pipe."""

    def __init__(self, data: bytes = b"", *, is_terminal: bool = False, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(data), encoding=encoding, newline="", write_through=True)
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal

    @property
    def written(self) -> str:
        """All that was written to it."""
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode(self.encoding)


class Keyboard(FakeStream):
    """Lines that were typed at a terminal, which shows each when it is read."""

    def __init__(self, typed: str, shown_on: FakeStream) -> None:
        super().__init__(typed.encode(), is_terminal=True)
        self._shown_on = shown_on

    def readline(self, size: int = -1, /) -> str:
        line = super().readline(size)
        self._shown_on.write(line)
        return line


@dataclass(frozen=True)
class FakeEnvironment(Environment):
    """An environment in memory; `out` and `err` are what the program wrote."""

    @property
    def out(self) -> str:
        assert isinstance(self.stdout, FakeStream)
        return self.stdout.written

    @property
    def err(self) -> str:
        assert isinstance(self.stderr, FakeStream)
        return self.stderr.written

    def screen(self) -> list[str]:
        """The rows that a terminal shows after what was written to stdout, without the empty ones at the end."""
        assert self.size is not None
        terminal = pyte.Screen(*self.size())
        terminal.set_mode(pyte.modes.LNM)
        pyte.Stream(terminal).feed(self.out)
        return "\n".join(row.rstrip() for row in rows_of(terminal)).rstrip("\n").split("\n")


def rows_of(screen: pyte.Screen) -> list[str]:
    """The rows of a screen, as its `display` gives them, which takes seven times as long."""
    return [row_of(screen, screen.buffer.get(y)) for y in range(screen.lines)]


def row_of(screen: pyte.Screen, cells: Mapping[int, pyte.screens.Char] | None) -> str:
    """One row as text, also of the scrollback."""
    cells = cells or {0: screen.default_char}
    texts = [(cells.get(x) or screen.default_char).data for x in range(min(max(cells) + 1, screen.columns))]
    texts += [" "] * (screen.columns - len(texts))
    row = "".join(texts)
    if not row.isascii():
        row, rest = "", iter(texts)
        for text in rest:
            row += text
            if wcwidth(text[:1]) == 2:
                next(rest, None)  # it covers that cell, too
    return row


def pipes(stdin: bytes = b"", *, encoding: str = "utf-8") -> FakeEnvironment:
    """Three pipes, with `stdin` to read."""
    out, err = FakeStream(encoding=encoding), FakeStream(encoding=encoding)
    return FakeEnvironment(FakeStream(stdin), out, err, {**os.environ, "TERM": "xterm"})


def terminal(typed: str = "", *, columns: int = 80, lines: int = 24, **variables: str) -> FakeEnvironment:
    """A terminal at which `typed` was typed, with more environment variables."""
    out, err = FakeStream(is_terminal=True), FakeStream(is_terminal=True)
    size = os.terminal_size((columns, lines))
    return FakeEnvironment(Keyboard(typed, out), out, err, {**os.environ, "TERM": "xterm", **variables}, lambda: size)
