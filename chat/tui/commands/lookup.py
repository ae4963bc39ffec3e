"""What a command is, and how one is found by what a person typed. Knows no particular command."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from chat.errors import UsageError
from chat.system.terminal_text import escape_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chat.tui.state import SessionState

Completes = Literal["nothing", "command", "option", "path", "session", "preset", "copy", "model"]
NAME = re.compile(r"/[^\s/]*(?=\s|$)")


@dataclass(frozen=True)
class SlashCommand:
    """One row of the table of commands.

    `handler` gets the desk and what stands behind the name, and may give a text to be edited in the next prompt.
    """

    name: str
    help: str
    details: str
    handler: Callable[[SessionState, str], str | None]
    arguments: str = ""
    aliases: tuple[str, ...] = ()
    completes: Completes = "nothing"

    @property
    def usage(self) -> str:
        """How it is written."""
        return f"/{self.name} {self.arguments}".strip()


def is_command(text: str) -> bool:
    """Whether a line is a command: a slash and one word. `//` begins a message with a slash, and so does a path."""
    return NAME.match(text) is not None


def split(text: str) -> tuple[str, str]:
    """The name without its slash, and the rest."""
    name, *rest = text.strip().split(maxsplit=1)
    return name.removeprefix("/").lower(), rest[0] if rest else ""


def unquoted(text: str) -> str:
    """What stands behind a command's name, without the quotes that a shell, or a dropped file, puts around it."""
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def check_argument(command: SlashCommand, argument: str) -> None:
    """Refuse what a command would pass over: it may have been meant.

    Raises:
        UsageError: there is an argument, and the command takes none.
    """
    if argument.strip() and not command.arguments:
        raise UsageError(
            f"`/{command.name}` takes nothing behind it, not `{escape_line(argument.strip())}`",
            hint=f"`/help {command.name}` explains it",
        )


def find(
    commands: Mapping[str, SlashCommand], name: str, others: Mapping[str, str] = MappingProxyType({})
) -> SlashCommand:
    """The command of this name or alias.

    Args:
        others: words that are no commands, but may be meant, and what to propose for them.

    Raises:
        UsageError: there is none; the hint names the nearest.
    """
    found = by_any_name(commands).get(name)
    if found is not None:
        return found
    near = get_close_matches(name, [*by_any_name(commands), *others], n=1, cutoff=0.6)
    hint = f"did you mean `/{others.get(near[0], near[0])}`?" if near else "`/help` lists them"
    raise UsageError(f"there is no command `/{escape_line(name)}`", hint=f"{hint} (`//` sends a slash)")


def by_any_name(commands: Mapping[str, SlashCommand]) -> dict[str, SlashCommand]:
    """Every command by its name and its aliases."""
    return dict(commands) | {alias: command for command in commands.values() for alias in command.aliases}
