"""The command `mistral-chat`: choose what the arguments ask for, and turn errors into messages and exit codes."""

from __future__ import annotations

import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from chat import __version__, platform
from chat.cli.argv import page_spellings, read_command_line
from chat.errors import ChatError, ExitCode, UsageError, as_chat_error, hiding_error
from chat.system import interrupts
from chat.system.environment import Environment, discard_output, open_missing_streams, prepare_streams

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from chat.cli.argv import CommandLine
    from chat.config.options import Settings
    from chat.config.resolve import CommonSettings

COMMANDS: dict[str, tuple[str, str]] = {  # name -> (module that holds `app`, what it does)
    "convert": ("convert.cli", "Turn a checkpoint into a 4- or 8-bit GGUF."),
    "models": ("chat.cli.models", "List, fetch, show and remove models."),
    "sessions": ("chat.cli.sessions", "List, show, search, export, rename and remove sessions."),
    "config": ("chat.cli.config", "Show and edit the settings file."),
    "templates": ("chat.cli.templates", "List, show and edit prompt templates."),
    "doctor": ("chat.cli.doctor", "Show what works here, what would be chosen and why."),
    "bench": ("chat.cli.bench", "Measure a model on this machine."),
}
COMPLETION = "completion"  # a command without a Typer app


def main() -> NoReturn:
    """Run the command `mistral-chat`.

    Raises:
        SystemExit: always, with the exit code.
    """
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):  # the last is Windows' word for a console that closes
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _exit_by_signal)
    interrupts.repeat_lost_signals()
    open_missing_streams()
    prepare_streams()
    try:
        interrupts.raise_on_interrupt()
        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # before the arguments were read, or while an error was reported
        code = ExitCode.INTERRUPTED
    interrupts.exit_on_interrupt()
    if code == ExitCode.INTERRUPTED:
        interrupts.die_by_interrupt()
    sys.exit(code)


@dataclass
class _Tracebacks:
    """Whether errors are shown with a traceback, and whether the command has `-v`."""

    shown: bool
    offered: bool


def run(arguments: Sequence[str], environment: Environment | None = None) -> int:
    """Do what the arguments ask for, and report an error as one sentence on stderr.

    Args:
        environment: the streams and the terminal; the process's own by default.

    Returns:
        The exit code.
    """
    environment = environment or Environment()
    line = read_command_line(arguments, commands=(*COMMANDS, COMPLETION))
    tracebacks = _Tracebacks(shown=line.verbose, offered=line.command is None)
    try:
        code = _dispatch(line, environment, tracebacks)
        environment.stdout.flush()
        return code
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except ChatError as error:
        return _report(error, environment, tracebacks)
    except OSError as error:
        if platform.is_broken_pipe(error):
            discard_output(environment.stdout)
            return ExitCode.PIPE
        _discard_unwritable(environment)
        return _report(_file_error(error), environment, tracebacks)
    except MemoryError:
        from chat.system.process_limits import memory_error

        return _report(memory_error(), environment, tracebacks)
    except SystemExit as error:
        hidden = hiding_error(error)
        if hidden is None:
            raise
        return _report(hidden, environment, tracebacks)
    except Exception as error:
        if interrupts.is_lost_interrupt(error):
            return ExitCode.INTERRUPTED
        if tracebacks.shown:
            raise
        hint = "`-v` shows where" if tracebacks.offered else None
        return _report(as_chat_error(error, hint=hint), environment, tracebacks)


def _dispatch(line: CommandLine, environment: Environment, tracebacks: _Tracebacks) -> int:
    if line.command is not None:
        if line.before:
            raise UsageError(
                f"options of `{line.command}` come after its name",
                hint=f"`mistral-chat -- {line.command} ...` asks a question instead",
            )
        if line.command == COMPLETION:
            return _print_completion(line.arguments, environment)
        return _run_command(line.command, line.arguments, environment, tracebacks)
    if line.page is not None:
        print_page = {"help": _print_help, "man": _print_manual, "version": _print_version}[line.page]
        return print_page(environment)
    if line.fault is not None:
        raise line.fault
    _check_words(line, environment)
    return _start_chat(line.words, line.flags, environment)


