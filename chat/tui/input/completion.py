"""Tab completion of commands and their arguments: options, files, models, sessions, presets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from chat.app.remotes import RemoteOptions
from chat.config.conflicts import has_effect
from chat.errors import ChatError
from chat.guide import NAME as GUIDE
from chat.system.paths import expand_path
from chat.system.terminal_text import escape_line
from chat.tui.commands.session_options import changeable_options, find_option, think_words
from chat.tui.commands.table import COMMANDS, NAMES
from chat.tui.commands.tool_commands import WORDS
from chat.tui.input.reader import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from chat.tui.state import SessionState

MAX_CANDIDATES = 50


def candidates(state: SessionState, text: str) -> list[Candidate]:
    """The completions of a command line.

    Args:
        state: the session.
        text: the line up to the cursor.
    """
    name, space, argument = text.partition(" ")
    if not space:
        return list(_commands(name.removeprefix("/")))
    command = NAMES.get(name.removeprefix("/").lower())
    completer = COMPLETERS.get(command.completes) if command else None
    return list(completer(state, argument)) if completer else []


def _commands(prefix: str) -> Iterator[Candidate]:
    """Commands by name; aliases only if the command's own name does not match."""
    for name, command in NAMES.items():
        is_alias = name not in COMMANDS
        if name.startswith(prefix.lower()) and not (is_alias and (not prefix or command.name.startswith(prefix))):
            note = f"{command.help} (/{command.name})" if is_alias else command.help
            yield Candidate(f"/{name}", len(prefix) + 1, note)


def _options(state: SessionState, argument: str) -> Iterator[Candidate]:
    name, space, value = argument.partition(" ")
    if not space:
        for option, spec in changeable_options().items():
            if option.startswith(name.replace("-", "_")) and has_effect(option, state.settings):
                yield Candidate(option.replace("_", "-"), len(name), spec.option.help)
        return
    try:
        spec = find_option(name)
    except ChatError:
        return
    yield from _matching(("on", "off") if spec.kind is bool else spec.choices, value)


def _shown(state: SessionState, argument: str) -> Iterator[Candidate]:
    yield from _matching(("all",), argument)
    if " " not in argument:
        yield from _options(state, argument)


def _matching(words: Iterable[str], prefix: str) -> Iterator[Candidate]:
    for word in words:
        if word.startswith(prefix):
            yield Candidate(word, len(prefix))


def _copied_parts(state: SessionState, argument: str) -> Iterator[Candidate]:
    return _matching(("code", "all"), argument)


def _thinking(state: SessionState, argument: str) -> Iterator[Candidate]:
    return _matching(think_words(), argument)


def _command_names(state: SessionState, argument: str) -> Iterator[Candidate]:
    return _matching(COMMANDS, argument.removeprefix("/"))


def _presets(state: SessionState, argument: str) -> Iterator[Candidate]:
    return _matching(state.resolved.presets, argument)


def _sessions(state: SessionState, argument: str) -> Iterator[Candidate]:
    for record in state.session.store.list(MAX_CANDIDATES):
        if record.label.startswith(argument):
            yield Candidate(record.label, len(argument), escape_line(record.title))


def _paths(state: SessionState, argument: str) -> Iterator[Candidate]:
    """Entries of the folder, folders first; hidden ones only after a dot."""
    typed_folder, separator, prefix = argument.rpartition("/")
    folder = expand_path(typed_folder + separator or ".")
    try:
        with os.scandir(folder) as entries:
            found = sorted(
                (not entry.is_dir(), entry.name) for entry in entries
                if entry.name.startswith(prefix) and (prefix.startswith(".") or not entry.name.startswith("."))
            )[:MAX_CANDIDATES]  # fmt: skip
    except OSError:
        return
    for is_file, name in found:
        if name.isprintable():
            yield Candidate(name if is_file else name + "/", len(prefix))


def _models(state: SessionState, argument: str) -> Iterator[Candidate]:
    """Models of the server, servers, models on this machine by any part of their names, then folders and GGUF files."""
    options = state.backend.options
    if isinstance(options, RemoteOptions):
        offered = state.model_lists.completed_of_server(options)
        yield from _matching(filter(str.isprintable, offered), argument)
    yield from _matching((remote.name for remote in state.settings.remotes), argument)
    names = set()
    for model in state.model_lists.completed_here():
        if argument.lower() in model.name.lower() and model.name.isprintable():
            names.add(model.name)
            yield Candidate(model.name, len(argument), model.summary)
    yield from _matching((GUIDE, "info"), argument)
    for candidate in _paths(state, argument):
        if candidate.text.endswith(("/", ".gguf")) and candidate.text not in names:
            yield candidate


def _tool_words(state: SessionState, argument: str) -> Iterator[Candidate]:
    """Words, and after `forget` the rules that allow calls."""
    word, space, rule = argument.partition(" ")
    if word == "forget" and space:
        rules = state.calls.rules.allow if state.calls is not None else ()
        return _matching((str(each.of_any_version) for each in rules), rule)
    return _matching((*WORDS, "forget "), argument)


COMPLETERS: dict[str, Callable[[SessionState, str], Iterator[Candidate]]] = {
    "command": _command_names,
    "option": _options,
    "shown": _shown,
    "path": _paths,
    "session": _sessions,
    "preset": _presets,
    "copy": _copied_parts,
    "model": _models,
    "think": _thinking,
    "tools": _tool_words,
}
