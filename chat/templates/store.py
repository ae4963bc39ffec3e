"""Prompt templates (TOML with `$variables`): find them, parse them, and fill a prompt into one.

The user's own folder comes first, then the examples inside the program.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib.resources import files
from string import Template as Dollars
from typing import TYPE_CHECKING, Any

from chat.config.option_types import checked, option_specs
from chat.errors import DataError, FileError, UsageError, reason_text
from chat.system.paths import config_folder
from chat.system.text_files import read_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.resources.abc import Traversable
    from pathlib import Path

MOST_BYTES = 1 << 20  # of one template
# Options that a template may set besides the persistent ones.
ALSO_ALLOWED = frozenset({"schema", "grammar", "regex", "choice", "extract", "extract_last", "json"})


@dataclass(frozen=True)
class Template:
    """A prompt with holes, and the settings that go with it."""

    name: str
    prompt: str = "$input"
    defaults: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def variables(self) -> tuple[str, ...]:
        """The names of its holes, `input` among them, in the order of their first use."""
        return tuple(dict.fromkeys(Dollars(self.prompt).get_identifiers()))

    def fill(self, text: str, given: Mapping[str, str]) -> str:
        """The prompt with `text` as `$input`; text is put in as it is, dollars in it mean nothing.

        Raises:
            UsageError: a variable without a value, or a value for no variable.
        """
        names = self.variables()
        for name in given:
            if name not in names:
                raise UsageError(
                    f"template `{self.name}` has no variable `{name}`", hint=f"its variables: {', '.join(names)}"
                )
        values = {**self.defaults, **given, "input": text}
        for name in names:
            if name not in values:
                raise UsageError(f"template `{self.name}` needs a value for `{name}`", hint=f"`-p {name}=...`")
        filled = Dollars(self.prompt).substitute(values)
        return filled if "input" in names or not text else f"{filled}\n\n{text}"


def parse(name: str, text: str) -> Template:
    """The template that TOML `text` holds.

    Raises:
        DataError: no TOML, an unknown key, or a wrong value.
    """
    try:
        table = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"template `{name}`: {reason_text(error)}") from error
    prompt, defaults = table.pop("prompt", "$input"), table.pop("defaults", {})
    if not isinstance(prompt, str) or not isinstance(defaults, dict):
        raise DataError(f"template `{name}`: `prompt` must be a text, and `[defaults]` a table")
    if not Dollars(prompt).is_valid():
        raise DataError(f"template `{name}`: a lone `$` in the prompt", hint="write `$$` for a dollar sign")
    return Template(
        name,
        prompt.strip("\n"),
        {key: str(value) for key, value in defaults.items()},
        dict(_setting(name, key, value) for key, value in table.items()),
    )


def _setting(template: str, key: str, value: Any) -> tuple[str, Any]:
    name = key.replace("-", "_")
    spec = option_specs().get(name)
    if spec is None or not (spec.option.persistent or name in ALSO_ALLOWED):
        raise DataError(f"template `{template}`: unknown setting `{key}`")
    try:
        return name, checked(spec, value)
    except UsageError as error:
        raise DataError(f"template `{template}`: {error.message}") from error


def given_values(parameters: Sequence[str]) -> dict[str, str]:
    """`NAME=TEXT` parameters as values by name.

    Raises:
        UsageError: one without `=`.
    """
    values = {}
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        if not equals or not name:
            raise UsageError(f"-p needs NAME=TEXT, not {parameter!r}")
        values[name] = value
    return values


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
    path = own_path(name)
    try:
        if path.exists():
            return _read(path)
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {reason_text(error)}") from error
    if name not in names():
        near = get_close_matches(name, names(), 1)
        raise UsageError(
            f"no template `{name}`",
            hint=f"did you mean `{near[0]}`?" if near else "`mistral-chat templates list` shows them",
        )
    return (_examples() / f"{name}.toml").read_text(encoding="utf-8")


def _read(path: Path) -> str:
    if not path.is_file():  # a pipe would hang in open()
        raise FileError(f"{path}: is not a regular file")
    return read_bytes(path, MOST_BYTES).decode("utf-8")


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