def _check_words(line: CommandLine, environment: Environment) -> None:
    """Refuse words that were probably meant as a command, where a user at a terminal asks nothing else.

    Raises:
        UsageError: a command was meant; the hint says how to ask the words as a question.
    """
    if not line.words or line.is_marked or not environment.stdin.isatty():
        return
    if line.flags.keys() - {"model", "quiet", "verbose", "color"}:  # a file, a schema: the words are about that
        return
    from chat.app.near_commands import meant_in_shell

    words, meant = " ".join(line.words), meant_in_shell(line.words, (*COMMANDS, COMPLETION))
    if meant:
        commands = " or ".join(f"`{each}`" for each in meant)
        is_for_session = meant == ("mistral-chat",)
        raise UsageError(
            f"`{words}` is for a session, which {commands} starts" if is_for_session else f"did you mean {commands}?",
            hint=f"`mistral-chat -- {words}` sends it to the model",
        )


def _print_help(environment: Environment) -> int:
    from chat.cli.help import help_text

    rows = {command: words for command, (_, words) in COMMANDS.items()}
    rows[COMPLETION] = "Print completion for bash, zsh, fish or PowerShell."
    environment.print(help_text(rows, environment.columns()), end="")
    return ExitCode.DONE


def _print_manual(environment: Environment) -> int:
    from chat.cli.command_tree import commands, main_flags
    from chat.cli.manpage import man_page

    page = man_page(__version__, main_flags(), commands(COMMANDS))
    if environment.stdout.isatty():
        from chat.cli.manual_pager import show_manual

        show_manual(page, environment)
    else:
        environment.print(page, end="")
    return ExitCode.DONE


def _print_version(environment: Environment) -> int:
    environment.print(f"mistral-chat {__version__}")
    return ExitCode.DONE


def _print_completion(arguments: Sequence[str], environment: Environment) -> int:
    from chat.cli.command_tree import commands, main_flags
    from chat.cli.offered_names import NAMES, REMOTE_MODELS, offered_names, server_model_names
    from chat.cli.powershell_completion import OFFERS, offers
    from chat.cli.shell_completion import SHELLS, USAGE

    line = read_command_line(arguments, options=page_spellings("help"))
    wanted = line.words[0] if line.words and line.fault is None else ""
    if line.page is not None:
        environment.print(USAGE, end="")
    elif wanted in NAMES:  # the scripts ask for these
        environment.print("".join(f"{name}\n" for name in offered_names(wanted, environment)), end="")
    elif wanted == REMOTE_MODELS:
        names = server_model_names(line.words[1:], environment)
        environment.print("".join(f"{name}\n" for name in names if name.isprintable()), end="")
    elif wanted == OFFERS:
        found = offers(main_flags(), commands(COMMANDS), environment)
        environment.print("".join(f"{each}\n" for each in found), end="")
    elif wanted in SHELLS and len(line.words) == 1:
        environment.print(SHELLS[wanted](main_flags(), commands(COMMANDS)), end="")
    else:
        raise UsageError("`completion` needs a shell", hint=f"`mistral-chat completion {'|'.join(SHELLS)}`")
    return ExitCode.DONE


