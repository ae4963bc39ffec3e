"""Ask which model to use where none is named: one that is on this machine, the guide, or one to download."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from chat.errors import ChatError
from chat.guide import NAME as GUIDE
from chat.guide import PATH as GUIDE_FILE
from chat.guide.backend import guide_notice
from chat.hub import PREFIX, gguf_here, read_hub_name
from chat.hub.names import DEFAULT, find_official, official_names
from chat.models.inventory import NO_SIMILAR_MODEL, read_checked, usable_models
from chat.models.resolve import resolve
from chat.system.paths import expand_path
from chat.system.python_child import python_child
from chat.system.secrets import HUB_TOKENS, child_environment
from chat.system.terminal_text import escape_line, filled, size_text
from chat.system.text_files import is_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.models.inventory import LocalModel
    from chat.system.environment import Environment

MOST_SHOWN = 10  # models that were found; more would fill the screen
NARROW = 60  # columns, below which half as many are shown
HEADER_SECONDS = 2.0  # for reading what they are
_MOST_DIGITS = 9  # of a number that is looked at


def choose_model(environment: Environment) -> str:
    """Ask for a model until there is one that can be used, and download one if the user wants that.

    Returns:
        The name of a model that is here.

    Raises:
        EOFError: the user leaves, or stdin has ended.
    """
    found = usable_models(HEADER_SECONDS)
    names = [model.name for model in found]
    shown = min(len(found), MOST_SHOWN if environment.columns() >= NARROW else MOST_SHOWN // 2)
    _print_choices(found, shown, environment)
    while True:
        typed = _ask("Choice [1]: ", names, environment).strip() or "1"
        chosen = _chosen(typed, names, shown, environment)
        if chosen is not None:
            return chosen


def _chosen(typed: str, names: Sequence[str], shown: int, environment: Environment) -> str | None:
    """The model that a choice means; None if it means none, or the model cannot be used, which is explained.

    Args:
        typed: a number of the list, a path or a name.
        names: of the models that were found.
        shown: how many of them have a number.
    """
    guide, download, file = range(shown + 1, shown + 4)
    if not typed.isdecimal():
        return _by_name(typed, file, environment)
    number = int(typed[:_MOST_DIGITS])
    if 0 < number <= shown:
        return _checked(names[number - 1], environment)
    if number == guide:
        return _guide(environment)
    if number == download:
        return _download(DEFAULT.name, environment)
    if number == file:
        return _by_path(_ask("File: ", names, environment).strip(), environment)
    _refuse(file, environment)
    return None


def _print_choices(found: Sequence[LocalModel], shown: int, environment: Environment) -> None:
    environment.print("These models are on this machine:" if found else "There is no model here yet.")
    choices = [_description(model) for model in found[:shown]]
    choices.append("ask the guide, a small model inside this program that explains it")
    sizes = f"{size_text(DEFAULT.download_bytes)}, kept as {size_text(DEFAULT.q4_bytes)}"
    choices.append(f"download {DEFAULT.name}: {sizes}")
    choices.append("use another GGUF file" if found else "use a GGUF file")
    for number, choice in enumerate(choices, 1):
        _print_filled(f" {number:>2}  {choice}", environment, indent=5)
    if rest := len(found) - shown:
        _print_filled(f"{rest} more can be named: `mistral-chat models list` shows them", environment)


def _description(model: LocalModel) -> str:
    place = "" if model.where in ("models", "Ollama") else f" ({model.where})"
    return escape_line(f"{model.name}{place}: {model.summary}")


def _by_name(typed: str, last: int, environment: Environment) -> str | None:
    """The model that was typed instead of a number: a path, a name from the list or of the catalogue, a hub's name."""
    path = expand_path(typed)
    if path.name.lower().endswith(".gguf") or typed.startswith(("/", "~", "./", "../")) or is_file(str(path)):
        return _by_path(typed, environment)
    try:
        if typed == GUIDE:
            return _guide(environment)
        if typed.startswith(PREFIX):
            return typed if gguf_here(read_hub_name(typed)) is not None else _download(typed, environment)
        resolve(typed)
    except ChatError as error:
        official = find_official(typed)
        if official is not None:
            sizes = f"{size_text(official.download_bytes)}, kept as {size_text(official.q4_bytes)}"
            answer = _ask(f"Download {official.name}: {sizes}? [y/N] ", (), environment)
            return _download(official.name, environment) if answer.strip().lower() in ("y", "yes") else None
        if " " in typed or error.hint == NO_SIMILAR_MODEL:
            _refuse(last, environment)
        else:
            _explain(error, environment)
        return None
    return _checked(typed, environment)


