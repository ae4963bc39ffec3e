"""Tell the person at the terminal a sentence, and ask for a yes. Knows stderr and stdin, not what it is about."""

from __future__ import annotations

import sys

from chat.errors import UsageError
from chat.system.standard_streams import say
from chat.system.terminal_text import escape_line


def tell(sentence: str) -> None:
    """Say something on stderr, in one line without characters that steer a terminal."""
    say(escape_line(sentence))


def confirm(question: str, without: str) -> bool:
    """Ask before something is lost; anything but a yes is a no.

    Args:
        without: What `--yes` does without asking, such as `deletes`.

    Raises:
        UsageError: nobody is there to ask.
    """
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask on", hint=f"`--yes` {without} without asking")
    print(f"{escape_line(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
