"""Read the command line of `mistral-chat`, once, by the settings' definitions.

Everything else asks the value made here: whether an argument is an option, an option's value or a word is decided in
one place. The syntax is Typer's, which takes as long to import as everything else that a first token needs.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from chat.config.option_types import option_specs
from chat.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

Page = Literal["help", "man", "version"]
# The options that print a page instead of an answer; of several the first of this table is printed
PAGES: dict[Page, tuple[str, ...]] = {"help": ("-h", "--help"), "man": ("--man",), "version": ("-V", "--version")}
HINT = "`mistral-chat --help` shows what there is"


@dataclass(frozen=True)
class Spelling:
    """One way to write an option.

    `name` is the setting's name, or the page's; `truth` is what the spelling stands for where it takes no value; the
    values of an option that is `many` are collected, of others the last one counts.
    """

    name: str
    truth: bool | None
    many: bool = False


@dataclass(frozen=True)
class CommandLine:
    """What the arguments say.

    Attributes:
        words: the arguments that are neither options nor their values, all behind `--` among them.
        flags: the values of the options that were given, by setting name, in the order of the line.
        page: the page that is asked for instead of an answer.
        command: the first word, if it is the name of a command; nothing behind it is read.
        before: the arguments before the command's name.
        arguments: the arguments behind the command's name.
        fault: the first thing that is wrong with the line; the rest is read all the same.
    """

    words: tuple[str, ...]
    flags: Mapping[str, Any]
    page: Page | None
    command: str | None
    before: tuple[str, ...]
    arguments: tuple[str, ...]
    fault: UsageError | None

    @property
    def verbose(self) -> bool:
        """Whether `-v` was given as an option."""
        return bool(self.flags.get("verbose"))


@cache
def page_spellings(*pages: Page) -> Mapping[str, Spelling]:
    """The options that ask for these pages."""
    return MappingProxyType({flag: Spelling(page, True) for page in pages for flag in PAGES[page]})


@cache
def spellings() -> Mapping[str, Spelling]:
    """Every option of the main command as it may be typed, `--no-markdown` beside `--markdown`."""
    found = dict(page_spellings(*PAGES))
    for each in option_specs().values():
        for written in each.option.flags:
            for flag, truth in zip(written.split("/"), (True, False), strict=False):
                found[flag] = Spelling(each.name, truth if each.kind is bool else None, each.many)
    return MappingProxyType(found)


def read_command_line(
    arguments: Sequence[str], commands: Container[str] = (), options: Mapping[str, Spelling] | None = None
) -> CommandLine:
    """Tell options, their values, words and a command from each other.

    The argument behind an option that takes a value is its value, whatever it looks like.

    Args:
        arguments: what was typed behind the program's name.
        commands: the names that are commands where they are the first word.
        options: what may be given, by spelling; the main command's options if not given.

    Returns:
        What the line says. An unknown option, one without its value, or a value where none belongs is its `fault`.
    """
    reading = _Reading(deque(arguments), spellings() if options is None else options)
    words: list[str] = []
    while reading.left:
        argument = reading.left.popleft()
        if argument == "--":
            words += reading.left
            break
        if argument.startswith("--"):
            flag, equals, value = argument.partition("=")
            reading.take(flag, value if equals else None)
        elif argument.startswith("-") and argument != "-":
            reading.take_letters(argument)
        elif argument in commands and not words:
            before = arguments[: len(arguments) - len(reading.left) - 1]
            return reading.line(command=argument, before=before, arguments=reading.left)
        else:
            words.append(argument)
    return reading.line(words)


@dataclass
class _Reading:
    """The arguments that are left, and what the options before them say."""

    left: deque[str]
    options: Mapping[str, Spelling]
    values: dict[str, Any] = field(default_factory=dict)
    fault: UsageError | None = None

    def take_letters(self, argument: str) -> None:
        """Letters behind one dash: switches, and a last one that takes the rest, or the next argument, as its value."""
        for at in range(1, len(argument)):
            flag = f"-{argument[at]}"
            spelling = self.options.get(flag)
            if spelling is None or spelling.truth is None:  # what follows an unknown letter may be its value
                return self.take(flag, argument[at + 1 :] or None)
            self.take(flag, None)
        return None

    def take(self, flag: str, value: str | None) -> None:
        """Take an option, with its next argument where it needs a value and has none attached."""
        spelling = self.options.get(flag)
        if spelling is None:
            near = get_close_matches(flag, self.options, n=3)
            return self._blame(f"no such option: {flag}", f"did you mean {' or '.join(near)}?" if near else HINT)
        if spelling.truth is not None:
            if value is not None:
                return self._blame(f"{flag} takes no value", HINT)
            self.values[spelling.name] = spelling.truth
            return None
        if value is None:
            if not self.left:
                return self._blame(f"{flag} needs a value", HINT)
            value = self.left.popleft()
        self.values[spelling.name] = (*self.values.get(spelling.name, ()), value) if spelling.many else value
        return None

    def line(
        self,
        words: Iterable[str] = (),
        *,
        command: str | None = None,
        before: Iterable[str] = (),
        arguments: Iterable[str] = (),
    ) -> CommandLine:
        """The finished value, pages told from settings."""
        flags = {name: value for name, value in self.values.items() if name not in PAGES}
        page = next((each for each in PAGES if each in self.values), None)
        return CommandLine(
            tuple(words), MappingProxyType(flags), page, command, tuple(before), tuple(arguments), self.fault
        )

    def _blame(self, message: str, hint: str) -> None:
        self.fault = self.fault or UsageError(message, hint=hint)
