"""Check the terminal by its environment variables."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat.doctor.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

NARROW = 40
COLOURS = {"truecolor": "16 million colours", "24bit": "16 million colours"}  # of COLORTERM


@dataclass(frozen=True)
class Terminal:
    """What is known of the place that we write to."""

    is_terminal: bool
    columns: int
    encoding: str
    environment: Mapping[str, str]


def check_terminal(terminal: Terminal) -> list[Finding]:
    """Whether a session looks right here, and whether letters beyond ASCII come through."""
    return [_check_drawing(terminal), _check_encoding(terminal.encoding)]


def _check_drawing(terminal: Terminal) -> Finding:
    kind = terminal.environment.get("TERM", "")
    if not terminal.is_terminal:
        return Finding("terminal", "ok", "none: output goes to a file or a pipe, so answers are plain text")
    if kind in ("", "dumb", "unknown"):
        words = f"TERM is {kind or 'not set'}, so the session is plain lines without colour"
        return Finding("terminal", "note", words, "`export TERM=xterm-256color` if the terminal can do more")
    words = f"{kind}, {terminal.columns} columns, {_colours(terminal.environment, kind)}"
    if terminal.columns < NARROW:
        return Finding("terminal", "note", f"{words}; tables need {NARROW} columns to be legible")
    return Finding("terminal", "ok", words)


def _colours(environment: Mapping[str, str], kind: str) -> str:
    if environment.get("NO_COLOR"):
        return "no colours, as NO_COLOR asks"
    return COLOURS.get(environment.get("COLORTERM", ""), "256 colours" if "256" in kind else "16 colours")


def _check_encoding(name: str) -> Finding:
    try:
        "é 漢 ▁".encode(name)
    except (LookupError, UnicodeEncodeError):
        words = f"{name} cannot show every letter, so some become question marks"
        return Finding("encoding", "problem", words, "`export LC_ALL=C.UTF-8`, or PYTHONUTF8=1")
    return Finding("encoding", "ok", codecs.lookup(name).name)
