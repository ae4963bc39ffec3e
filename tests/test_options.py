"""Every option of every command is given to the program by some test: a file that runs it has the option, and the
command's words, among its arguments."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from chat.cli.command_tree import CommandSpec, FlagSpec, commands, main_flags
from chat.cli.main import COMMANDS

TESTS = Path(__file__).parent
# What a file that runs the program names
RUNS = ('"-m", "chat"', " -m chat", "tests.program", "chat.cli.main", "convert.cli")


@cache
def arguments() -> dict[Path, frozenset[str]]:
    """The texts in calls, lists and tuples of each file that runs the program, and the names of what it calls."""
    found = {}
    for path in TESTS.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        if path != Path(__file__) and any(name in source for name in RUNS):
            found[path] = frozenset(_texts(ast.parse(source)))
    return found


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id  # a helper is named after the command that it runs
        parts = node.args if isinstance(node, ast.Call) else getattr(node, "elts", ())
        for part in parts:
            value = part.values[0] if isinstance(part, ast.JoinedStr) and part.values else part
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.value.partition("=")[0] if value.value.startswith("-") else value.value


def options() -> Iterator[tuple[tuple[str, ...], FlagSpec]]:
    """Each flag with the words of its command."""
    yield from (((), flag) for flag in main_flags())
    for command in commands(COMMANDS):
        yield from _options(command, ())


def _options(command: CommandSpec, before: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], FlagSpec]]:
    words = (*before, command.name)
    yield from ((words, flag) for flag in command.flags if "--help" not in flag.spellings)
    for part in command.parts:
        yield from _options(part, words)


def test_a_test_gives_each_option_to_the_program() -> None:
    untried = [
        " ".join((*words, flag.spellings[-1]))
        for words, flag in options()
        if not any({*words} <= texts and texts & {*flag.spellings} for texts in arguments().values())
    ]
    assert untried == []
