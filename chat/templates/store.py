"""Find prompt templates: the user's own folder, then the examples that come with the program."""

from __future__ import annotations

import re
from difflib import get_close_matches
from importlib.resources import files
from typing import TYPE_CHECKING

from chat.errors import FileError, UsageError
from chat.system.paths import config_folder
from chat.templates.template import Template, parse

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable
    from pathlib import Path


def templates_folder() -> Path:
    """The person's own templates, one `NAME.toml` each; may not exist yet."""
    return config_folder() / "templates"


def names() -> dict[str, str]:
    """Every template's name, and whether it is `own` or an `example`."""
    examples = {entry.name.removesuffix(".toml"): "example" for entry in _examples().iterdir()}
    own = {path.stem: "own" for path in templates_folder().glob("*.toml")} if templates_folder().is_dir() else {}
    return dict(sorted({**examples, **own}.items()))


def text_of(name: str) -> str:
    """The TOML of a template, the person's own before the example of the same name.

    Raises:
        UsageError: there is none of this name.
        FileError: it cannot be read.
    """
    try:
        return own_path(name).read_text(encoding="utf-8")
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{own_path(name)}: cannot be read: {error}") from error
    if name not in names():
        near = get_close_matches(name, names(), 1)
        raise UsageError(
            f"no template `{name}`", hint=f"did you mean `{near[0]}`?" if near else "`mistral-chat templates list`"
        )
    return (_examples() / f"{name}.toml").read_text(encoding="utf-8")


def load(name: str) -> Template:
    """The template of this name, checked."""
    return parse(name, text_of(name))


def own_path(name: str) -> Path:
    """Where the person's own template of this name lives.

    Raises:
        UsageError: the name could lead out of the folder.
    """
    if not re.fullmatch(r"[\w][\w.-]{0,99}", name):
        raise UsageError(f"a template's name has letters, digits, `_`, `-` and `.`, not {name!r}")
    return templates_folder() / f"{name}.toml"


def _examples() -> Traversable:
    return files("chat.templates") / "examples"
