"""`mistral-chat sessions list|show|search|export|import|rename|rm`: tables on a terminal, plain lines in a pipe."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chat.errors import ChatError, ExitCode, FileError, UsageError
from chat.history.export import ExportFormat, export_text, format_of_suffix, without_paths
from chat.history.records import SHORT_ID_LENGTH
from chat.history.session_json import iso_time
from chat.system.paths import data_folder
from chat.system.terminal_text import cell_width, counted, escape_control_characters, escape_line
from chat.system.text_files import write_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from chat.history.records import ListedSession, SessionRecord
    from chat.history.search import Hit
    from chat.history.store import Store
    from chat.system.environment import Environment

app = typer.Typer(
    help="The sessions that are stored here.",
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
MOST_ROWS = 1_000_000
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]
Paths = Annotated[bool, typer.Option("--paths", help="With absolute paths, such as that of the model's file.")]
Which = Annotated[str, typer.Argument(metavar="SESSION", help="A name, an id, or the beginning of one.")]

_MAX_LABEL_WIDTH = 24  # columns
_MIN_TITLE_WIDTH = 5  # columns
_WIDE_TERMINAL = 60  # columns, from which on the table has the count of messages and the time of day


@app.command("list")
def list_sessions(
    context: typer.Context,
    limit: Annotated[
        int | None, typer.Option("-n", "--limit", metavar="N", min=1, max=MOST_ROWS, help="This many at most.")
    ] = None,
    as_json: Json = False,
    paths: Paths = False,
) -> None:
    """List the sessions, the last used first."""
    environment: Environment = context.obj
    with _history(environment) as store:
        records = [record if paths else without_paths(record) for record in store.list(limit)]
    if as_json:
        return environment.print_json([_json_of(record) for record in records])
    if not environment.stdout.isatty():
        for record in records:
            cells = (record.id, record.name or "", record.title, str(record.messages), record.model)
            environment.print("\t".join((*map(escape_line, cells), iso_time(record.updated))))
        return None
    if not records:
        return environment.notify("no sessions are stored yet")
    return _print_table(records, environment)


@app.command()
def show(
    context: typer.Context,
    session: Annotated[
        str | None, typer.Argument(metavar="SESSION", help="A name or id; the last one if none.")
    ] = None,
    as_json: Json = False,
    paths: Paths = False,
) -> None:
    """Show what was said, as Markdown."""
    environment: Environment = context.obj
    with _history(environment) as store:
        record = store.get(session) if session is not None else store.latest()
        if record is None:
            raise UsageError("no sessions are stored yet")
        text = export_text(*store.load(record.id), "json" if as_json else "markdown", with_paths=paths)
    _print(text, environment)


@app.command()
def search(
    context: typer.Context,
    words: Annotated[
        list[str], typer.Argument(metavar="WORD", help='Words, or "a phrase"; the last may be a beginning.')
    ],
    limit: Annotated[
        int, typer.Option("-n", "--limit", metavar="N", min=1, max=MOST_ROWS, help="This many hits at most.")
    ] = 20,
    as_json: Json = False,
) -> None:
    """Find words in everything that was said."""
    # an argument with spaces had quotes that the shell removed, so it is a phrase unless it has quotes of its own
    query = " ".join(f'"{word}"' if " " in word and '"' not in word else word for word in words)
    environment: Environment = context.obj
    with _history(environment) as store:
        hits = store.search(query, limit=limit)
    if as_json:
        return environment.print_json([_json_of_hit(hit) for hit in hits])
    if not environment.stdout.isatty():
        for hit in hits:
            cells = (hit.session_id, hit.name or "", hit.node_id or "", hit.role, hit.snippet)
            environment.print("\t".join(map(escape_line, cells)))
        return None
    if not hits:
        return environment.notify("nothing found")
    return _print_hits(hits, environment)


@app.command()
def export(
    context: typer.Context,
    sessions: Annotated[
        list[str] | None,
        typer.Argument(metavar="SESSION", help="Names or ids; the last if none; several for JSON Lines."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All sessions.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="A file; else stdout.")] = None,
    kind: Annotated[
        ExportFormat | None,
        typer.Option("--format", help="What to write; by FILE's ending if not given; else Markdown, or jsonl for all."),
    ] = None,
    paths: Paths = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE.")] = False,
) -> None:
    """Write sessions as Markdown, plain text, HTML, JSON or JSON Lines.

    JSON and JSON Lines hold whole sessions, which `import` reads; sharegpt is JSON Lines for training.
    """
    environment: Environment = context.obj
    kind = kind or (format_of_suffix(output, every=every) if output else "jsonl" if every else "markdown")
    with _history(environment) as store:
        records = [store.get(name) for name in sessions] if sessions and not every else store.list(None if every else 1)
        if not records:
            raise UsageError("no sessions are stored yet")
        if len(records) > 1 and kind not in ("jsonl", "sharegpt"):
            hint = "use `--format jsonl`, or name one session"
            raise UsageError(f"{len(records)} sessions do not fit in one {kind} file", hint=hint)
        text = "".join(export_text(*store.load(record.id), kind, with_paths=paths) for record in records)
    if output is None:
        return _print(text, environment)
    write_file(output, text, overwrite=overwrite)
    return environment.notify(f"wrote {output}")


@app.command("import")
def import_sessions(
    context: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="What `export` wrote as JSON or JSON Lines; - is stdin."),
    ],
) -> int:
    """Import exported sessions as new ones; prints their ids.

    A file or a line that cannot be read is named, and the others are imported.
    """
    from chat.cli.session_import import read_exports, take_in

    environment: Environment = context.obj
    errors: list[ChatError] = []
    count = 0
    with _history(environment, writes=True, enabled=True) as store:
        for file in files:
            for exported in read_exports(file, environment):
                if isinstance(exported, ChatError):
                    errors.append(exported)
                    environment.report(exported)
                    continue
                created = take_in(store, *exported, environment)
                store.check(writes=True)
                environment.print(created.id)
                count += 1
    if errors and count:
        environment.notify(f"imported {counted(count, 'session')}; {len(errors)} could not be read")
    return errors[0].exit_code if errors else ExitCode.DONE


@app.command()
def rename(
    context: typer.Context,
    session: Which,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new name; empty for none.")],
) -> None:
    """Give a session a name."""
    with _history(context.obj, writes=True) as store:
        store.rename(store.get(session).id, name or None)
        store.check(writes=True)


@app.command()
def rm(
    context: typer.Context,
    sessions: Annotated[list[str], typer.Argument(metavar="SESSION", help="Names, ids, or beginnings of ids.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> int:
    """Delete sessions, with all that was said and saved states."""
    environment: Environment = context.obj
    with _history(environment, writes=True) as store:
        records = {record.id: record for record in map(store.get, sessions)}
        labels = ", ".join(_label(record) for record in records.values())
        if not yes and not environment.confirm(f"delete {labels}?", "deletes"):
            return ExitCode.UNEXPECTED
        for record in records.values():
            store.remove(record.id)
        _name_damaged_files(store, environment)
    return ExitCode.DONE


def _name_damaged_files(store: Store, environment: Environment) -> None:
    """Name the damaged histories that were kept, because deleted sessions may still be in them."""
    if store.path is None:
        return
    damaged = sorted(store.path.parent.glob(f"{store.path.name}.corrupt-*"))
    if damaged:
        environment.notify(f"what was deleted may still be in {' and '.join(map(str, damaged))}")


@contextmanager
def _history(environment: Environment, *, writes: bool = False, enabled: bool = False) -> Iterator[Store]:
    """Open the history on the disk, and print its notices.

    Args:
        environment: where notices are printed.
        writes: whether the command changes it.
        enabled: create the file if there is none; else a missing history is an empty one.

    Yields:
        The history.

    Raises:
        FileError: it cannot be read, or `writes` and it cannot be written.
    """
    from chat.history.store import FILE_NAME, open_history

    try:
        enabled = enabled or (data_folder() / FILE_NAME).exists()
    except FileError:
        enabled = True  # the store reports what is wrong
    with open_history(enabled=enabled) as store:
        store.check(writes=writes)
        if not store.failed:  # a copy in memory is good enough to read
            for notice in store.take_notices():
                environment.notify(notice.text)
        yield store


def _label(record: SessionRecord) -> str:
    return f"`{record.label}`" + (f" ({record.title})" if record.title else "")


def _print(text: str, environment: Environment) -> None:
    """Print a text: unchanged into a pipe, with control characters escaped on a terminal."""
    shown = escape_control_characters(text) if environment.stdout.isatty() else text
    environment.stdout.writelines(shown.splitlines(keepends=True))  # one large write would not notice a closed pipe


def _json_of(record: ListedSession) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "title": record.title,
        "model": record.model,
        "messages": record.messages,
        "created": iso_time(record.created),
        "updated": iso_time(record.updated),
    }


def _json_of_hit(hit: Hit) -> dict[str, Any]:
    return {
        "session": hit.session_id,
        "name": hit.name,
        "title": hit.title,
        "node": hit.node_id,
        "role": hit.role,
        "created": iso_time(hit.created),
        "snippet": hit.snippet,
        "marks": [list(mark) for mark in hit.marks],
    }


def _local_time(seconds: float) -> str:
    try:
        return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        return ""


def _console(environment: Environment) -> Console:
    from rich.console import Console

    width, variables = environment.columns(), environment.variables
    return Console(file=environment.stdout, width=width, highlight=False, _environ=variables)


def _print_table(records: Sequence[ListedSession], environment: Environment) -> None:
    """Print one line for each session, as wide as the terminal.

    A narrow one has shorter titles, and no counts and times of day.
    """
    from rich.text import Text

    console = _console(environment)
    is_wide = console.width >= _WIDE_TERMINAL
    head = ("SESSION", "MESSAGES", "USED")
    sides = [
        (
            escape_line(record.label),
            str(record.messages),
            _local_time(record.updated)[: None if is_wide else len("2026-11-21")],
        )
        for record in records
    ]
    label_width, count_width, time_width = (max(map(cell_width, column)) for column in zip(head, *sides, strict=True))
    label_width = min(label_width, _MAX_LABEL_WIDTH)
    count_width = count_width if is_wide else 0
    title_width = max(console.width - label_width - count_width - time_width - 6, _MIN_TITLE_WIDTH)
    titles = ["TITLE", *(escape_line(record.title) for record in records)]
    for title, (label, count, used) in zip(titles, (head, *sides), strict=True):
        line = Text(style="bold" if label == "SESSION" and title == "TITLE" else "")
        for cell, width in ((label, label_width), (title, title_width)):
            part = Text(cell)
            part.truncate(width, overflow="ellipsis", pad=True)
            line.append_text(part).append("  ")
        line.append(f"{count:>{count_width}}  " if count_width else "").append(used)
        console.print(line, no_wrap=True, overflow="crop")


def _print_hits(hits: Sequence[Hit], environment: Environment) -> None:
    from rich.text import Text

    console = _console(environment)
    for hit in hits:
        head = Text(escape_line(hit.name or hit.session_id[:SHORT_ID_LENGTH]), style="bold")
        head.append(f"  {_local_time(hit.created)}  {escape_line(hit.title)}", style="dim not bold")
        console.print(head, no_wrap=True, overflow="ellipsis")
        body = Text(f"  {hit.role}: ", style="dim")
        printed = 0
        for start, end in hit.marks:
            body.append(escape_line(hit.snippet[printed:start]), style="not dim")
            body.append(escape_line(hit.snippet[start:end]), style="bold not dim")
            printed = end
        body.append(escape_line(hit.snippet[printed:]), style="not dim")
        console.print(body)
