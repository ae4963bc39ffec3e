"""`/copy` and `/export`: take answers and conversations out of the session, to the clipboard or a file."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from chat.errors import ChatError, UsageError
from chat.history.export import export_text, format_of_suffix
from chat.rendering.code_blocks import code_blocks
from chat.system.paths import expand_path
from chat.system.secrets import child_environment
from chat.system.terminal_text import counted
from chat.system.text_files import is_stream, write_file
from chat.tui.commands.lookup import unquoted
from chat.tui.transcript import with_pictures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from chat.tui.state import SessionState

OVERWRITE = "--overwrite"
PATHS = "--paths"
OSC_52_BYTES = 74_994  # of text: terminals accept 100,000 bytes of base64 with the sequence around it
PROGRAM_SECONDS = 3.0
PROGRAMS = (  # (variable that must be set, command); None stands for macOS
    (None, ("pbcopy",)),
    ("WAYLAND_DISPLAY", ("wl-copy",)),
    ("DISPLAY", ("xclip", "-selection", "clipboard")),
    ("DISPLAY", ("xsel", "--clipboard", "--input")),
    ("WSL_DISTRO_NAME", ("clip.exe",)),
)


def copy(state: SessionState, argument: str) -> None:
    """`/copy [code|all]`

    Raises:
        UsageError: there is nothing to copy, or the argument is another word.
        ChatError: there is no clipboard.
    """
    text = _text_to_copy(state, argument.strip().lower())
    copied_to = copy_to_clipboards(text, state.screen.write if state.screen.is_live else None)
    if not copied_to:
        raise ChatError("no clipboard is available", hint="`/export FILE` writes a file")
    state.report(f"Copied {counted(len(text), 'character')} to {' and '.join(copied_to)}.")


def _text_to_copy(state: SessionState, part: str) -> str:
    messages = state.session.conversation.messages()
    answers = [message.content for message in messages if message.role == "assistant"]
    if part not in ("", "code", "all"):
        raise UsageError("`/copy` takes `code`, `all`, or nothing for the last answer")
    if not answers:
        raise UsageError("there is no answer to copy yet")
    if part == "all":
        return "\n\n".join(f"**{message.role}**\n\n{with_pictures(message)}" for message in messages) + "\n"
    if part == "code":
        blocks = code_blocks(answers[-1])
        if not blocks:
            raise UsageError("the last answer has no code block")
        return blocks[-1]
    return answers[-1]


def export(state: SessionState, argument: str) -> None:
    """`/export FILE [--paths] [--overwrite]`

    Raises:
        UsageError: nothing was said, the file exists, or its name ends with no known format.
        FileError: the file cannot be written.
    """
    argument, flags = argument.strip(), set()
    while argument.endswith((OVERWRITE, PATHS)):
        flag = OVERWRITE if argument.endswith(OVERWRITE) else PATHS
        flags.add(flag)
        argument = argument.removesuffix(flag).rstrip()
    overwrites = OVERWRITE in flags
    name = unquoted(argument)
    if not name:
        raise UsageError("`/export` needs the name of a file", hint="`/export chat.md`, or .txt, .html, .json, .jsonl")
    if state.session.record is None:
        raise UsageError("nothing has been said yet")
    path = expand_path(name)
    kind, record = format_of_suffix(path), state.session.record
    text = export_text(record, state.session.conversation, kind, with_paths=PATHS in flags)
    if path.exists() and not overwrites and not is_stream(path):
        raise UsageError(f"{path} exists", hint=f"`/export {name} {OVERWRITE}` replaces it")
    write_file(path, text, overwrite=overwrites, waits=False)
    state.report(f"Wrote {path} ({counted(len(text.encode()), 'byte')}).")


def copy_to_clipboards(
    text: str, write: Callable[[str], None] | None, environment: Mapping[str, str] | None = None
) -> list[str]:
    """Copy `text` to every clipboard that can be reached.

    Args:
        text: any text.
        write: writes to the terminal; None without a terminal that knows the escape sequence OSC 52.
        environment: the environment variables; by default those of the process.

    Returns:
        The names of the clipboards; empty if none was reached.
    """
    environment = os.environ if environment is None else environment
    copied_to = []
    command = _command(environment)
    if command and _run(command, text):
        copied_to.append(Path(command[0]).name)
    data = text.encode()
    if write is not None and len(data) <= OSC_52_BYTES:
        write(f"\x1b]52;c;{base64.b64encode(data).decode()}\x07")
        copied_to.append("the terminal (OSC 52)")
    return copied_to


def _command(environment: Mapping[str, str]) -> tuple[str, ...] | None:
    """The first program that is installed and has the display it needs."""
    for variable, (name, *options) in PROGRAMS:
        is_usable = sys.platform == "darwin" if variable is None else environment.get(variable)
        path = shutil.which(name, path=environment.get("PATH")) if is_usable else None
        if path:
            return path, *options
    return None


def _run(command: tuple[str, ...], text: str) -> bool:
    """Give a program the text on stdin; False if it fails."""
    try:
        process = subprocess.run(
            command, input=text.encode(), timeout=PROGRAM_SECONDS, check=False,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=child_environment(),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    return process.returncode == 0
