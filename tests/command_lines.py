"""Check command lines in documents against the commands and options of the program."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

from chat.cli import command_tree, main

_CALL = re.compile(r"mistral-chat [^|&#;>`]*")


@functools.cache
def commands() -> tuple[command_tree.CommandSpec, ...]:
    """The commands of the program."""
    return tuple(command_tree.commands(main.COMMANDS))


def unknown_flags(line: str) -> set[str]:
    """The options in a line `mistral-chat ...` that its command does not take."""
    words = line.split()[1:]
    return {word for word in words if re.fullmatch(r"--?[a-z][a-z-]*", word)} - flags_of(command_path(words))


def flags_of(path: list[str]) -> set[str]:
    """The spellings that a command takes; of the program itself for an empty path."""
    if not path:
        return {spelling for flag in command_tree.main_flags() for spelling in flag.spellings}
    [found] = [each for each in commands() if each.name == path[0]]
    for name in path[1:]:
        [found] = [each for each in found.parts if each.name == name]
    return {spelling for flag in found.flags for spelling in flag.spellings}


def command_path(words: list[str]) -> list[str]:
    """The names of the command that begins a line, `models list` for example."""
    [*found] = [each for each in commands() if words[:1] == [each.name]]
    if not found:
        return []
    parts = {part.name for part in found[0].parts}
    assert not parts or not words[1:] or words[1] in parts, words
    return words[: 2 if parts else 1]


def calls_in(page: str) -> set[str]:
    """The calls `mistral-chat ...` in the shell lines and the quoted words of a Markdown page, quoted texts as TEXT."""
    quoted = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL))
    texts = [*quoted, *(line.text for line in shell_lines(page))]
    plain = [re.sub(r"\"[^\"]*\"|'[^']*'", "TEXT", " ".join(text.split())) for text in texts]
    return {call for text in plain for call in _CALL.findall(text)}


def named_options(page: str) -> set[str]:
    """The long options that the quoted words of a page name."""
    quoted = re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL))
    return {option for text in quoted for option in re.findall(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*", text)}


@dataclass(frozen=True)
class ShellLine:
    """A line that a page tells people to type, with the mark of its block: `<!-- not run: network -->`."""

    text: str
    mark: str = ""


def shell_lines(page: str) -> list[ShellLine]:
    """The lines in the blocks of shell of a Markdown page."""
    blocks = re.findall(r"(?:<!-- ([^\n]*?) -->\n)?```sh\n(.*?)```", page, re.DOTALL)
    return [ShellLine(line, mark) for mark, block in blocks for line in block.splitlines() if line.strip()]


def all_options() -> set[str]:
    """Every spelling of every option of the program and of its commands."""
    paths = [[], *([each.name, *part] for each in commands() for part in ([], *([part.name] for part in each.parts)))]
    return set().union(*(flags_of(path) for path in paths))
