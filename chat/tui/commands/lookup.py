"""A slash command, and how it is found by what the user types."""

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

CompletionKind = Literal[
    "nothing", "command", "option", "shown", "path", "session", "preset", "copy", "model", "think", "tools"
]
_NAME = re.compile(r"/[^\s/]*(?=\s|$)")


@dataclass(frozen=True)
class SlashCommand:
    """One row of the table of commands.

    Attributes:
        name: without the slash.
        help: a few words for `/help`.
        details: sentences for `/help NAME`.
        handler: called with the session and the argument; may return a text to edit in the next prompt.
        arguments: the arguments as `/help` writes them; empty if there are none.
        aliases: other names.
        completes: what Tab completes as an argument.
    """

    name: str
    help: str
    details: str
    handler: Callable[[SessionState, str], str | None]
    arguments: str = ""
    aliases: tuple[str, ...] = ()
    completes: CompletionKind = "nothing"

    @property
    def usage(self) -> str:
        """The command with its arguments."""
        return f"/{self.name} {self.arguments}".strip()


def is_command(text: str) -> bool:
    """Whether a line is a command: a slash and a word. A second slash makes it a message, which may be a path."""
    return _NAME.match(text) is not None


def split_command(text: str) -> tuple[str, str]:
    """The name without its slash, in lower case, and the argument."""
    name, *rest = text.strip().split(maxsplit=1)
    return name.removeprefix("/").lower(), rest[0] if rest else ""


def unquoted(text: str) -> str:
    """An argument without the quotes that a shell, or a file dropped onto the terminal, has around it."""
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def check_argument(command: SlashCommand, argument: str) -> None:
    """Refuse an argument of a command that takes none.

    Raises:
        UsageError: there is one.
    """
    if argument.strip() and not command.arguments:
        raise UsageError(
            f"`/{command.name}` takes no argument, but got `{escape_line(argument.strip())}`",
            hint=f"`/help {command.name}` explains it",
        )


def find_command(
    commands: Mapping[str, SlashCommand], name: str, others: Mapping[str, str] = MappingProxyType({}), after: str = ""
) -> SlashCommand:
    """The command with this name or alias.

    Args:
        commands: the commands by their names.
        name: what the user typed, without the slash.
        others: words that are no commands, with the command that the user may have meant by each.
        after: stands after the hint.

    Raises:
        UsageError: there is none; the hint names the nearest.
    """
    found = by_any_name(commands).get(name)
    if found is not None:
        return found
    near = get_close_matches(name, [*by_any_name(commands), *others], n=1, cutoff=0.65)
    hint = f"did you mean `/{others.get(near[0], near[0])}`?" if near else "`/help` lists them"
    raise UsageError(f"there is no command `/{escape_line(name)}`", hint=hint + after)


def by_any_name(commands: Mapping[str, SlashCommand]) -> dict[str, SlashCommand]:
    """The commands by their names and aliases."""
    return dict(commands) | {alias: command for command in commands.values() for alias in command.aliases}
