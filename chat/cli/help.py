"""The page of `--help`, made from the specs of the options without loading a command line library."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from chat.cli.argv import PAGES
from chat.config.option_types import OptionSpec, option_specs
from chat.config.options import Group

if TYPE_CHECKING:
    from collections.abc import Mapping

USAGE = """\
Usage: mistral-chat [OPTIONS] [PROMPT]...
       mistral-chat COMMAND ...
"""
PURPOSE = (
    "Chat with a Mistral model on this machine. On a terminal and without a prompt this is a session; "
    "with a prompt, or text on stdin, it prints one answer and exits."
)
CLOSING = "Each persistent option is also a key of the config file and, as MISTRAL_CHAT_NAME, a variable."
WIDEST = 100
INDENT = 30


def help_text(commands: Mapping[str, str], columns: int) -> str:
    """The whole help page.

    Args:
        commands: what each command does, by name.
        columns: width of the terminal.
    """
    width = max(40, min(columns, WIDEST))
    parts = [USAGE, _filled(PURPOSE, width) + "\n"]
    parts += [_panel(group.value, _rows(group), width) for group in Group]
    parts.append(_panel("Commands", list(commands.items()), width))
    parts.append(_filled(CLOSING, width) + "\n")
    return "\n".join(parts)


def _rows(group: Group) -> list[tuple[str, str]]:
    rows = [(_spelling(spec), described(spec)) for spec in option_specs().values() if spec.option.group is group]
    if group is Group.OUTPUT:
        rows += [
            (", ".join(PAGES["man"]), "Print the man page."),
            (", ".join(PAGES["version"]), "Show the version."),
            (", ".join(PAGES["help"]), "Show this page."),
        ]
    return rows


def _spelling(spec: OptionSpec) -> str:
    """`-m, --model NAME`: the short flag, the long one, and its value; other spellings are not shown."""
    option = spec.option
    short = next((flag for flag in option.flags if not flag.startswith("--")), None)
    value = option.metavar or ("|".join(spec.choices) if spec.choices else "")
    return (f"{short}, " if short else "") + option.flag + (f" {value}" if value else "")


def described(spec: OptionSpec) -> str:
    """What an option does, and its default if it has one."""
    default = spec.default
    if spec.kind is bool or spec.many or not default:
        return spec.option.help
    return f"{spec.option.help} [default: {default}]"


def _panel(title: str, rows: list[tuple[str, str]], width: int) -> str:
    return f"{title}:\n" + "\n".join(_row(left, right, width) for left, right in rows) + "\n"


def _row(left: str, right: str, width: int) -> str:
    indent = INDENT if width >= 70 else 6
    words = textwrap.indent(_filled(right, width - indent), " " * indent)
    head = f"  {left}"
    return head.ljust(indent) + words[indent:] if len(head) + 2 <= indent else f"{head}\n{words}"


def _filled(text: str, width: int) -> str:
    """The text in lines that do not break at the hyphens of `--a-flag`."""
    return textwrap.fill(text, width, break_on_hyphens=False)
