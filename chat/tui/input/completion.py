"""Say what a line that begins with a slash may go on with. Knows commands, files and sessions, not keys."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from chat.errors import ChatError
from chat.system.paths import expand_path
from chat.system.terminal_text import escape_line
from chat.tui.commands.setting_commands import changeable, option_of
from chat.tui.commands.table import COMMANDS, NAMES
from chat.tui.input.reader import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from chat.tui.state import SessionState

MOST = 50


def candidates(desk: SessionState, text: str) -> Iterable[Candidate]:
    """What may stand at the end of `text`, the line up to the cursor."""
    name, space, argument = text.partition(" ")
    if not space:
        return list(_commands(name.removeprefix("/")))
    command = NAMES.get(name.removeprefix("/").lower())
    completer = COMPLETERS.get(command.completes) if command else None
    return list(completer(desk, argument)) if completer else []


def _commands(begun: str) -> Iterator[Candidate]:
    for name, command in NAMES.items():
        is_alias = name not in COMMANDS
        if name.startswith(begun.lower()) and not (is_alias and (not begun or command.name.startswith(begun))):
            note = f"{command.help} (/{command.name})" if is_alias else command.help
            yield Candidate(f"/{name}", len(begun) + 1, note)


def _options(desk: SessionState, argument: str) -> Iterator[Candidate]:
    name, space, value = argument.partition(" ")
    if not space:
        for option, spec in changeable().items():
            if option.startswith(name.replace("-", "_")):
                yield Candidate(option.replace("_", "-"), len(name), spec.option.help)
        return
    try:
        spec = option_of(name)
    except ChatError:
        return
    choices = ("on", "off") if spec.kind is bool else spec.choices
    yield from _those(choices or (), value)


def _those(words: Iterable[str], begun: str, note: str = "") -> Iterator[Candidate]:
    for word in words:
        if word.startswith(begun):
            yield Candidate(word, len(begun), note)


def _copies(desk: SessionState, argument: str) -> Iterator[Candidate]:
    return _those(("code", "all"), argument)


def _names_of_commands(desk: SessionState, argument: str) -> Iterator[Candidate]:
    return _those(COMMANDS, argument.removeprefix("/"))


def _presets(desk: SessionState, argument: str) -> Iterator[Candidate]:
    return _those(desk.resolved.presets, argument)


def _sessions(desk: SessionState, argument: str) -> Iterator[Candidate]:
    for record in desk.session.store.list(MOST):
        if record.label.startswith(argument):
            yield Candidate(record.label, len(argument), escape_line(record.title))


def _paths(desk: SessionState, argument: str) -> Iterator[Candidate]:
    """Entries of the folder that is being typed, folders first; hidden ones only when asked for."""
    typed = argument.rpartition("/")
    folder = expand_path(typed[0] + typed[1] or ".")
    begun = typed[2]
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                ((not entry.is_dir(), entry.name) for entry in entries
                 if entry.name.startswith(begun) and (begun.startswith(".") or not entry.name.startswith("."))),
            )[:MOST]  # fmt: skip
    except OSError:
        return
    for is_file, name in found:
        if name.isprintable():
            yield Candidate(name if is_file else name + "/", len(begun))


def _models(desk: SessionState, argument: str) -> Iterator[Candidate]:
    for each in _paths(desk, argument):
        if each.text.endswith(("/", ".gguf")):
            yield each


COMPLETERS: dict[str, Callable[[SessionState, str], Iterator[Candidate]]] = {
    "command": _names_of_commands,
    "option": _options,
    "path": _paths,
    "session": _sessions,
    "preset": _presets,
    "copy": _copies,
    "model": _models,
}
