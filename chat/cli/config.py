"""`mistral-chat config path|show|edit|init`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from chat.config.option_types import option_specs
from chat.config.resolve import ResolvedSettings, check_presets, resolve_settings
from chat.config.settings_template import initial_text, toml_value
from chat.errors import FileError, UsageError
from chat.system.atomic_file import write_file
from chat.system.external_editor import open_editor
from chat.system.paths import config_folder, make_private_folder
from chat.system.table_output import print_table

app = typer.Typer(
    help="The settings file: where it is, what counts and why.",
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def config_path() -> Path:
    """Where the settings file is, or would be."""
    return config_folder() / "config.toml"


@app.command()
def path() -> None:
    """Print where the settings file is."""
    print(config_path())


@app.command()
def show(as_json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False) -> None:
    """Print every setting's value and where it comes from."""
    resolved = _checked()
    rows = {
        name: (getattr(resolved.settings, name), resolved.origins.get(name, "default"))
        for name, each in option_specs().items()
        if each.option.persistent
    }
    if as_json:
        plain = {name: {"value": value, "origin": origin} for name, (value, origin) in rows.items()}
        print(json.dumps(plain, default=str))
        return
    shown = [
        (f"{name} = {'-' if value is None else toml_value(value)}", origin) for name, (value, origin) in rows.items()
    ]
    print_table(("SETTING", "FROM"), shown)


@app.command()
def init() -> None:
    """Write a commented settings file, unless there is one."""
    file = config_path()
    if file.exists():
        raise UsageError(f"{file} exists", hint="`mistral-chat config edit` opens it")
    try:
        make_private_folder(file.parent)
    except OSError as error:
        raise FileError(f"{file.parent}: cannot be made: {error.strerror}") from error
    write_file(file, initial_text())
    print(file)


@app.command()
def edit() -> None:
    """Open the settings file in $EDITOR, and check it afterwards."""
    if not config_path().exists():
        init()
    open_editor(config_path())
    _checked()


def _checked() -> ResolvedSettings:
    """What the file gives, its presets looked at too."""
    resolved = resolve_settings({}, file=config_path())
    check_presets(resolved, config_path())
    return resolved
