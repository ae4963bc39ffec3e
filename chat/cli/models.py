"""`mistral-chat models list|pull|show|rm`."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches
from importlib import import_module
from io import StringIO
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chat import platform
from chat.errors import ExitCode, ModelError, UsageError
from chat.gguf.keys import MistralChatKey, ModelKey
from chat.hub import PREFIX, gguf_here, read_hub_name
from chat.hub.names import CATALOGUE, DEFAULT, Official, find_official
from chat.models import inventory
from chat.models.projector import find_projector
from chat.models.removal import plan_removal, remove
from chat.models.stores import LocalFile, foreign_files, found_files, local_files
from chat.system.table_output import print_table
from chat.system.terminal_text import escape_line, size_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.gguf.reader import GgufFile
    from chat.system.environment import Environment

app = typer.Typer(
    help="The models that are here, and those on the hub.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
_COLUMNS = ("NAME", "SIZE", "TYPE", "WINDOW", "FORMAT", "WHERE", "PICTURES")
_OFFICIAL_COLUMNS = ("NAME", "DOWNLOAD", "Q4_K_M", "MEMORY", "LICENCE", "GOOD FOR", "FITS")
_BYTE_COUNTS = ("size", "download_bytes", "q4_bytes", "memory_bytes")
_LONGEST_VALUE = 100  # characters, on a terminal


@app.command("list")
def list_models(
    context: typer.Context,
    official: Annotated[
        bool,
        typer.Option("--official", help="The official models, here or not, and what fits the memory of this machine."),
    ] = False,
    remote: Annotated[bool, typer.Option("--remote", help="The models of a server.")] = False,
    server: Annotated[
        str | None, typer.Argument(metavar="[SERVER]", help="With --remote: its name in the settings file, or its URL.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the models here, those of other programs too."""
    environment: Environment = context.obj
    if official and remote:
        raise UsageError("--official and --remote cannot be used together", hint="give only one of them")
    if remote:
        return _list_remote(server, as_json, environment)
    if server is not None:
        raise UsageError("`models list` takes the name of a server only with `--remote`")
    if official:
        return _list_official(as_json, environment)
    models = inventory.listed_models()
    if as_json:
        return environment.print_json([model.to_json() for model in models])
    if not models and environment.stdout.isatty():
        alias = DEFAULT.aliases[0]
        environment.notify(f"there are no models here yet; `mistral-chat models pull {alias}` downloads a good one")
    return print_table(_COLUMNS, [_row(model, environment) for model in models], environment)


@app.command()
def pull(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="hf:OWNER/REPO[:QUANT], or an official model's name.")],
    discard: Annotated[bool, typer.Option("--discard", help="Remove the checkpoint after its conversion.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print only errors.")] = False,
) -> None:
    """Fetch a GGUF, or a checkpoint and convert it; print its path.

    An official checkpoint becomes a Q4_K_M file.
    """
    from chat.models.fetch import pull as fetch

    environment: Environment = context.obj

    def convert(arguments: Sequence[str]) -> None:
        app = typer.main.get_command(import_module("convert.cli").app)
        arguments = [*arguments, *(["-q"] if quiet else [])]
        without_path = replace(environment, stdout=StringIO())  # it prints the path, too
        app.main(arguments, prog_name="convert", standalone_mode=False, obj=without_path)

    path = fetch(name, convert, discard=discard, say=_say_nothing if quiet else environment.notify)
    if problem := inventory.describe(LocalFile(name, path, "elsewhere")).problem:
        environment.notify(f"warning: it was downloaded, but cannot be run: {problem}")
    environment.print(str(path))


@app.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name from the list, a file, or an official model.")],
    metadata: Annotated[bool, typer.Option("--metadata", help="Every key of the file.")] = False,
    as_json: Json = False,
) -> None:
    """Show the metadata of a model file, as the strict reader sees it."""
    environment: Environment = context.obj
    file = _file(name)
    if file is None:
        return _show_official(name, as_json, environment)
    header = inventory.read_checked(file.path)
    facts = _facts(inventory.describe(file), header)
    if as_json:
        return environment.print_json({**facts, "metadata": inventory.plain_metadata(header)})
    _print_facts(facts, environment)
    if metadata:
        environment.print("")
        _print_facts(inventory.plain_metadata(header), environment)
    return None


