"""Flags -> settings -> one room. The only place that catches errors and turns them into sentences and exit codes."""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from chat import __version__
from chat.command_line import read_flags
from chat.definitions import definitions
from chat.ground import ctrl_c
from chat.ground.errors import ChatError, ExitCode, UsageError
from chat.ground.streams import open_missing, say, silence_stdout, take_any_letter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.layers import Layered

COMMANDS: dict[str, tuple[str, str]] = {  # name -> (module that holds `app`, what it does)
    "convert": ("convert.cli", "Turn a checkpoint into a 4- or 8-bit GGUF."),
    "models": ("chat.models.cli", "List, fetch, show and remove models."),
    "sessions": ("chat.sessions.cli", "List, show, search, export, rename and remove sessions."),
    "config": ("chat.config_cli", "Show and edit the settings file."),
    "templates": ("chat.templates.cli", "List, show and edit prompt templates."),
    "doctor": ("chat.doctor.cli", "Say what works here, what would be chosen and why."),
    "bench": ("chat.bench.cli", "Measure a model on this machine."),
}


def main() -> NoReturn:
    """The command `mistral-chat`."""
    for name in (signal.SIGTERM, getattr(signal, "SIGHUP", None)):
        if name is not None:
            signal.signal(name, _leave)
    open_missing()
    take_any_letter()
    try:
        ctrl_c.raises()
        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while a fault was being told
        code = ExitCode.INTERRUPTED
    ctrl_c.leaves_at_once()
    if code == ExitCode.INTERRUPTED:
        ctrl_c.end()
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Do what the arguments say; every fault becomes one sentence on stderr and an exit code."""
    verbose = "-v" in arguments or "--verbose" in arguments
    try:
        code = _dispatch(list(arguments))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        silence_stdout()
        return ExitCode.PIPE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except ChatError as error:
        return _report(error, verbose)
    except OSError as error:
        _drop_unwritable()
        return _report(_file_error(error), verbose)
    except Exception as error:
        if verbose:
            raise
        return _report(ChatError(f"unexpected: {type(error).__name__}: {error}", hint="`-v` shows where"), verbose)


def _dispatch(arguments: list[str]) -> int:
    name, before = _first_word(arguments)
    if name in COMMANDS:
        if before:
            raise UsageError(
                f"options of `{name}` come after its name", hint=f"`mistral-chat -- {name} ...` asks a question instead"
            )
        return _call(import_module(COMMANDS[name][0]).app, arguments[1:], f"mistral-chat {name}")
    if name == "completion":
        return _print_completion(arguments[1:])
    if before_end(arguments, "-h", "--help"):
        from chat.help import help_text

        rows = {command: words for command, (_, words) in COMMANDS.items()}
        print(help_text({**rows, "completion": "Print completion for bash, zsh or fish."}), end="")
        return ExitCode.DONE
    if before_end(arguments, "--man"):
        return _print_manual()
    if before_end(arguments, "-V", "--version"):
        print(f"mistral-chat {__version__}")
        return ExitCode.DONE
    line = read_flags(arguments)
    return _enter(line.words, line.flags)


def _print_manual() -> int:
    from chat.command_tree import commands, main_flags
    from chat.manual import man_page

    print(man_page(__version__, main_flags(), commands(COMMANDS)), end="")
    return ExitCode.DONE


def _print_completion(arguments: Sequence[str]) -> int:
    from chat.command_tree import commands, main_flags
    from chat.completion import SHELLS, USAGE
    from chat.offered_names import NAMES, offered

    if before_end(arguments, "-h", "--help"):
        print(USAGE, end="")
        return ExitCode.DONE
    if len(arguments) == 1 and arguments[0] in NAMES:  # the scripts ask for these
        print("".join(f"{name}\n" for name in offered(arguments[0])), end="")
        return ExitCode.DONE
    if len(arguments) != 1 or arguments[0] not in SHELLS:
        raise UsageError("`completion` needs a shell", hint=f"`mistral-chat completion {'|'.join(SHELLS)}`")
    print(SHELLS[arguments[0]](main_flags(), commands(COMMANDS)), end="")
    return ExitCode.DONE


def before_end(arguments: Sequence[str], *flags: str) -> bool:
    """Whether one of the flags stands before `--`."""
    head = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return any(flag in head for flag in flags)


def _first_word(arguments: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """The first argument that is no option, and the options before it."""
    takes_value = {flag: each.kind is not bool for each in definitions().values() for flag in each.option.flags}
    at = 0
    while at < len(arguments):
        word = arguments[at]
        if word == "--":
            return None, ()
        if word in takes_value:
            at += 2 if takes_value[word] else 1
        elif word.startswith("-") and word != "-":
            at += 1
        else:
            return word, arguments[:at]
    return None, ()


def _call(app: Any, arguments: Sequence[str], name: str) -> int:
    """Run a Typer app; what it finds wrong with the arguments becomes a UsageError."""
    import typer.core
    from typer.exceptions import TyperException

    command = typer.main.get_command(app)
    if isinstance(command, typer.core.TyperGroup) and not arguments:
        arguments = ["--help"]
    try:  # not `command.main`: it turns a broken pipe into exit code 1
        with command.make_context(name, list(arguments)) as context:
            result = command.invoke(context)
    except typer.Exit as leaving:
        return leaving.exit_code
    except typer.Abort:
        return ExitCode.INTERRUPTED
    except TyperException as error:
        message = error.format_message().rstrip(".").replace("Value error, ", "")  # a word of the library's own
        raise UsageError(message[:1].lower() + message[1:], hint=f"`{name} --help` shows what there is") from error
    return int(result or ExitCode.DONE)


def _enter(words: Sequence[str], flags: dict[str, Any]) -> int:
    """Settle the settings and go to the session or the one shot."""
    from chat.layers import layer

    layered = layer(flags, file=_config_file(), template=_template_settings(flags))
    if _is_session(words, layered):
        from chat.terminal.modes import Modes

        with Modes().hushed() as modes:
            from chat.opening import enter_session

            return enter_session(layered, modes)
    from chat.oneshot import answer_once

    return answer_once(words, layered)


def _template_settings(flags: dict[str, Any]) -> dict[str, Any]:
    if "template" not in flags:
        return {}
    from chat.templates import shelf

    return dict(shelf.load(flags["template"]).settings)


def _config_file() -> Path | None:
    """Where the settings file would be; None for a user without a home."""
    from chat.ground.errors import FileError
    from chat.ground.folders import config_folder

    try:
        return config_folder() / "config.toml"
    except FileError:
        return None


def _is_session(words: Sequence[str], layered: Layered) -> bool:
    settings = layered.settings
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
    from chat.ground.errors import FileError

    where = error.filename or "cannot read or write"
    return FileError(f"{where}: {error.strerror or error}")


def _report(error: ChatError, verbose: bool) -> int:
    from chat.ground.visible import visible_line

    if verbose and not isinstance(error, UsageError):
        import traceback

        traceback.print_exception(error)
    say(f"error: {visible_line(error.message)}")
    if error.hint:
        say(f"hint: {visible_line(error.hint)}")
    return error.exit_code
