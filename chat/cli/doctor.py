"""`mistral-chat doctor`: print the findings about the machine, the installation and the model."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from chat.errors import ExitCode, UsageError
from chat.system.terminal_text import counted, escape_line, filled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chat.doctor.machine_checks import Finding
    from chat.system.environment import Environment

app = typer.Typer(
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
INDENT = 26


@app.command()
def doctor(
    context: typer.Context,
    model: Annotated[
        str | None,
        typer.Option("-m", "--model", metavar="NAME", help="Check this model instead of the one in the settings."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As a JSON object.")] = False,
    remote: Annotated[bool, typer.Option("--remote", help="Look at a server instead of this machine.")] = False,
    server: Annotated[
        str | None, typer.Argument(metavar="[SERVER]", help="With --remote: its name in the settings file, or its URL.")
    ] = None,
    remote_model: Annotated[
        str | None, typer.Option("--remote-model", metavar="NAME", help="With --remote: the server's model.")
    ] = None,
    online: Annotated[bool, typer.Option("--online", help="Also ask the hub whether it answers.")] = False,
) -> None:
    """Show what this machine and this build can do, what would be chosen and why, and what is wrong.

    Exits with 1 if there is a problem, else with 0; notes do not count.
    """
    from chat.doctor.checks import examine

    environment: Environment = context.obj
    if remote and (model or online):
        raise UsageError("--remote excludes --model and --online", hint="give only one of them")
    if not remote and (server or remote_model):
        raise UsageError("`doctor` takes the name of a server only with `--remote`")
    width = min(environment.columns(100), 120)
    found = []
    findings = _examine_remote(server, remote_model, environment) if remote else examine(model, online=online)
    for finding in findings:
        found.append(finding)
        if not as_json:
            environment.print(finding_text(finding, width))
            environment.stdout.flush()
    problems = sum(finding.state == "problem" for finding in found)
    if as_json:
        plain = {"problems": problems, "findings": [asdict(finding) for finding in found]}
        environment.print_json(plain, indent=1)
    else:
        environment.print(f"\n{summary(found)}")
    if problems:
        raise typer.Exit(ExitCode.UNEXPECTED)


def _examine_remote(server: str | None, model: str | None, environment: Environment) -> Iterator[Finding]:
    from chat.app.remotes import named_options
    from chat.doctor.remote_checks import examine_remote

    return examine_remote(named_options(server, environment, model))


def finding_text(finding: Finding, width: int) -> str:
    """One finding, with its hint on lines of its own; lines do not break inside a path.

    Args:
        width: columns of the terminal.
    """
    head = f"{finding.state:<8} {finding.check:<16} "
    lines = [_filled(head, finding.words, width)]
    if finding.hint:
        lines.append(_filled(" " * INDENT, f"hint: {finding.hint}", width))
    return "\n".join(lines)


def _filled(head: str, words: str, width: int) -> str:
    indent = " " * INDENT if width >= 60 else "  "
    return filled(escape_line(words), max(width, 20), head=head, indent=indent)


def summary(found: list[Finding]) -> str:
    """The counts of problems and notes in words."""
    counts = {state: sum(finding.state == state for finding in found) for state in ("problem", "note")}
    named = [counted(count, state) for state, count in counts.items() if count]
    return " and ".join(named) if named else "everything is fine"
