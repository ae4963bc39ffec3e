"""Ask a person who has no model which one it is to be. Knows the catalogue and the guide, not sessions."""

from __future__ import annotations

import shutil
import subprocess
from textwrap import fill

from chat.errors import ModelError
from chat.guide import NAME as GUIDE
from chat.guide.notice import GUIDE_NOTICE
from chat.hub.catalogue import DEFAULT
from chat.system.paths import expand_path
from chat.system.python_child import python_child
from chat.system.terminal_text import escape_line
from chat.system.units import size_text


def choose_model() -> str:
    """The name of a model that is here, after asking; a download happens on the way.

    Raises:
        EOFError: the person leaves.
        ModelError: the download failed; it has said why.
    """
    print("There is no model here yet.")
    _tell("  1  talk to the guide, a small model inside this program that explains it", indent=5)
    sizes = f"{size_text(DEFAULT.download_bytes)}, kept as {size_text(DEFAULT.q4_bytes)}"
    _tell(f"  2  download {DEFAULT.name}: {sizes}", indent=5)
    _tell("  3  use a GGUF file", indent=5)
    while True:
        match input("Choice [1]: ").strip():
            case "" | "1":
                _tell(f"note: {GUIDE_NOTICE}")
                return GUIDE
            case "2":
                return _download()
            case "3":
                path = expand_path(input("File: ").strip())
                if path.is_file():
                    return str(path)
                print(f"no file at {escape_line(str(path))}")
            case _:
                print("type 1, 2 or 3; questions come after the choice")


def _tell(text: str, indent: int = 0) -> None:
    """Print text whose words stay whole, further lines indented."""
    width = max(shutil.get_terminal_size().columns - 1, 1)
    print(fill(text, width, subsequent_indent=" " * indent, break_on_hyphens=False))


def _download() -> str:
    if subprocess.run(python_child("chat", "models", "pull", DEFAULT.name), check=False).returncode:
        raise ModelError("there is still no model", hint=f"`mistral-chat -m {GUIDE}` talks to the guide meanwhile")
    return DEFAULT.name
