"""Every command with its flags, from the specs of the options and the Typer apps; for completion and the man page."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from chat.cli.argv import PAGES
from chat.cli.help import described
from chat.config.option_types import option_specs

if TYPE_CHECKING:
    from collections.abc import Mapping

OTHER_FLAGS = {
    PAGES["man"]: "Print the man page.",
    PAGES["version"]: "Show the version.",
    PAGES["help"]: "Show help.",
}
NAMES_OF_OPTIONS = {
    "model": "models",
    "session": "sessions",
    "template": "templates",
    "preset": "presets",
    "remote": "remotes",
    "remote_model": "remote-models",
}


@dataclass(frozen=True)
class FlagSpec:
    """An option of a command.

    Attributes:
        values: the only values that it takes, if they are few.
        names: the kind of names that it takes, a key of `chat.cli.offered_names.NAMES`; empty for other values.
    """

    spellings: tuple[str, ...]
    help: str
    takes_value: bool
    metavar: str = ""
    values: tuple[str, ...] = ()
    is_file: bool = False
    names: str = ""


@dataclass(frozen=True)
class CommandSpec:
    """A command with its flags.

    Attributes:
        parts: its subcommands.
        arguments: the metavars of its arguments.
        names: the kind of names that its arguments are, as in `FlagSpec`.
    """

    name: str
    help: str
    flags: tuple[FlagSpec, ...]
    parts: tuple[CommandSpec, ...] = ()
    arguments: str = ""
    names: str = ""


def main_flags() -> tuple[FlagSpec, ...]:
    """The flags of `mistral-chat` without a command."""
    flags = [
        FlagSpec(
            tuple(part for flag in spec.option.flags for part in flag.split("/")),
            described(spec),
            spec.kind is not bool,
            spec.option.metavar or "|".join(spec.choices),
            spec.choices,
            is_file=spec.names_file or spec.name == "model",
            names=NAMES_OF_OPTIONS.get(spec.name, ""),
        )
        for spec in option_specs().values()
    ]
    return (*flags, *(FlagSpec(spellings, help, False) for spellings, help in OTHER_FLAGS.items()))


def commands(table: Mapping[str, tuple[str, str]]) -> tuple[CommandSpec, ...]:
    """The specs of all commands.

    Args:
        table: name -> (module with a Typer `app`, what it does).
    """
    import typer.main

    found = [
        _command(name, help, typer.main.get_command(import_module(module).app))
        for name, (module, help) in table.items()
    ]
    shells = tuple(
        CommandSpec(shell, f"Print completion for {shell}.", ()) for shell in ("bash", "zsh", "fish", "powershell")
    )
    return (*found, CommandSpec("completion", "Print completion for a shell.", (), shells))


def _command(name: str, help: str, command: Any, parent: str = "") -> CommandSpec:
    parts = getattr(command, "commands", {})
    arguments = [
        parameter.metavar or parameter.name.upper()
        for parameter in command.params
        if parameter.param_type_name == "argument"
    ]
    return CommandSpec(
        name,
        help,
        tuple(_flag(parameter) for parameter in command.params if parameter.param_type_name == "option"),
        tuple(_command(part, below.get_short_help_str(200), below, name) for part, below in parts.items()),
        " ".join(arguments),
        parent if parent in NAMES_OF_OPTIONS.values() and {"NAME", "SESSION"} & set(arguments) else "",
    )


def _flag(parameter: Any) -> FlagSpec:
    annotation = parameter.type_descriptor.annotation
    values = get_args(annotation) if get_origin(annotation) is Literal else ()
    metavar = parameter.metavar or "|".join(values)
    spellings = (*parameter.opts, *parameter.secondary_opts)
    is_file = annotation is Path or "FILE" in metavar
    return FlagSpec(spellings, parameter.help or "", not parameter.is_flag, metavar, values, is_file)
