"""Ask a user who has no model which one to use."""

from __future__ import annotations

import subprocess
from textwrap import fill
from typing import TYPE_CHECKING

from chat.errors import ModelError
from chat.guide import NAME as GUIDE
from chat.guide.backend import guide_notice
from chat.hub.names import DEFAULT
from chat.system.paths import expand_path
from chat.system.python_child import python_child
from chat.system.terminal_text import escape_line, size_text

if TYPE_CHECKING:
    from chat.system.environment import Environment


def choose_model(environment: Environment) -> str:
    """Ask for a model, and download it if the user wants that.

    Returns:
        The name of a model that is here.

    Raises:
        EOFError: stdin has ended.
        ModelError: the download failed; it has printed the reason.
    """
    environment.print("There is no model here yet.")
    _print_filled("  1  talk to the guide, a small model inside this program that explains it", environment, indent=5)
    sizes = f"{size_text(DEFAULT.download_bytes)}, kept as {size_text(DEFAULT.q4_bytes)}"
    _print_filled(f"  2  download {DEFAULT.name}: {sizes}", environment, indent=5)
    _print_filled("  3  use a GGUF file", environment, indent=5)
    while True:
        match environment.ask("Choice [1]: ").strip():
            case "" | "1":
                _print_filled(f"note: {guide_notice()}", environment)
                return GUIDE
            case "2":
                return _download()
            case "3":
                path = expand_path(environment.ask("File: ").strip())
                if path.is_file():
                    return str(path)
                environment.print(f"no file at {escape_line(str(path))}")
            case _:
                environment.print("type 1, 2 or 3; questions come after the choice")


def _print_filled(text: str, environment: Environment, indent: int = 0) -> None:
    """Print text in lines that break between words only, further lines indented."""
    width = max(environment.columns() - 1, 1)
    environment.print(fill(text, width, subsequent_indent=" " * indent, break_on_hyphens=False))


def _download() -> str:
    if subprocess.run(python_child("chat", "models", "pull", DEFAULT.name), check=False).returncode:
        raise ModelError("there is still no model", hint=f"`mistral-chat -m {GUIDE}` talks to the guide meanwhile")
    return DEFAULT.name
