"""Recognize words that are meant as a command of a session, a shell or another program, not as a question.

Only whole inputs count that are no sentence: `list`, but not `list the planets`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

MOST_WORDS = 4
LEAVING = ("exit", "quit", "bye", "logout", ":q", ":q!", ":qa", ":wq", ":x", "exit()", "quit()")
PROGRAMS = ("ollama", "llm", "llama-cli", "lms", "mistral-chat")
FAMILIES = ("mistral", "mixtral", "ministral", "magistral", "codestral", "devstral", "llama", "qwen", "gemma", "phi",
            "deepseek")  # fmt: skip
_LISTING = ("ls", "list")
_MODELS = ("model", "models")
_RUNNING = ("run", "chat", "use", "load", "switch")
_FETCHING = ("pull", "download", "install", "get")
_PARTS = (*_LISTING, *_FETCHING, "show", "rm", "search", "export", "edit", "path", "init")  # of our commands
_VERBS = (*_LISTING, *_MODELS, *_RUNNING, *_FETCHING, "help", "ps", "show")
_MODEL_NAME = re.compile(rf"(?:{'|'.join(FAMILIES)})(?:[-:.\d]\S*)?|\S+:(?:latest|\d[\d.x]*[bm]\S*)|\S+\.gguf|hf:\S+")


@dataclass(frozen=True)
class _Meaning:
    """What words mean: commands of a session, and arguments of `mistral-chat` in a shell."""

    in_session: tuple[str, ...]
    in_shell: tuple[str, ...]


_LEAVE = _Meaning(("/bye",), ("",))
_CLEAR = _Meaning(("/clear",), ("",))
_HELP = _Meaning(("/help",), ("--help",))
_MODEL_LIST = _Meaning(("/model",), ("models list",))
_SESSION_LIST = _Meaning(("/sessions",), ("sessions list",))
_ANY_LIST = _Meaning(("/model", "/sessions"), ("models list", "sessions list"))
_WORDS = {
    **dict.fromkeys(LEAVING, _LEAVE),
    **dict.fromkeys(("clear", "cls"), _CLEAR),
    **dict.fromkeys(("help", "?", "--help", "-h", "man"), _HELP),
    **dict.fromkeys((*_MODELS, "ps"), _MODEL_LIST),
    **dict.fromkeys(("sessions", "history"), _SESSION_LIST),
    **dict.fromkeys(_LISTING, _ANY_LIST),
}


def meant_in_session(text: str) -> tuple[str, ...]:
    """The slash commands that a message was probably meant as; none for a message."""
    found = _meaning(text.lower().split()) if len(text) < 200 else None
    return found.in_session if found else ()


def meant_in_shell(words: Sequence[str], commands: Collection[str]) -> tuple[str, ...]:
    """The command lines that the arguments were probably meant as; none for a question.

    Args:
        words: the arguments that are no options. One with a space in it was quoted, and is a question.
        commands: the names of the program's commands.
    """
    if not 0 < len(words) <= MOST_WORDS or any(word.split() != [word] for word in words):
        return ()
    first, *rest = [word.lower() for word in words]
    if found := _meaning([first.removeprefix("/") or first, *rest]):
        return tuple(f"mistral-chat {arguments}".strip() for arguments in found.in_shell)
    if not (rest[0] in _PARTS if rest else len(first) > len("model")):
        return ()
    from difflib import get_close_matches

    near = get_close_matches(first, commands, n=1, cutoff=0.8)
    return (" ".join(["mistral-chat", near[0], *words[1:]]),) if near else ()


def _meaning(words: list[str]) -> _Meaning | None:
    """What words in lower case mean."""
    if len(words) > 1 and words[0] in PROGRAMS and words[1] in _VERBS:
        words = words[1:]
    if len(words) == 1:
        return _WORDS.get(words[0])
    return _pair(*words) if len(words) == 2 else None


def _pair(first: str, second: str) -> _Meaning | None:
    kinds = {first, second}
    if kinds & {*_LISTING} and kinds & {*_MODELS}:
        return _MODEL_LIST
    if kinds & {*_LISTING} and kinds & {"session", "sessions"}:
        return _SESSION_LIST
    if first == "help" and second in (*_MODELS, "sessions", "commands"):
        return _HELP
    if first not in (*_RUNNING, *_FETCHING, "show") or not _is_model(second):
        return None
    if first == "show":
        return _Meaning(("/model info",), (f"models show {second}",))
    return _Meaning((f"/model {second}",), (f"-m {second}" if first in _RUNNING else f"models pull {second}",))


def _is_model(word: str) -> bool:
    from chat.hub.names import find_official

    return _MODEL_NAME.fullmatch(word) is not None or find_official(word) is not None
