"""`mistral-chat templates list|show|edit|rm`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from chat.errors import ChatError, UsageError
from chat.system.external_editor import open_editor
from chat.system.paths import require_private_folder
from chat.system.table_output import print_table
from chat.system.terminal_text import escape_control_characters
from chat.system.text_files import write_file
from chat.templates import store

if TYPE_CHECKING:
    from chat.system.environment import Environment

app = typer.Typer(
    help="Prompt templates with $input and $variables, used with `mistral-chat -t NAME`.",
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Name = Annotated[str, typer.Argument(metavar="NAME")]


@app.command("list")
def list_templates(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="As a JSON list.")] = False
) -> None:
    """List the templates, examples and your own, with their variables."""
    environment: Environment = context.obj
    rows = []
    for name, origin in store.names().items():
        try:
            rows.append((name, origin, store.load(name).variables()))
        except ChatError as error:
            environment.notify(f"note: {error.message}")
    if as_json:
        plain = [{"name": name, "origin": origin, "variables": list(variables)} for name, origin, variables in rows]
        return environment.print_json(plain)
    shown = [(name, origin, " ".join(f"${variable}" for variable in variables)) for name, origin, variables in rows]
    return print_table(("NAME", "KIND", "VARIABLES"), shown, environment)


@app.command()
def show(context: typer.Context, name: Name) -> None:
    """Print a template's file."""
    environment: Environment = context.obj
    text = store.text_of(name)
    environment.print(escape_control_characters(text) if environment.stdout.isatty() else text, end="")


@app.command()
def edit(name: Name) -> None:
    """Open your own template of this name in $EDITOR.

    It begins as the example of that name, or empty.
    """
    path = store.own_path(name)
    if not path.exists():
        text = store.text_of(name) if name in store.names() else 'prompt = """\n$input"""\n'
        require_private_folder(path.parent)
        write_file(path, text)
    open_editor(path)
    store.load(name)


@app.command()
def rm(name: Name) -> None:
    """Remove your own template of this name.

    An example of that name shows again.
    """
    try:
        store.own_path(name).unlink()
    except FileNotFoundError:
        raise UsageError(f"no template `{name}` of your own") from None
