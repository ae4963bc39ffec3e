"""`mistral-chat config path|show|edit|init`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from chat.config.option_types import option_specs
from chat.config.resolve import ResolvedSettings, check_presets, resolve_settings
from chat.config.settings_file import initial_text, toml_value
from chat.errors import FileError, UsageError
from chat.system.external_editor import open_editor
from chat.system.paths import make_private_folder
from chat.system.table_output import print_table
from chat.system.text_files import write_file

if TYPE_CHECKING:
    from chat.system.environment import Environment

app = typer.Typer(
    help="The settings file: where it is, what counts and why.",
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def path(context: typer.Context) -> None:
    """Print where the settings file is."""
    environment: Environment = context.obj
    environment.print(str(environment.config_file))


@app.command()
def show(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False
) -> None:
    """Print every setting's value and where it comes from."""
    environment: Environment = context.obj
    resolved = _checked(environment)
    rows = {
        name: (getattr(resolved.settings, name), resolved.origins.get(name, "default"))
        for name, spec in option_specs().items()
        if spec.option.persistent
    }
    if as_json:
        plain = {name: {"value": value, "origin": origin} for name, (value, origin) in rows.items()}
        environment.print(json.dumps(plain, default=str))
        return
    shown = [
        (f"{name} = {'-' if value is None else toml_value(value)}", origin) for name, (value, origin) in rows.items()
    ]
    print_table(("SETTING", "FROM"), shown, environment)


@app.command()
def init(context: typer.Context) -> None:
    """Write a commented settings file, unless there is one."""
    environment: Environment = context.obj
    file = environment.config_file
    if file.exists():
        raise UsageError(f"{file} exists", hint="`mistral-chat config edit` opens it")
    try:
        make_private_folder(file.parent)
    except OSError as error:
        raise FileError(f"{file.parent}: cannot be made: {error.strerror}") from error
    write_file(file, initial_text())
    environment.print(str(file))


@app.command()
def edit(context: typer.Context) -> None:
    """Open the settings file in $EDITOR, and check it afterwards."""
    environment: Environment = context.obj
    if not environment.config_file.exists():
        init(context)
    open_editor(environment.config_file)
    _checked(environment)


def _checked(environment: Environment) -> ResolvedSettings:
    """The settings of the file and the variables; the presets of the file are checked too.

    Raises:
        FileError: the file cannot be read.
        UsageError: a name or a value in it is wrong.
    """
    file = environment.config_file
    resolved = resolve_settings({}, environment.variables, file=file)
    check_presets(resolved, file)
    return resolved