def _by_path(typed: str, environment: Environment) -> str | None:
    path = expand_path(typed)
    if not typed or not is_file(str(path)):
        environment.print(f"There is no file {escape_line(str(path))}." if typed else "No file was named.")
        return None
    return _checked(str(path), environment)


def _checked(name: str, environment: Environment) -> str | None:
    """The name, if its file is a model that can be used."""
    try:
        read_checked(resolve(name))
    except ChatError as error:
        _explain(error, environment)
        return None
    return name


def _guide(environment: Environment) -> str | None:
    if not GUIDE_FILE.exists():
        environment.print("The guide is missing from this installation.")
        return None
    _print_filled(f"note: {guide_notice()}", environment)
    return GUIDE


def _download(name: str, environment: Environment) -> str | None:
    """Download a model; None if that failed, which the child process has explained."""
    environment.stdout.flush()
    pull = python_child("chat", "models", "pull", name)
    if subprocess.run(pull, check=False, env=child_environment(keeps=HUB_TOKENS)).returncode:
        _print_filled("Nothing was downloaded. Please choose again.", environment)
        return None
    return name


def _refuse(last: int, environment: Environment) -> None:
    numbers = "1, 2 or 3" if last == 3 else f"a number from 1 to {last}"
    _print_filled(f"Please type {numbers}.", environment)


def _explain(error: ChatError, environment: Environment) -> None:
    _print_filled(escape_line(f"error: {error.message}"), environment)
    if error.hint:
        _print_filled(escape_line(f"hint: {error.hint}"), environment)


def _print_filled(text: str, environment: Environment, indent: int = 0) -> None:
    """Print text in lines that break between words only, further lines indented."""
    width = max(environment.columns() - 1, 1)
    environment.print(filled(text, width, indent=" " * indent))


def completions(typed: str, names: Sequence[str]) -> list[str]:
    """The paths of folders and GGUF files, and the names of models, that begin with what was typed."""
    folder, separator, start = typed.rpartition("/")
    paths = []
    with suppress(OSError, ValueError):
        for path in sorted(expand_path(folder + separator or ".").iterdir()):
            if path.name.startswith(start) and (start.startswith(".") or not path.name.startswith(".")):
                if path.is_dir():
                    paths.append(f"{folder}{separator}{path.name}/")
                elif path.suffix.lower() == ".gguf":
                    paths.append(f"{folder}{separator}{path.name}")
    known = (*names, *official_names()) if typed else names
    return [*paths, *(name for name in known if name.startswith(typed) and name not in paths)]


def _ask(prompt: str, names: Sequence[str], environment: Environment) -> str:
    """A line that the user types, with Tab completing paths and names on a terminal.

    Raises:
        EOFError: stdin has ended.
    """
    if sys.platform == "win32":  # whose console edits the line itself
        return environment.ask(prompt)
    try:
        import readline
    except ImportError:
        return environment.ask(prompt)
    if environment.stdin is not sys.stdin or environment.stdout is not sys.stdout or not os.isatty(0):
        return environment.ask(prompt)
    is_libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
    readline.set_completer_delims("")
    readline.set_completer(lambda typed, number: (*completions(typed, names), None)[number])
    readline.set_auto_history(False)
    try:
        return input(prompt)
    finally:
        readline.set_completer(None)
