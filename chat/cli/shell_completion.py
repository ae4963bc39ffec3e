"""Completion scripts for shells."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from chat.cli.powershell_completion import powershell

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from chat.cli.command_tree import CommandSpec, FlagSpec

PROGRAM = "mistral-chat"
SHORT = "mchat"  # the same program
USAGE = """\
Usage: mistral-chat completion bash|zsh|fish|powershell

Print completion for a shell. A line in its start file loads it:

  ~/.bashrc                    eval "$(mistral-chat completion bash)"
  ~/.zshrc                     eval "$(mistral-chat completion zsh)"
  ~/.config/fish/config.fish   mistral-chat completion fish | source
  $PROFILE (PowerShell)        mistral-chat completion powershell | Out-String | Invoke-Expression
"""

BASH = """\
_mistral_chat() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} path= words= files= values= parts= name=
    local takes= names= flag_names= title=
    local -a titled=()
    case ${{COMP_WORDS[1]}} in {commands})
        [ "$COMP_CWORD" -gt 1 ] && path=${{COMP_WORDS[1]}}
        [ "$COMP_CWORD" -gt 2 ] && case "$path ${{COMP_WORDS[2]}}" in
            {paths}) path="$path ${{COMP_WORDS[2]}}" ;;
        esac ;;
    esac
    case $path in
{cases}
    esac
    case " $files " in *" $before "*) names= ;; esac
    case $word in -*) names= ;; esac
    names=${{flag_names:-$names}}
    if [ -n "$names" ]; then
        compopt -o filenames
        while IFS=$'\\t' read -r name title; do
            if [[ $name == "$word"* ]]; then COMPREPLY+=( "$name" )
            elif [[ -n $title && $title == "$word"* ]]; then titled+=( "$name" ); fi
        done < <("${{COMP_WORDS[0]}}" completion "$names" -- "${{COMP_WORDS[@]}}" 2>/dev/null)
        [ ${{#COMPREPLY[@]}} = 0 ] && [ ${{#titled[@]}} = 1 ] && COMPREPLY=( "${{titled[@]}}" )
    fi
    case " $files " in *" $before "*)
        compopt -o filenames
        COMPREPLY+=( $(compgen -f -- "$word") )
        return ;;
    esac
    [ -n "$names" ] && return
    [ -z "$values" ] && case " $takes " in *" $before "*) return ;; esac
    case $word in -*) ;; *)
        compopt -o default
        COMPREPLY=( $(compgen -W "${{values:-$parts}}" -- "$word") )
        return ;;
    esac
    COMPREPLY=( $(compgen -W "$words" -- "$word") )
}}
complete -F _mistral_chat {program} {short}
"""
ZSH = """\
#compdef {program} {short}

