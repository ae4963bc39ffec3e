"""The standard streams, the terminal, the variables and the folders of one run, in one value that tests can replace."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TextIO

from chat import platform
from chat.errors import ContextError, DataError, UsageError
from chat.system.paths import config_folder, data_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from chat.errors import ChatError

# Name, flags to open a missing one with, mode
_STREAMS = (("stdin", os.O_RDONLY, "r"), ("stdout", os.O_RDONLY, "w"), ("stderr", os.O_WRONLY, "w"))

# Terminals that make text clickable by OSC 8; of VTE's those since 0.50
LINKING_PROGRAMS = ("iTerm.app", "WezTerm", "vscode", "ghostty", "Hyper", "rio")
LINKING_TERMS = ("xterm-kitty", "xterm-ghostty", "foot", "alacritty", "wezterm", "contour")


ACCESSIBLE = "ACCESSIBLE"


def is_set(variables: Mapping[str, str], name: str) -> bool:
    """Whether a variable that other programs read, too, says yes: anything but the usual words for no."""
    return variables.get(name, "").lower() not in ("", "0", "false", "no", "off")


@dataclass(frozen=True, eq=False, repr=False)  # the omitted methods are slow to make, and `--help` would wait for them
class Environment:
    """What the program reads from and writes to; by default the process's own.

    Attributes:
        variables: the environment variables.
        size: returns columns and rows of the terminal; None to measure the real one.
    """

    stdin: TextIO = field(default_factory=lambda: sys.stdin)
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)
    variables: Mapping[str, str] = field(default_factory=lambda: os.environ)
    size: Callable[[], os.terminal_size] | None = None

    @property
    def config_file(self) -> Path:
        """The settings file, which may be missing.

        Raises:
            FileError: there is no home folder.
        """
        return config_folder(self.variables) / "config.toml"

    @property
    def data_folder(self) -> Path:
        """The folder of the history and of pulled models, which may be missing.

        Raises:
            FileError: there is no home folder.
        """
        return data_folder(self.variables)

    def can_redraw(self, stream: TextIO) -> bool:
        """Whether `stream` is a terminal that understands escape sequences, and lines may change there."""
        is_able = self.variables.get("TERM", platform.TERM) not in ("dumb", "")
        return stream.isatty() and is_able and not self.is_accessible

    @property
    def is_accessible(self) -> bool:
        """Whether the output is for a screen reader: ACCESSIBLE says so, as to other programs."""
        return is_set(self.variables, ACCESSIBLE)

    def is_spoken(self, stream: TextIO) -> bool:
        """Whether a screen reader reads what is written to `stream`."""
        return stream.isatty() and self.is_accessible

    def made_accessible(self) -> Environment:
        """The same for a screen reader; child processes and later values of this class inherit it."""
        os.environ[ACCESSIBLE] = "1"
        return replace(self, variables={**self.variables, ACCESSIBLE: "1"})

    def has_links(self, stream: TextIO) -> bool:
        """Whether `stream` is a terminal that is known to make text clickable (OSC 8)."""
        variables = self.variables
        return self.can_redraw(stream) and (
            variables.get("TERM_PROGRAM") in LINKING_PROGRAMS
            or variables.get("TERM", "").startswith(LINKING_TERMS)
            or "WT_SESSION" in variables
            or "KONSOLE_VERSION" in variables
            or variables.get("VTE_VERSION", "").rjust(4, "0") >= "5000"
        )

    def has_colour(self, choice: str) -> bool:
        """Whether a terminal shows colours.

        Args:
            choice: the value of `--color`: auto, always or never.
        """
        return choice == "always" or (choice == "auto" and not self.variables.get("NO_COLOR"))

    def columns(self, fallback: int = 80) -> int:
        """The width of the terminal; `fallback` without one. COLUMNS overrides what the terminal says."""
        if self.size is not None:
            return self.size().columns
        import shutil

        return shutil.get_terminal_size((fallback, 24)).columns

    def read_stdin(self, most_bytes: int | None = None) -> bytes:
        """All of stdin; nothing if it is a terminal.

        Args:
            most_bytes: the limit; None: that of a prompt.

        Raises:
            ContextError: no context holds so long a prompt.
            DataError: it is larger than `most_bytes`.
        """
        from chat.system.text_files import MOST_TEXT_BYTES, read_stream

        if self.stdin.isatty():
            return b""
        too_large = ContextError if most_bytes is None else DataError
        return read_stream(self.stdin.buffer, "stdin", most_bytes or MOST_TEXT_BYTES, too_large=too_large)

    def ask(self, prompt: str) -> str:
        """Print a prompt on stdout and read a line.

        Raises:
            EOFError: stdin has ended.
        """
        self.print(prompt, end="")
        self.stdout.flush()
        line = self.stdin.readline()
        if not line:
            raise EOFError
        return line.removesuffix("\n")

    def drop_typed_ahead(self) -> None:
        """Drop the keys that the terminal holds, so that none of them answers a question that nobody has seen."""
        if self.stdin.isatty():
            with suppress(OSError, ValueError):  # a terminal of a test has no descriptor
                platform.drop_waiting_bytes(self.stdin.fileno())

    def confirm(self, question: str, without: str) -> bool:
        """Ask on stderr before something is lost; anything but a yes is a no.

        Args:
            without: what `--yes` does without asking, such as `deletes`.

        Raises:
            UsageError: stdin is no terminal.
        """
        if not self.stdin.isatty():
            raise UsageError("there is no terminal to ask on", hint=f"`--yes` {without} without asking")
        from chat.system.terminal_text import escape_line

        print(f"{escape_line(question)} [y/N] ", end="", file=self.stderr, flush=True)
        return self.stdin.readline().strip().lower() in ("y", "yes")

    def print(self, text: str, end: str = "\n") -> None:
        """Write text to stdout."""
        print(text, end=end, file=self.stdout)

    def print_json(self, plain: Any, *, indent: int | None = None) -> None:
        """Write a value to stdout as JSON, in one line unless it is indented.

        A terminal gets its control characters as `\\u` escapes, also those that JSON allows as they are.
        """
        from chat.system.characters import json_text
        from chat.system.terminal_text import escape_json

        text = json_text(plain, encoding=self.stdout.encoding, indent=indent)
        self.print(escape_json(text) if self.stdout.isatty() else text)

    def print_error(self, text: str) -> None:
        """Write a line to stderr; if that fails, nobody reads it and the work continues."""
        try:
            print(text, file=self.stderr, flush=True)
        except OSError:
            discard_output(self.stderr)

    def notify(self, sentence: str) -> None:
        """Write a sentence to stderr without control characters: in one line, or on a terminal broken between words."""
        from chat.system.terminal_text import escape_line, filled

        line = escape_line(sentence)
        if self.stderr.isatty():
            line = filled(line, self._error_columns())
        self.print_error(line)

    def report(self, error: ChatError) -> None:
        """Write an error and its hint to stderr."""
        self.notify(f"error: {error.message}")
        if error.hint:
            self.notify(f"hint: {error.hint}")

    def _error_columns(self) -> int:
        """The width of the terminal at stderr; stdout may be a pipe."""
        width = 80
        if self.size is None and not self.stdout.isatty():
            with suppress(OSError, ValueError):
                width = os.get_terminal_size(self.stderr.fileno()).columns
        return max(self.columns(width), 1)


def notify(sentence: str) -> None:
    """Call `Environment.notify` of the process's own environment, for code that is given none."""
    Environment().notify(sentence)


def open_missing_streams() -> None:
    """Open each standard stream that the caller closed, so that no file of ours gets its number.

    stdin is then empty, what is written to stderr is lost, and writing to stdout fails, as it must.
    """
    for number, (name, flags, mode) in enumerate(_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(os.open(os.devnull, flags), number)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))


def prepare_streams() -> None:
    """Let stdout show a question mark for what its encoding lacks, under a locale that is not UTF-8."""
    platform.prepare_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def discard_output(stream: TextIO) -> None:
    """Connect a stream to the null device, so that the interpreter's last flush of it does not fail."""
    with suppress(OSError):  # a stream in memory has no descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
