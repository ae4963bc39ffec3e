"""`mistral-chat config path|show|set|key|edit|init`."""

from __future__ import annotations

from getpass import getpass
from typing import TYPE_CHECKING, Annotated

import typer

from chat.app.key_store import remove_key, store_key
from chat.app.remotes import server_of
from chat.config.option_types import checked, option_specs
from chat.config.remotes import public_value
from chat.config.resolve import ResolvedSettings, check_presets, resolve_settings
from chat.config.settings_file import EDIT_HINT, changed_text, initial_text, read_settings_file, spec_of, toml_value
from chat.errors import UsageError
from chat.system.external_editor import open_editor
from chat.system.paths import require_private_folder
from chat.system.table_output import print_table
from chat.system.terminal_text import escape_line
from chat.system.text_files import write_file

if TYPE_CHECKING:
    from chat.system.environment import Environment

LONGEST_KEY = 16384  # characters

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
        name: (public_value(name, getattr(resolved.settings, name)), resolved.origins.get(name, "default"))
        for name, spec in option_specs().items()
        if spec.option.persistent
    }
    for remote in resolved.settings.remotes:
        rows |= {f"remote.{remote.name}.{key}": (value, remote.place) for key, value in remote.public_values().items()}
    table = resolved.settings.tool_table
    if table is not None:
        rows |= {f"tools.{name}": (rules, table.place) for name, rules in table.rules().items()}
        for source in table.servers:
            rows |= {
                f"tools.{source.name}.{key}": (value, source.place) for key, value in source.public_values().items()
            }
    if as_json:
        plain = {name: {"value": value, "origin": origin} for name, (value, origin) in rows.items()}
        environment.print_json(plain)
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
    require_private_folder(file.parent)
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


@app.command("set")
def set_value(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A setting, such as `model`.")],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="Its value; `default` removes it from the file.")],
) -> None:
    """Change one setting in the file."""
    environment: Environment = context.obj
    path = environment.config_file
    file = read_settings_file(path)
    file.values()  # a fault in the file is reported before it is changed
    spec = spec_of(name, "config set")
    if spec.many:
        raise UsageError(f"`{name}` takes several values", hint="`mistral-chat config edit` opens the file")
    wanted = None if value == "default" else checked(spec, value)
    text = changed_text(file, spec.name, wanted)
    require_private_folder(path.parent)
    write_file(path, text, overwrite=True)


@app.command()
def key(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A [remote.NAME] with `keyring = true`; its key is asked for, or read from stdin."
        ),
    ],
    remove: Annotated[bool, typer.Option("--remove", help="Remove it instead.")] = False,
) -> None:
    """Store the key of a server in the system's keyring."""
    environment: Environment = context.obj
    remotes = {remote.name: remote for remote in read_settings_file(environment.config_file).remotes()}
    if name not in remotes:
        hint = f"servers: {', '.join(remotes)}" if remotes else "`mistral-chat config edit` opens the settings file"
        raise UsageError(f"the settings file has no [remote.{escape_line(name)}]", hint=hint)
    remote = remotes[name]
    if not remote.keyring:
        raise UsageError(f"{remote.place}: [remote.{name}] does not say `keyring = true`", hint=EDIT_HINT)
    if remove:
        remove_key(remote)
        return
    is_terminal = environment.stdin.isatty()
    typed = (getpass(f"Key of {name}: ") if is_terminal else environment.stdin.readline(LONGEST_KEY + 1)).strip()
    if not typed or len(typed) > LONGEST_KEY:
        raise UsageError("the key is empty" if not typed else f"the key has more than {LONGEST_KEY:,} characters")
    server_of(remote, typed)  # a key that no header can hold is refused before it is stored
    store_key(remote, typed)


def _checked(environment: Environment) -> ResolvedSettings:
    """The settings of the file and the variables; the presets and servers of the file are checked too.

    Raises:
        FileError: the file cannot be read.
        UsageError: a name or a value in it is wrong.
    """
    file = environment.config_file
    resolved = resolve_settings({}, environment.variables, file=file)
    check_presets(resolved, file)
    for remote in resolved.settings.remotes:
        server_of(remote, None)
    if resolved.settings.tool_table is not None:
        from chat.tools.sources import rules_of

        rules_of(resolved.settings)
    return resolved
