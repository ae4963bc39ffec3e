"""The options, the commands, the exit codes and the environment variables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.cli.command_tree import OTHER_FLAGS, commands
from chat.cli.main import COMMANDS
from chat.cli.manpage import EXIT_WORDS, VARIABLES
from chat.config.option_types import option_specs
from chat.config.options import MOST, Group
from chat.config.resolve import ENVIRONMENT_PREFIX
from docs.generate.markdown import table, text

if TYPE_CHECKING:
    from chat.cli.command_tree import CommandSpec, FlagSpec
    from chat.config.option_types import OptionSpec

_OPTIONS = """\
# Options

The options of `mistral-chat` itself. Most of them are also [variables](variables.md) and keys of the
[settings file](settings-file.md); of those a flag holds over the variable, the variable over a preset, and a preset
over the file. Flags of which one would do nothing are refused. The commands have [options of their own](commands.md).
"""
_COMMANDS = """\
# Commands

`mistral-chat COMMAND --help` prints the same, and so do the manual pages (`man mistral-chat-convert`). `mistral-chat
--man` shows the whole manual in one page, also where no pages are installed; in a pipe it is the page's source. The
first word is a command only if it is one of these; after `--` it is the beginning of a question.
"""
_EXIT_CODES = """\
# Exit codes

Errors are one sentence on stderr, with a hint on the next line where there is a way out. The numbers do not change
between versions.
"""
_VARIABLES = """\
# Environment variables

Every option below is set by a variable, too. A switch takes `on` or `off`. `mistral-chat config show` says where each
value comes from.
"""


def options_page() -> str:
    """Every option of the program, by the groups of `--help`."""
    parts = [_OPTIONS]
    for group in Group:
        parts.append(f"## {group.value}\n")
        parts += [_option(spec) for spec in option_specs().values() if spec.option.group is group]
    parts.append("## Pages\n\n" + "\n".join(f"- `{', '.join(flags)}`: {words}" for flags, words in OTHER_FLAGS.items()))
    return "\n".join(parts) + "\n"


def commands_page() -> str:
    """Every command with its subcommands and options."""
    return "\n".join([_COMMANDS, *(_command(each, "mistral-chat", 2) for each in commands(COMMANDS))])


def exit_codes_page() -> str:
    """The table of exit codes."""
    rows = [(str(int(exit_code)), text(words)) for exit_code, words in EXIT_WORDS.items()]
    return f"{_EXIT_CODES}\n{table(('code', 'meaning'), rows)}"


def variables_page() -> str:
    """The variables of the options, and the others."""
    own = [
        (f"`{_variable(spec)}`", f"[`{spec.option.flag}`](options.md#{spec.name})")
        for spec in option_specs().values()
        if spec.option.persistent
    ]
    others = [(f"`{name}`", text(words)) for name, words in VARIABLES.items()]
    return (
        f"{_VARIABLES}\n{table(('variable', 'option'), own)}\n"
        f"## Others\n\n{table(('variable', 'meaning'), others)}\n"
        "No child process, and no command that you run, gets a variable that holds a key.\n"
    )


def _option(spec: OptionSpec) -> str:
    option = spec.option
    value = option.metavar or "|".join(spec.choices)
    spellings = ", ".join(option.flags) + (f" {value}" if value else "")
    return f"### `{spellings}` {{ #{spec.name} }}\n\n{text(option.help)}\n\n{_facts(spec)}\n"


def _facts(spec: OptionSpec) -> str:
    option, facts = spec.option, []
    if spec.default not in (None, (), False, ""):
        facts.append(f"default `{spec.default}`")
    if option.lowest is not None and option.highest is not None:
        facts.append(f"at least {option.lowest}" if option.highest >= MOST else f"{option.lowest} to {option.highest}")
    if option.needs:
        facts.append("with " + " or ".join(f"`{option_specs()[name].option.flag}`" for name in option.needs))
    facts.append(f"variable `{_variable(spec)}`" if option.persistent else "on the command line only")
    if option.live:
        facts.append(f"in a session `/set {spec.name}`")
    return "*" + " · ".join(facts) + "*{ .facts }"


def _variable(spec: OptionSpec) -> str:
    return ENVIRONMENT_PREFIX + spec.name.upper()


def _command(command: CommandSpec, before: str, level: int) -> str:
    name = f"{before} {command.name}"
    anchor = name.removeprefix("mistral-chat ").replace(" ", "-")
    usage = name if command.parts else f"{name} [OPTIONS] {command.arguments}".rstrip()
    lines = [f"{'#' * level} {name} {{ #{anchor} }}", "", text(command.help), ""]
    if not command.parts:
        lines += ["```text", usage, "```", ""]
    flags = [flag for flag in command.flags if "--help" not in flag.spellings]
    if flags:
        lines.append(table(("option", "what it does"), [_flag(flag) for flag in flags]))
    return "\n".join([*lines, *(_command(part, name, level + 1) for part in command.parts)])


def _flag(flag: FlagSpec) -> tuple[str, str]:
    value = f" {flag.metavar}" if flag.takes_value and flag.metavar else ""
    return f"`{', '.join(flag.spellings)}{value}`", text(flag.help)
