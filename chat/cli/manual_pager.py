"""Show the man page on a terminal: through `man`, else formatted here and shown by a pager."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import textwrap
from contextlib import suppress
from typing import TYPE_CHECKING

from chat import platform
from chat.config.resolve import resolve_settings
from chat.errors import ChatError, ExitCode
from chat.system.interrupts import signal_handlers
from chat.system.secrets import child_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.system.environment import Environment

INDENT = 7  # columns, as `man` has it
MAX_WIDTH = 100  # columns
FORMATTERS = ("groff", "nroff", "mandoc")  # `man` needs one; where manuals were left out it is a script that says so
FONT = re.compile(r"\\f([BIRP])")
BOLD, UNDERLINE = "B", "I"


def show_manual(roff: str, environment: Environment) -> None:
    """Show the page, and return when the reader leaves it.

    Args:
        roff: the page.
        environment: stdout is a terminal.
    """
    if not _has_terminal(environment):  # a terminal in memory
        environment.print(overstruck(roff, environment.columns()), end="")
        return
    with suppress(ChatError):  # names the variables of the servers' keys
        resolve_settings({}, environment.variables, file=environment.config_file)
    environment.stdout.flush()
    path = environment.variables.get("PATH")
    has_manual = any(shutil.which(name, path=path) for name in FORMATTERS)
    if has_manual and _run(["man", "-l", "-"], roff, environment):
        return
    page = overstruck(roff, environment.columns())
    if not any(_run(pager, page, environment) for pager in _pagers(environment)):
        environment.print(re.sub(r".\x08", "", page), end="")


def _pagers(environment: Environment) -> list[list[str]]:
    """The commands that show a text page by page: the user's first."""
    found = []
    for name in ("MANPAGER", "PAGER"):
        with suppress(ValueError):  # a quote without an end
            found.append(platform.split_words(environment.variables.get(name, "")))
    return [*filter(None, found), ["less"], ["more"]]


def overstruck(roff: str, columns: int) -> str:
    """The page as text, bold and underlined by backspaces, which every pager knows.

    Args:
        roff: what `chat.cli.manpage.man_page` makes; no other requests are known.
        columns: the width of the terminal.
    """
    width = max(20, min(columns, MAX_WIDTH))
    lines: list[str] = []
    is_filled, hangs, words = True, False, list[str]()
    headings: set[int] = set()  # numbers of lines

    def flush() -> None:
        """Write the paragraph that was read."""
        nonlocal words
        indent = INDENT * 2 if hangs else INDENT
        lines.extend(_filled(" ".join(words), width, indent))
        words = []

    source = iter(roff.splitlines())
    for line in source:
        request, _, rest = line.partition(" ") if line.startswith(".") else ("", "", line)
        if request and request not in (".B",):
            flush()
        if request == ".TH":
            continue
        if request in (".SH", ".SS"):
            hangs = False
            headings.add(len(lines) + 1)
            lines += ["", (" " * 3 if request == ".SS" else "") + _struck(_plain(rest), BOLD)]
        elif request in (".TP", ".PP"):
            if len(lines) - 1 not in headings:
                lines.append("")
            hangs = False
            if request == ".TP":
                tag = next(source)
                lines.append(" " * INDENT + _styled(rf"\fB{tag[3:]}\fR" if tag.startswith(".B ") else tag))
                hangs = True
        elif request == ".nf":
            is_filled = False
        elif request == ".fi":
            is_filled = True
        elif request == ".B":
            words.append(rf"\fB{rest}\fR")
        elif not request and is_filled:
            words.append(line)
        elif not request:
            lines.append(" " * INDENT + _styled(line))
    flush()
    return "\n".join(lines[1:]) + "\n"


def _filled(text: str, width: int, indent: int) -> list[str]:
    """A paragraph broken at spaces; styles do not count for the width."""
    shown: list[tuple[str, str]] = _characters(text)
    plain = "".join(character for character, _ in shown)
    lines, position = [], 0
    for part in textwrap.wrap(plain, width - indent, break_long_words=False, break_on_hyphens=False):
        position = plain.index(part, position)
        pieces = shown[position : position + len(part)]
        lines.append(" " * indent + "".join(_struck(character, style) for character, style in pieces))
        position += len(part)
    return lines


def _styled(text: str) -> str:
    return "".join(_struck(character, style) for character, style in _characters(text))


def _characters(text: str) -> list[tuple[str, str]]:
    """Each character of a line in roff, with the font it is in."""
    found = []
    style, *parts = "R", *FONT.split(text)
    for number, part in enumerate(parts):
        if number % 2:
            style = part
        else:
            found += [(character, style) for character in _plain(part)]
    return found


def _plain(text: str) -> str:
    """The text without the escapes that `man_page` writes."""
    return text.replace(r"\&", "").replace(r"\-", "-").replace(r"\e", "\\")


def _struck(text: str, style: str) -> str:
    if style not in (BOLD, UNDERLINE):
        return text
    return "".join(
        character if character == " " else f"{character if style == BOLD else '_'}\b{character}" for character in text
    )


def _has_terminal(environment: Environment) -> bool:
    try:
        environment.stdout.fileno()
    except (OSError, io.UnsupportedOperation):
        return False
    return True


def _run(command: Sequence[str], text: str, environment: Environment) -> bool:
    """Give a program the text on stdin and wait until the reader leaves it; False if it is missing or fails.

    Ctrl+C is the program's.
    """
    program = shutil.which(command[0], path=environment.variables.get("PATH"))
    if program is None:
        return False
    with signal_handlers({"SIGINT": lambda *_: None}):
        try:
            done = subprocess.run(
                [program, *command[1:]],
                input=text.encode(),
                stdout=environment.stdout.fileno(),
                env=child_environment(environment.variables),
                check=False,
            )
        except OSError:
            return False
    return done.returncode <= 0 or done.returncode == ExitCode.INTERRUPTED  # a reader may leave by a signal