def _run_command(name: str, arguments: Sequence[str], environment: Environment, tracebacks: _Tracebacks) -> int:
    """Run the Typer app of a command, which finds the environment in its context.

    Raises:
        UsageError: the arguments are wrong.
    """
    import typer.core
    from typer.exceptions import TyperException

    from chat.config.resolve import common_settings

    program = f"mistral-chat {name}"
    common = common_settings(environment.variables, _config_file({"quiet": True}, environment))
    environment = _obeying(common, environment)
    command = typer.main.get_command(import_module(COMMANDS[name][0]).app)
    if isinstance(command, typer.core.TyperGroup) and not arguments:
        arguments = ["--help"]
    try:  # not `command.main`: it turns a broken pipe into exit code 1
        with (  # Typer prints its help itself
            redirect_stdout(environment.stdout),
            redirect_stderr(environment.stderr),
            command.make_context(program, list(arguments), obj=environment) as context,
        ):
            tracebacks.offered = "verbose" in context.params
            tracebacks.shown = bool(context.params.get("verbose"))
            result = command.invoke(context)
    except typer.Exit as leaving:
        return leaving.exit_code
    except typer.Abort:
        return ExitCode.INTERRUPTED
    except TyperException as error:
        message = error.format_message().rstrip(".").replace("Value error, ", "")  # a prefix of the library
        raise UsageError(message[:1].lower() + message[1:], hint=f"`{program} --help` explains the usage") from error
    return int(result or ExitCode.DONE)


def _start_chat(words: Sequence[str], flags: Mapping[str, Any], environment: Environment) -> int:
    """Resolve the settings, and start a terminal session, a batch or a one-shot run."""
    from chat.config.resolve import resolve_settings

    resolved = resolve_settings(
        flags, environment.variables, file=_config_file(flags, environment), template=_template_settings(flags)
    )
    environment = _obeying(resolved.common, environment)
    if _is_session(words, resolved.settings, environment):
        from chat.tui.tty_modes import TtyModes

        with TtyModes(environment).raw_between_prompts() as modes:
            from chat.cli.session import enter_session

            return enter_session(resolved, modes, environment)
    if resolved.settings.batch is not None:
        from chat.batch.run import answer_batch

        return answer_batch(words, resolved, environment)
    from chat.app.oneshot import answer_once

    return answer_once(words, resolved, environment)


def _obeying(common: CommonSettings, environment: Environment) -> Environment:
    """Go offline, and write for a screen reader, where the settings say so."""
    if common.offline:
        from chat.system.network import go_offline

        go_offline(common.offline)
    return environment.made_accessible() if common.accessible else environment


def _template_settings(flags: Mapping[str, Any]) -> dict[str, Any]:
    if "template" not in flags:
        return {}
    from chat.templates import store

    return dict(store.load(flags["template"]).settings)


def _config_file(flags: Mapping[str, Any], environment: Environment) -> Path | None:
    """The settings file; None for a user without a home folder, or, with a note, where nobody may look for it."""
    from chat.errors import FileError

    try:
        file = environment.config_file
        file.stat()
    except FileError:
        return None
    except PermissionError as error:
        if not flags.get("quiet"):
            environment.notify(f"note: without settings, because {file} cannot be read: {error.strerror}")
        return None
    except OSError:  # as if it were missing
        pass
    return file


def _is_session(words: Sequence[str], settings: Settings, environment: Environment) -> bool:
    """Whether a terminal session starts: no option asks for a single answer, and there is a terminal."""
    wants_answer = words or settings.raw_ids or settings.batch or settings.dry_run or settings.json or settings.raw
    wants_answer = wants_answer or settings.tool_result or settings.wants_code
    return not wants_answer and environment.stdin.isatty() and environment.stdout.isatty()


def _exit_by_signal(number: int, _frame: object) -> NoReturn:
    """Exit on SIGTERM and SIGHUP: engines are closed, messages stored, unfinished files removed.

    Raises:
        SystemExit: always.
    """
    raise SystemExit(interrupts.SIGNAL_CODES + number)


def _discard_unwritable(environment: Environment) -> None:
    """Discard output that stdout does not take, so that the interpreter does not try again and complain at the end."""
    try:
        environment.stdout.flush()
    except OSError:
        discard_output(environment.stdout)


def _file_error(error: OSError) -> ChatError:
    from chat.errors import FileError

    place = error.filename or "cannot read or write"
    return FileError(f"{place}: {error.strerror or error}")


def _report(error: ChatError, environment: Environment, tracebacks: _Tracebacks) -> int:
    if tracebacks.shown and not isinstance(error, UsageError):
        import traceback

        traceback.print_exception(error, file=environment.stderr)
    environment.report(error)
    return error.exit_code
