"""Completion for PowerShell: the script hands the line over, and what fits is found here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from chat.cli.offered_names import REMOTE_MODELS, offered_names, server_model_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from chat.cli.command_tree import CommandSpec, FlagSpec
    from chat.system.environment import Environment

OFFERS = "offers"  # what the script asks for
# Variables: arguments would lose quotes, and Windows PowerShell empty ones
LINE, WORD = "_MISTRAL_CHAT_LINE", "_MISTRAL_CHAT_WORD"
POWERSHELL = f"""\
Register-ArgumentCompleter -Native -CommandName mistral-chat, mchat -ScriptBlock {{
    param($word, $line, $position)
    $encoding = [Console]::OutputEncoding
    $text = $line.ToString()
    $end = $position - $line.Extent.StartOffset
    if ($end -lt $text.Length) {{ $text = $text.Substring(0, $end) }}
    try {{
        [Console]::OutputEncoding = [Text.UTF8Encoding]::new()
        $env:{LINE} = $text
        $env:{WORD} = $word
        & $line.GetCommandName() completion {OFFERS} 2>$null | ForEach-Object {{
            $offer, $title = $_ -split "`t", 2
            [System.Management.Automation.CompletionResult]::new($offer, $offer, 'ParameterValue', $title)
        }}
    }} finally {{
        $env:{LINE} = $null
        $env:{WORD} = $null
        [Console]::OutputEncoding = $encoding
    }}
}}
"""
_ONE_WORD = re.compile(r"""(?:'(?:[^']|'')*'?|"[^"]*"?|[^\s'"])+""")
_PLAIN = re.compile(r"[\w./:\\+=-]+", re.ASCII)
_QUOTES = re.compile("(['\u2018\u2019\u201a\u201b])")  # all of which end a word in single quotes


def powershell(_flags: Sequence[FlagSpec], _commands: Sequence[CommandSpec]) -> str:
    """A script that asks for what fits a line."""
    return POWERSHELL


def offers(flags: Sequence[FlagSpec], commands: Sequence[CommandSpec], environment: Environment) -> Iterable[str]:
    """What fits the line that the script handed over: the text, quoted where needed, a tab, and what it is.

    PowerShell offers files where nothing fits.

    Args:
        flags: of the program without a command.
        commands: all of them.
    """
    line, unfinished = (environment.variables.get(name, "") for name in (LINE, WORD))
    words = [_unquoted(word) for word in _ONE_WORD.findall(line)][1:]
    if unfinished:
        words = words[:-1]
    word = _unquoted(unfinished).casefold()
    parts, names = commands, ""
    for each in words[:2]:
        found = next((part for part in parts if part.name == each), None)
        if found is None:
            break
        flags, parts, names = found.flags, found.parts, found.names
    before = next((flag for flag in flags if flag.takes_value and words and words[-1] in flag.spellings), None)
    fixed = [(part.name, part.help) for part in parts]
    if before is not None:
        fixed, names = [(value, value) for value in before.values], before.names
    elif word.startswith("-"):
        fixed, names = [(spelling, flag.help or spelling) for flag in flags for spelling in flag.spellings], ""
    for text, title in fixed:
        if text.casefold().startswith(word):
            yield f"{text}\t{title}"
    for text, _, title in (name.partition("\t") for name in _stored(names, words, environment)):
        if text.casefold().startswith(word) or (title and title.casefold().startswith(word)):
            yield f"{_quoted(text)}\t{title or text}"


def _stored(kind: str, words: Sequence[str], environment: Environment) -> Sequence[str]:
    if kind == REMOTE_MODELS:
        return [name for name in server_model_names(words, environment) if name.isprintable()]
    return offered_names(kind, environment) if kind else ()


def _unquoted(word: str) -> str:
    """A word without its quotes, of which the last may not be typed yet."""
    if word.startswith("'"):
        return word[1:].removesuffix("'").replace("''", "'")
    return word.removeprefix('"').removesuffix('"')


def _quoted(word: str) -> str:
    """A word that PowerShell takes as it is."""
    return word if _PLAIN.fullmatch(word) else "'" + _QUOTES.sub(r"\1\1", word) + "'"
