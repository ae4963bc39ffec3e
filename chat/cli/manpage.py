"""The man pages in roff, made from the same specs as `--help`."""

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
# Environment variables besides those of the options; what a program such as a terminal sets for all others is left out
VARIABLES = {
    "MISTRAL_CHAT_HOME": "A folder for all files of the program, in the folders config, data and cache.",
    "MISTRAL_CHAT_REMOTE_KEY": "The key that goes to a server of --remote.",
    "MISTRAL_API_KEY": "The key for api.mistral.ai, where MISTRAL_CHAT_REMOTE_KEY is not set.",
    "OPENAI_API_KEY": "The key for api.openai.com, where MISTRAL_CHAT_REMOTE_KEY is not set.",
    "HTTPS_PROXY": "The proxy for connections to servers; HTTP_PROXY and ALL_PROXY count, too.",
    "NO_PROXY": "Hosts that are asked without a proxy.",
    "SSL_CERT_FILE": "The certificates of authorities that are trusted, in PEM.",
    "HF_TOKEN": "The token for the Hugging Face hub.",
    "HF_ENDPOINT": "The address of another hub.",
    "HF_HOME": "The folder of the hub's files.",
    "HF_HUB_CACHE": "The hub's cache; by default the folder hub below HF_HOME.",
    "HF_HUB_OFFLINE": "1 forbids asking the hub.",
    "OLLAMA_MODELS": "Where Ollama keeps its models.",
    "LLAMA_CACHE": "Where llama.cpp keeps its downloads.",
    "NO_COLOR": "Any value turns colours off.",
    "COLUMNS": "The width of the output, instead of the terminal's.",
    "VISUAL": "The editor of Ctrl+G and of the edit commands; without it EDITOR, without both vi.",
    "MANPAGER": "What --man shows the manual with where there is no man; without it PAGER.",
}
# The files of the program: the folder's kind, the name in it, and what it holds
FILES = (
    ("config", "config.toml", "The settings; `mistral-chat config path` prints where it is."),
    ("config", "templates/", "Your own prompt templates, a TOML file each."),
    ("data", "history.db", "All sessions, as an SQLite database."),
    ("data", "models/", "Models that were pulled or converted by a pull, as GGUF files."),
    ("data", "last-model.json", "The model of the last session."),
    ("cache", "states/", "What the engine had read at the end of a session; may be deleted at any time."),
)
EXAMPLES = (
    'mistral-chat -m model.gguf "Why is the sky blue?"',
    "git diff --cached | mistral-chat -t commit",
    "cat mail.txt | mistral-chat --schema 'sender, amount float' 'extract the order'",
    "mistral-chat --batch questions.jsonl -o answers.jsonl",
    "mistral-chat convert ./Mistral-7B-Instruct-v0.3 -t Q4_K_M",
)


def man_page(version: str, flags: Sequence[FlagSpec], commands: Sequence[CommandSpec]) -> str:
    """The whole manual in one page in roff, for `man -l`."""
    return _page(version, flags, [_command(command) for command in commands])


def man_pages(version: str, flags: Sequence[FlagSpec], commands: Sequence[CommandSpec]) -> dict[str, str]:
    """The pages that are installed, in roff, by the names of their files: one for the program, and one per command."""
    pages = [(f"mistral-chat-{command.name}", command) for command in commands]
    short = [f".TP\n.B mistral\\-chat {_escaped(command.name)}\n{_escaped(command.help)}" for command in commands]
    others = ",\n".join(rf".BR {_escaped(name)} (1)" for name, _ in pages)
    main = _page(version, flags, short) + f".SH SEE ALSO\n{others}\n"
    return {
        "mistral-chat.1": main,
        "mchat.1": ".so man1/mistral-chat.1\n",
        **{f"{name}.1": _command_page(version, name, command) for name, command in pages},
    }


def _page(version: str, flags: Sequence[FlagSpec], commands: Sequence[str]) -> str:
    return "\n".join(
        [
            _title("mistral-chat", version),
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
            *commands,
            *_exit_status(),
            ".SH ENVIRONMENT",
            r"Each persistent option is also a variable, its name in capitals after MISTRAL_CHAT_, and a key of the",
            r"configuration file.",
            *(f".TP\n.B {name}\n{_escaped(words)}" for name, words in VARIABLES.items()),
            ".SH FILES",
            r"\fBmistral\-chat doctor\fR prints the folders.",
            *(f".TP\n.B {_escaped(name)} in the {kind} folder\n{_escaped(words)}" for kind, name, words in FILES),
            ".SH EXAMPLES",
            *(f".PP\n.nf\n{_escaped(example)}\n.fi" for example in EXAMPLES),
            "",
        ]
    )


def _command_page(version: str, name: str, command: CommandSpec) -> str:
    full = f"mistral-chat {command.name}"
    usages = [f"{full} {part.name} [OPTIONS] {part.arguments}".rstrip() for part in command.parts]
    synopsis = "\n.br\n".join(map(_escaped, usages or [f"{full} [OPTIONS] {command.arguments}".rstrip()]))
    summary = command.help.rstrip(".")
    flags = [_item(flag) for flag in command.flags]
    parts = [_command(part, full) for part in command.parts]
    return "\n".join(
        [
            _title(name, version),
            ".SH NAME",
            rf"{_escaped(name)} \- {_escaped(summary[:1].lower() + summary[1:])}",
            ".SH SYNOPSIS",
            synopsis,
            ".SH DESCRIPTION",
            _escaped(command.help),
            *([".SH OPTIONS", *flags] if flags else []),
            *([".SH COMMANDS", *parts] if parts else []),
            *_exit_status(),
            ".SH SEE ALSO",
            r".BR mistral\-chat (1)",
            "",
        ]
    )


def _title(name: str, version: str) -> str:
    return f'.TH {_escaped(name.upper())} 1 "" "mistral\\-chat {version}"'


def _exit_status() -> list[str]:
    return [".SH EXIT STATUS", *(f".TP\n.B {int(code)}\n{_escaped(words)}" for code, words in EXIT_WORDS.items())]


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
