"""Flags -> settings -> one room. The only place that catches errors and turns them into sentences and exit codes."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from chat import __version__
from chat.cli.argv import page_spellings, read_command_line
from chat.errors import ChatError, ExitCode, UsageError
from chat.system import interrupts
from chat.system.standard_streams import open_missing_streams, replace_unencodable, say, silence_stdout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chat.cli.argv import CommandLine
    from chat.config.resolve import ResolvedSettings

COMMANDS: dict[str, tuple[str, str]] = {  # name -> (module that holds `app`, what it does)
    "convert": ("convert.cli", "Turn a checkpoint into a 4- or 8-bit GGUF."),
    "models": ("chat.cli.models", "List, fetch, show and remove models."),
    "sessions": ("chat.cli.sessions", "List, show, search, export, rename and remove sessions."),
    "config": ("chat.cli.config", "Show and edit the settings file."),
    "templates": ("chat.cli.templates", "List, show and edit prompt templates."),
    "doctor": ("chat.cli.doctor", "Say what works here, what would be chosen and why."),
    "bench": ("chat.cli.bench", "Measure a model on this machine."),
}
COMPLETION = "completion"  # a command without a Typer app


def main() -> NoReturn:
    """The command `mistral-chat`."""
    for name in (signal.SIGTERM, getattr(signal, "SIGHUP", None)):
        if name is not None:
            signal.signal(name, _leave)
    open_missing_streams()
    replace_unencodable()
    try:
        interrupts.raise_on_interrupt()
        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # before the arguments were read, or while a fault was reported
        code = ExitCode.INTERRUPTED
    interrupts.exit_on_interrupt()
    if code == ExitCode.INTERRUPTED:
        interrupts.die_by_interrupt()
    sys.exit(code)


@dataclass
class _Tracebacks:
    """Whether errors are shown with a traceback, and whether what runs has `-v`; a Typer command decides both."""

    shown: bool
    offered: bool


def run(arguments: Sequence[str]) -> int:
    """Do what the arguments say; every fault becomes one sentence on stderr and an exit code."""
    line = read_command_line(arguments, commands=(*COMMANDS, COMPLETION))
    tracebacks = _Tracebacks(shown=line.verbose, offered=line.command is None)
    try:
        code = _dispatch(line, tracebacks)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        silence_stdout()
        return ExitCode.PIPE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except ChatError as error:
        return _report(error, tracebacks)
    except OSError as error:
        _drop_unwritable()
        return _report(_file_error(error), tracebacks)
    except Exception as error:
        if tracebacks.shown:
            raise
        hint = "`-v` shows where" if tracebacks.offered else None
        return _report(ChatError(f"unexpected: {type(error).__name__}: {error}", hint=hint), tracebacks)


def _dispatch(line: CommandLine, tracebacks: _Tracebacks) -> int:
    if line.command is not None:
        if line.before:
            raise UsageError(
                f"options of `{line.command}` come after its name",
                hint=f"`mistral-chat -- {line.command} ...` asks a question instead",
            )
        if line.command == COMPLETION:
            return _print_completion(line.arguments)
        return _call(line.command, line.arguments, tracebacks)
    if line.page is not None:
        return {"help": _print_help, "man": _print_manual, "version": _print_version}[line.page]()
    if line.fault is not None:
        raise line.fault
    return _enter(line.words, line.flags)


def _print_help() -> int:
    from chat.cli.help import help_text

    rows = {command: words for command, (_, words) in COMMANDS.items()}
    print(help_text({**rows, COMPLETION: "Print completion for bash, zsh or fish."}), end="")
    return ExitCode.DONE


def _print_manual() -> int:
    from chat.cli.command_tree import commands, main_flags
    from chat.cli.manpage import man_page

    print(man_page(__version__, main_flags(), commands(COMMANDS)), end="")
    return ExitCode.DONE


def _print_version() -> int:
    print(f"mistral-chat {__version__}")
    return ExitCode.DONE


def _print_completion(arguments: Sequence[str]) -> int:
    from chat.cli.command_tree import commands, main_flags
    from chat.cli.offered_names import NAMES, offered
    from chat.cli.shell_completion import SHELLS, USAGE

    line = read_command_line(arguments, options=page_spellings("help"))
    wanted = line.words[0] if len(line.words) == 1 and line.fault is None else ""
    if line.page is not None:
        print(USAGE, end="")
    elif wanted in NAMES:  # the scripts ask for these
        print("".join(f"{name}\n" for name in offered(wanted)), end="")
    elif wanted in SHELLS:
        print(SHELLS[wanted](main_flags(), commands(COMMANDS)), end="")
    else:
        raise UsageError("`completion` needs a shell", hint=f"`mistral-chat completion {'|'.join(SHELLS)}`")
    return ExitCode.DONE


def _call(name: str, arguments: Sequence[str], tracebacks: _Tracebacks) -> int:
    """Run a command's Typer app; what it finds wrong with the arguments becomes a UsageError."""
    import typer.core
    from typer.exceptions import TyperException

    program = f"mistral-chat {name}"
    command = typer.main.get_command(import_module(COMMANDS[name][0]).app)
    if isinstance(command, typer.core.TyperGroup) and not arguments:
        arguments = ["--help"]
    try:  # not `command.main`: it turns a broken pipe into exit code 1
        with command.make_context(program, list(arguments)) as context:
            tracebacks.offered = "verbose" in context.params
            tracebacks.shown = bool(context.params.get("verbose"))
            result = command.invoke(context)
    except typer.Exit as leaving:
        return leaving.exit_code
    except typer.Abort:
        return ExitCode.INTERRUPTED
    except TyperException as error:
        message = error.format_message().rstrip(".").replace("Value error, ", "")  # a word of the library's own
        raise UsageError(message[:1].lower() + message[1:], hint=f"`{program} --help` shows what there is") from error
    return int(result or ExitCode.DONE)


