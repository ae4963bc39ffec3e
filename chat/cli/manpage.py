"""The man page in roff, made from the same specs as `--help`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.cli.command_tree import CommandSpec, FlagSpec

DESCRIPTION = """\
Chat with a Mistral model on this machine. On a terminal and without a prompt this is a session; with a prompt, or text
on stdin, it prints one answer and exits: stdout holds the answer and nothing else. A prompt is made of attached files,
then stdin, then the argument, with blank lines between them."""

EXIT_WORDS = {
    ExitCode.DONE: "done",
    ExitCode.UNEXPECTED: "unexpected fault, a failed record of a batch, or a cut answer with --fail-on-length",
    ExitCode.USAGE: "wrong usage",
    ExitCode.MODEL: "the model is missing or unusable",
    ExitCode.MEMORY: "the model does not fit in memory",
    ExitCode.CONTEXT: "the prompt exceeds the context",
    ExitCode.DATA: "bad input data",
    ExitCode.FILE: "a file cannot be read or written",
    ExitCode.ENGINE: "the engine stopped",
    ExitCode.INTERRUPTED: "interrupted",
    ExitCode.PIPE: "the reader closed the pipe",
}
EXAMPLES = (
    'mistral-chat -m model.gguf "Why is the sky blue?"',
    "git diff --cached | mistral-chat -t commit",
    "cat mail.txt | mistral-chat --schema 'sender, amount float' 'extract the order'",
    "mistral-chat --batch questions.jsonl -o answers.jsonl",
    "mistral-chat convert ./Mistral-7B-Instruct-v0.3 -t Q4_K_M",
)


def man_page(version: str, flags: Sequence[FlagSpec], commands: Sequence[CommandSpec]) -> str:
    """The page in roff, for `man -l`."""
    return "\n".join(
        [
            f'.TH MISTRAL\\-CHAT 1 "" "mistral\\-chat {version}"',
            ".SH NAME",
            r"mistral\-chat \- chat with Mistral models on your own machine",
            ".SH SYNOPSIS",
            r".B mistral\-chat",
            "[OPTIONS] [PROMPT]...",
            ".br",
            r".B mistral\-chat",
            "COMMAND ...",
            ".SH DESCRIPTION",
            _escaped(DESCRIPTION),
            ".SH OPTIONS",
            *(_item(flag) for flag in flags),
            ".SH COMMANDS",
            *(_command(command) for command in commands),
            ".SH EXIT STATUS",
            *(f".TP\n.B {int(code)}\n{_escaped(words)}" for code, words in EXIT_WORDS.items()),
            ".SH ENVIRONMENT",
            r"Each persistent option is also a variable, its name in capitals after MISTRAL_CHAT_, and a key of the",
            r"configuration file. NO_COLOR is obeyed. MISTRAL_CHAT_HOME is a folder for all files of the program.",
            ".SH EXAMPLES",
            *(f".PP\n.nf\n{_escaped(example)}\n.fi" for example in EXAMPLES),
            "",
        ]
    )


def _item(flag: FlagSpec) -> str:
    spellings = ", ".join(rf"\fB{_escaped(spelling)}\fR" for spelling in flag.spellings)
    value = rf" \fI{_escaped(flag.metavar)}\fR" if flag.takes_value and flag.metavar else ""
    return f".TP\n{spellings}{value}\n{_escaped(flag.help)}"


def _command(command: CommandSpec, before: str = "mistral-chat") -> str:
    name = f"{before} {command.name}"
    title = rf".SS {_escaped(name)} {_escaped(command.arguments)}".rstrip()
    items = [_item(flag) for flag in command.flags if "--help" not in flag.spellings]
    return "\n".join([title, _escaped(command.help), *items, *(_command(part, name) for part in command.parts)])


def _escaped(text: str) -> str:
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return "\n".join(rf"\&{line}" if line.startswith((".", "'")) else line for line in text.split("\n"))
