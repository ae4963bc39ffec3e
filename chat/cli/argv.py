"""Read the flags of the main command from the settings' definitions. Knows spellings, not what values mean.

It does what Typer would, which takes as long to import as everything else that a first word on the screen needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any

from chat.config.option_types import option_specs
from chat.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chat.config.option_types import OptionSpec

HINT = "`mistral-chat --help` shows what there is"


@dataclass(frozen=True)
class Spelling:
    """One way to write an option; `truth` is what it stands for where it takes no value."""

    definition: OptionSpec
    truth: bool | None


@dataclass
class CommandLine:
    """The words that are no options, and the values of the options that were given."""

    words: list[str] = field(default_factory=list)
    flags: dict[str, Any] = field(default_factory=dict)


@cache
def spellings() -> dict[str, Spelling]:
    """Every flag as it may be typed, `--no-markdown` beside `--markdown`."""
    found = {}
    for each in option_specs().values():
        for written in each.option.flags:
            for flag, truth in zip(written.split("/"), (True, False), strict=False):
                found[flag] = Spelling(each, truth if each.kind is bool else None)
    return found


def read_flags(arguments: Sequence[str]) -> CommandLine:
    """Tell options from words; the last of several values counts, where an option takes but one.

    Raises:
        UsageError: an unknown option, one without its value, or a value where none belongs.
    """
    line = CommandLine()
    left = iter(arguments)
    for argument in left:
        if argument == "--":
            line.words += left
        elif argument.startswith("--"):
            flag, equals, value = argument.partition("=")
            _put(line, flag, value if equals else None, left)
        elif argument.startswith("-") and argument != "-":
            _put_short(line, argument, left)
        else:
            line.words.append(argument)
    return line


def _put_short(line: CommandLine, argument: str, left: Iterator[str]) -> None:
    """Letters behind one dash: switches, and a last one that takes the rest, or the next argument, as its value."""
    for at in range(1, len(argument)):
        flag = f"-{argument[at]}"
        spelling = spellings().get(flag)
        if spelling is not None and spelling.truth is None:
            return _put(line, flag, argument[at + 1 :] or None, left)
        _put(line, flag, None, left)
    return None


def _put(line: CommandLine, flag: str, value: str | None, left: Iterator[str]) -> None:
    spelling = spellings().get(flag)
    if spelling is None:
        near = get_close_matches(flag, spellings(), n=3)
        raise UsageError(f"no such option: {flag}", hint=f"did you mean {' or '.join(near)}?" if near else HINT)
    name = spelling.definition.name
    if spelling.truth is not None:
        if value is not None:
            raise UsageError(f"{flag} takes no value", hint=HINT)
        line.flags[name] = spelling.truth
        return
    if value is None and (value := next(left, None)) is None:
        raise UsageError(f"{flag} needs a value", hint=HINT)
    if spelling.definition.many:
        line.flags.setdefault(name, []).append(value)
    else:
        line.flags[name] = value