_mistral_chat_names() {{
    local -a found=(${{(f)"$($words[1] completion $1 -- $words 2>/dev/null)"}})
    local -a names=(${{found%%$'\\t'*}}) shown=(${{found/$'\\t'/  }})
    compadd -l -d shown -a names
    [[ -n $2 ]] && _files
}}
{functions}
if [ "$funcstack[1]" = "_{program}" ]; then _mistral_chat "$@"; else compdef _mistral_chat {program} {short}; fi
"""


def bash(flags: Sequence[FlagSpec], commands: Sequence[CommandSpec]) -> str:
    """A script for `eval "$(mistral-chat completion bash)"`."""
    cases = [_bash_case("", flags, [command.name for command in commands], "")]
    paths = []
    for command in commands:
        cases.append(_bash_case(command.name, command.flags, [part.name for part in command.parts], ""))
        cases += [_bash_case(f"{command.name} {part.name}", part.flags, [], part.names) for part in command.parts]
        paths += [f'"{command.name} {part.name}"' for part in command.parts]
    return BASH.format(
        short=SHORT,
        program=PROGRAM,
        commands="|".join(command.name for command in commands),
        paths="|".join(paths),
        cases="\n".join(cases),
    )


def _bash_case(path: str, flags: Sequence[FlagSpec], parts: Sequence[str], names: str) -> str:
    takes = " ".join(spelling for flag in flags if flag.takes_value for spelling in flag.spellings)
    words = " ".join(spelling for flag in flags for spelling in flag.spellings)
    files = " ".join(spelling for flag in flags if flag.is_file for spelling in flag.spellings)
    values = "".join(
        f" {'|'.join(flag.spellings)}) values='{' '.join(flag.values)}' flag_names='{flag.names}' ;;"
        for flag in flags
        if flag.values or flag.names
    )
    chosen = f" case $before in{values} esac;" if values else ""
    fixed = f"words='{words}' files='{files}' takes='{takes}' parts='{' '.join(parts)}' names='{names}'"
    return f"        '{path}') {fixed};{chosen} ;;"


def zsh(flags: Sequence[FlagSpec], commands: Sequence[CommandSpec]) -> str:
    """A script for a file `_mistral-chat` on `$fpath`, or for `eval`."""
    functions = [_zsh_function("", flags, commands, "")]
    for command in commands:
        functions.append(_zsh_function(command.name, command.flags, command.parts, ""))
        functions += [
            _zsh_function(f"{command.name}_{part.name}", part.flags, (), part.names) for part in command.parts
        ]
    return ZSH.format(program=PROGRAM, short=SHORT, functions="\n".join(functions))


def _zsh_function(path: str, flags: Sequence[FlagSpec], parts: Sequence[CommandSpec], names: str) -> str:
    name = f"_mistral_chat_{path}".rstrip("_").replace("-", "_")
    specs = " \\\n        ".join(_zsh_flag(flag) for flag in flags)
    if not parts:
        rest = f"'*:name: _mistral_chat_names {names}'" if names else "'*:file:_files'"
        return f"{name}() {{\n    _arguments -s \\\n        {specs} \\\n        {rest}\n}}\n"
    rows = " ".join(f"'{part.name}:{_zsh_words(part.help)}'" for part in parts)
    return f"""{name}() {{
    local -a parts=({rows})
    if (( CURRENT > 2 )) && (( $+functions[{name}_${{words[2]//-/_}}] )); then
        local part=${{words[2]//-/_}}; shift words; (( CURRENT-- )); {name}_$part; return
    fi
    (( CURRENT == 2 )) && [[ $PREFIX != -* ]] && _describe command parts
    _arguments -s \\
        {specs} \\
        '*:file:_files'
}}
"""


def _zsh_flag(flag: FlagSpec) -> str:
    value = ""
    if flag.takes_value:
        action = "_files" if flag.is_file else f"({' '.join(flag.values)})" if flag.values else " "
        if flag.names:
            action = f" _mistral_chat_names {flag.names}{' files' if flag.is_file else ''}"
        value = f":{_zsh_words(flag.metavar or 'value')}:{action}"
    return " ".join(f"'*{spelling}[{_zsh_words(flag.help)}]{value}'" for spelling in flag.spellings)


def _zsh_words(text: str) -> str:
    return re.sub(r"([\[\]:\\])", r"\\\1", text.replace("'", "’"))


def fish(flags: Sequence[FlagSpec], commands: Sequence[CommandSpec]) -> str:
    """A script for `mistral-chat completion fish | source`."""
    names = " ".join(command.name for command in commands)
    lines = [_fish_flag(flag, f"not __fish_seen_subcommand_from {names}") for flag in flags]
    for command in commands:
        lines.append(f"complete -c {PROGRAM} -n __fish_use_subcommand -a {command.name} -d {_quoted(command.help)}")
        seen = f"__fish_seen_subcommand_from {command.name}"
        parts = " ".join(part.name for part in command.parts)
        lines += [_fish_flag(flag, seen) for flag in command.flags]
        for part in command.parts:
            alone = f"{seen}; and not __fish_seen_subcommand_from {parts}"
            lines.append(f"complete -c {PROGRAM} -f -n {_quoted(alone)} -a {part.name} -d {_quoted(part.help)}")
            both = f"{seen}; and __fish_seen_subcommand_from {part.name}"
            lines += [_fish_flag(flag, both) for flag in part.flags]
            if part.names:
                lines.append(f"complete -c {PROGRAM} -f -n {_quoted(both)} -a {_quoted(_fish_names(part.names))}")
    lines.append(f"complete -c {SHORT} -w {PROGRAM}")
    return "\n".join(lines) + "\n"


def _fish_flag(flag: FlagSpec, condition: str) -> str:
    spellings = " ".join(
        f"-l {spelling[2:]}" if spelling.startswith("--") else f"-s {spelling[1:]}" for spelling in flag.spellings
    )
    value = " -r" + ("" if flag.is_file else " -f") if flag.takes_value else " -f"
    offered = _fish_names(flag.names) if flag.names else " ".join(flag.values)
    values = f" -a {_quoted(offered)}" if offered else ""
    return f"complete -c {PROGRAM} -n {_quoted(condition)} {spellings}{value}{values} -d {_quoted(flag.help)}"


def _fish_names(kind: str) -> str:
    return f"({PROGRAM} completion {kind} -- (commandline -opc) 2>/dev/null)"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: Mapping[str, Callable[[Sequence[FlagSpec], Sequence[CommandSpec]], str]] = {
    "bash": bash,
    "zsh": zsh,
    "fish": fish,
    "powershell": powershell,
}