def _enter(words: Sequence[str], flags: Mapping[str, Any]) -> int:
    """Settle the settings and go to the session or the one shot."""
    from chat.config.resolve import resolve_settings

    resolved = resolve_settings(flags, file=_config_file(), template=_template_settings(flags))
    if _is_session(words, resolved):
        from chat.tui.tty_modes import TtyModes

        with TtyModes().raw_between_prompts() as modes:
            from chat.cli.session import enter_session

            return enter_session(resolved, modes)
    if resolved.settings.batch is not None:
        from chat.batch.command import answer_batch

        return answer_batch(words, resolved.settings)
    from chat.app.oneshot import answer_once

    return answer_once(words, resolved)


def _template_settings(flags: Mapping[str, Any]) -> dict[str, Any]:
    if "template" not in flags:
        return {}
    from chat.templates import store

    return dict(store.load(flags["template"]).settings)


def _config_file() -> Path | None:
    """Where the settings file would be; None for a user without a home."""
    from chat.errors import FileError
    from chat.system.paths import config_folder

    try:
        return config_folder() / "config.toml"
    except FileError:
        return None


def _is_session(words: Sequence[str], resolved: ResolvedSettings) -> bool:
    settings = resolved.settings
    asked = words or settings.raw_ids or settings.batch or settings.dry_run or settings.json or settings.raw
    asked = asked or settings.tool_result or settings.wants_code
    return not asked and sys.stdin.isatty() and sys.stdout.isatty()


def _leave(number: int, _frame: object) -> NoReturn:
    """End by SIGTERM and SIGHUP as an exit: engines are let go, turns stored, half-written files removed."""
    raise SystemExit(128 + number)


def _drop_unwritable() -> None:
    """Let go of what stdout does not take, so that it is not tried, and complained of, once more at the end."""
    try:
        sys.stdout.flush()
    except OSError:
        silence_stdout()


def _file_error(error: OSError) -> ChatError:
    from chat.errors import FileError

    where = error.filename or "cannot read or write"
    return FileError(f"{where}: {error.strerror or error}")


def _report(error: ChatError, tracebacks: _Tracebacks) -> int:
    from chat.system.terminal_text import escape_line

    if tracebacks.shown and not isinstance(error, UsageError):
        import traceback

        traceback.print_exception(error)
    say(f"error: {escape_line(error.message)}")
    if error.hint:
        say(f"hint: {escape_line(error.hint)}")
    return error.exit_code