@app.command()
def rm(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name from the list.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> int:
    """Remove a model with its picture encoder, also from the hub's cache.

    A picture encoder stays where another model uses it.
    """
    environment: Environment = context.obj
    files = local_files()
    file = inventory.find_local(name, files)
    if file is None:
        if foreign := inventory.find_local(name, foreign_files()):
            why = "is not a model of ours" if foreign.where == "current folder" else "belongs to another program"
            raise ModelError(f"{name} {why} ({foreign.where})", hint=f"remove it there: {foreign.path}")
        near = get_close_matches(name, [file.name for file in files], n=3, cutoff=0.4)
        names = " or ".join(f"`{similar}`" for similar in near)
        hint = f"did you mean {names}?" if near else "`mistral-chat models list` lists them"
        raise ModelError(f"there is no model `{name}` here", hint=hint)
    removal = plan_removal(file, files)
    encoder, users = removal.encoder, " and ".join(removal.users)
    what = f"{file.name} ({size_text(file.size)})"
    if encoder is not None and removal.removes_encoder:
        what += f" and its picture encoder {encoder.name} ({size_text(encoder.size)})"
    elif encoder is None and users:
        what += f", without which {users} will read no pictures"
    if not yes and not environment.confirm(f"remove {what}?", "removes"):
        return ExitCode.UNEXPECTED
    environment.notify(f"removed {file.name} and freed {size_text(remove(file))}")
    if encoder is not None and removal.removes_encoder:
        environment.notify(f"removed its picture encoder {encoder.name} and freed {size_text(remove(encoder))}")
    elif encoder is not None:
        use = "use" if len(removal.users) > 1 else "uses"
        environment.notify(f"kept its picture encoder {encoder.name}, which {users} {use}, too")
    return ExitCode.DONE


def _file(name: str) -> LocalFile | None:
    """The file of a model; None for an official model that is not here.

    Raises:
        ModelError: nothing has that name.
    """
    from chat.models.resolve import resolve

    found = inventory.find_local(name, local_files())
    if found is not None:
        return found
    if name.startswith(PREFIX) and gguf_here(read_hub_name(name)) is None:  # `show` never downloads
        raise ModelError(f"{name} is not here", hint=f"`mistral-chat models pull {name}` fetches it")
    try:
        path = resolve(name)
    except ModelError:
        if find_official(name):
            return None
        raise
    same = [file for file in found_files() if file.path == path]
    return same[0] if same else LocalFile(path.name, path, "elsewhere")


def _facts(model: inventory.LocalModel, header: GgufFile) -> dict[str, Any]:
    types: dict[str, int] = {}
    for tensor in header.tensors.values():
        types[tensor.type] = types.get(tensor.type, 0) + 1
    projector = find_projector(header.path)
    facts = {
        **model.to_json(),
        "mmproj": str(projector) if projector else None,
        "layers": header.key(ModelKey.BLOCK_COUNT),
        "vocabulary": header.vocabulary_size,
        "tensors": ", ".join(f"{count} {kind}" for kind, count in sorted(types.items())),
        "source": header.metadata.get(MistralChatKey.SOURCE),
        "source_sha256": header.metadata.get(MistralChatKey.SOURCE_SHA256),
    }
    return {name: value for name, value in facts.items() if value not in ("", None)}


def _show_official(name: str, as_json: bool, environment: Environment) -> None:
    facts = _official_facts(find_official(name) or DEFAULT)
    if as_json:
        return environment.print_json(facts)
    _print_facts(facts, environment)
    return environment.notify(f"it is not here; `mistral-chat models pull {name}` fetches it")


def _official_facts(model: Official) -> dict[str, Any]:
    return {
        "name": model.name,
        "aliases": list(model.aliases),
        "repository": model.repository,
        "download_bytes": model.download_bytes,
        "q4_bytes": model.q4_bytes,
        "memory_bytes": model.memory_bytes,
        "fits": _fits(model),
        "window": model.window,
        "licence": model.licence,
        "good_for": model.good_for,
    }


def _list_official(as_json: bool, environment: Environment) -> None:
    if as_json:
        return environment.print_json([_official_facts(model) for model in CATALOGUE])
    rows = []
    for model in CATALOGUE:
        sizes = [_size(size, environment) for size in (model.download_bytes, model.q4_bytes, model.memory_bytes)]
        rows.append([model.name, *sizes, model.licence, model.good_for, _fits(model)])
    return print_table(_OFFICIAL_COLUMNS, rows, environment)


def _list_remote(server: str | None, as_json: bool, environment: Environment) -> None:
    """Print a server's models.

    Raises:
        ChatError: no server is named, or it does not answer.
    """
    from chat.app.remotes import named_options, server_models

    options = named_options(server, environment)
    names = server_models(options)
    if as_json:
        return environment.print_json([{"name": name, "server": options.server.url} for name in names])
    return environment.print("".join(f"{escape_line(name)}\n" for name in names), end="")


def _fits(model: Official) -> str:
    """Whether a model fits the machine's memory: "yes", "if freed" where other programs use too much now, or "no"."""
    from chat.llama.hardware import host_free_bytes

    total = platform.physical_memory()
    if model.memory_bytes <= host_free_bytes(otherwise=total):
        return "yes"
    return "if freed" if model.memory_bytes <= total else "no"


def _row(model: inventory.LocalModel, environment: Environment) -> list[str]:
    size = _size(model.size, environment)
    if model.problem:
        return [model.name, size, "unusable", "", "", model.problem, ""]
    window, pictures = str(model.window or "-"), "yes" if model.mmproj else "-"
    return [model.name, size, model.type, window, model.prompt_format, model.where, pictures]


def _size(byte_count: int, environment: Environment) -> str:
    """A rounded size for a terminal, or the number of bytes for a program that reads the pipe."""
    return size_text(byte_count) if environment.stdout.isatty() else str(byte_count)


def _print_facts(facts: dict[str, Any], environment: Environment) -> None:
    if environment.stdout.isatty():
        readable = {name: size_text(facts[name]) for name in _BYTE_COUNTS if name in facts}
        facts = {name.removesuffix("_bytes"): readable.get(name, value) for name, value in facts.items()}
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        text = escape_line(", ".join(map(str, value)) if isinstance(value, list) else str(value))
        if environment.stdout.isatty() and len(text) > _LONGEST_VALUE:
            text = text[: _LONGEST_VALUE - 1] + "…"
        environment.print(f"{escape_line(name):{width}}  {text}")


def _say_nothing(_: str) -> None:
    """Say nothing."""
