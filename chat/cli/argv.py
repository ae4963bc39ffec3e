"""Read the command line of `mistral-chat` by the specs of its options.

Only this module decides whether an argument is an option, the value of an option, or a word. The syntax is Typer's; the
library is not used here, because importing it takes as long as everything else that a first token needs.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
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
HINT = "`mistral-chat --help` explains the usage"


@dataclass(frozen=True)
class Spelling:
    """One way to write an option.

    Attributes:
        name: the name of the setting or the page.
        truth: the value of a spelling that takes none; None if it takes a value.
        many: whether values are collected; else the last one counts.
    """

    name: str
    truth: bool | None
    many: bool = False


@dataclass(frozen=True)
class CommandLine:
    """What the arguments say.

    Attributes:
        words: the arguments that are neither options nor their values, with everything after `--`.
        flags: the values of the given options, by setting name, in the order of the line.
        page: the page to print instead of an answer.
        command: the first word, if it is the name of a command; what follows it is not read.
        before: the arguments before the command's name.
        arguments: the arguments after the command's name.
        fault: the first error in the line; the rest is read nevertheless.
        is_marked: whether `--` says that words are words.
    """

    words: tuple[str, ...]
    flags: Mapping[str, Any]
    page: Page | None
    command: str | None
    before: tuple[str, ...]
    arguments: tuple[str, ...]
    fault: UsageError | None
    is_marked: bool = False

    @property
    def verbose(self) -> bool:
        """Whether `-v` was given as an option."""
        return bool(self.flags.get("verbose"))


@cache
def page_spellings(*pages: Page) -> Mapping[str, Spelling]:
    """The spellings of the options that print these pages."""
    return MappingProxyType({flag: Spelling(page, True) for page in pages for flag in PAGES[page]})


@cache
def spellings() -> Mapping[str, Spelling]:
    """All spellings of all options of the main command; `--no-markdown` is one of its own."""
    found = dict(page_spellings(*PAGES))
    for spec in option_specs().values():
        for pair in spec.option.flags:
            for flag, truth in zip(pair.split("/"), (True, False), strict=False):
                found[flag] = Spelling(spec.name, truth if spec.kind is bool else None, spec.many)
    return MappingProxyType(found)


def read_command_line(
    arguments: Sequence[str], commands: Container[str] = (), options: Mapping[str, Spelling] | None = None
) -> CommandLine:
    """Read the arguments as options, their values, words and a command.

    The argument after an option that takes a value is its value, even if it begins with `-`.

    Args:
        arguments: the arguments after the program's name.
        commands: the names of commands, which count only as the first word.
        options: the allowed options by spelling; the main command's by default.

    Returns:
        The line. Its `fault` is an unknown option, a missing value, or a value where none is allowed.
    """
    reading = _Reading(deque(arguments), spellings() if options is None else options)
    words: list[str] = []
    while reading.left:
        argument = reading.left.popleft()
        if argument == "--":
            words += reading.left
            return replace(reading.line(words), is_marked=True)
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
    """The remaining arguments, and the options before them."""

    left: deque[str]
    options: Mapping[str, Spelling]
    values: dict[str, Any] = field(default_factory=dict)
    fault: UsageError | None = None

    def take_letters(self, argument: str) -> None:
        """Take short options behind one dash; the last may have the rest, or the next argument, as its value."""
        for index, letter in enumerate(argument[1:], 1):
            flag = f"-{letter}"
            spelling = self.options.get(flag)
            if spelling is None or spelling.truth is None:  # what follows an unknown letter may be its value
                return self.take(flag, argument[index + 1 :] or None)
            self.take(flag, None)
        return None

    def take(self, flag: str, value: str | None) -> None:
        """Take an option, with the next argument as its value if it needs one and has none attached."""
        spelling = self.options.get(flag)
        if spelling is None:
            from difflib import get_close_matches

            near = get_close_matches(flag, self.options, n=3)
            return self._add_fault(f"no such option: {flag}", f"did you mean {' or '.join(near)}?" if near else HINT)
        if spelling.truth is not None:
            if value is not None:
                return self._add_fault(f"{flag} takes no value", HINT)
            self.values[spelling.name] = spelling.truth
            return None
        if value is None:
            if not self.left:
                return self._add_fault(f"{flag} needs a value", HINT)
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
        """The finished line."""
        flags = {name: value for name, value in self.values.items() if name not in PAGES}
        page = next((page for page in PAGES if page in self.values), None)
        return CommandLine(
            tuple(words), MappingProxyType(flags), page, command, tuple(before), tuple(arguments), self.fault
        )

    def _add_fault(self, message: str, hint: str) -> None:
        self.fault = self.fault or UsageError(message, hint=hint)
