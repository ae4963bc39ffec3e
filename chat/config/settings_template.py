"""The text of a new settings file: every setting with its help and default, commented out."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.config.option_types import option_specs
from chat.config.options import Group
from chat.config.settings_file import PRESETS, persistent_names

if TYPE_CHECKING:
    from chat.config.option_types import OptionSpec

HEAD = """\
# Settings of mistral-chat. A line without `#` before it counts; flags and MISTRAL_CHAT_* variables override it.
"""
TAIL = """\
# Presets: `mistral-chat --preset code`, or `/preset code` in a session.
# [preset.code]
# system = "You are a careful programmer."
# temperature = 0.2
"""


def initial_text() -> str:
    """Every setting that the file may hold, with its help and its default, commented out."""
    parts = [HEAD]
    names = set(persistent_names()) - {PRESETS}
    for group in Group:
        specs = [spec for spec in option_specs().values() if spec.option.group is group and spec.name in names]
        if specs:
            parts.append(f"# --- {group.value}\n" + "".join(_entry(spec) for spec in specs))
    return "\n".join([*parts, TAIL])


def _entry(spec: OptionSpec) -> str:
    words = textwrap.fill(spec.option.help, 100, initial_indent="# ", subsequent_indent="# ")
    return f"{words}\n# {spec.name} = {toml_value(_example(spec))}\n"


def _example(spec: OptionSpec) -> Any:
    """The default, or a value of the right type if there is none."""
    if spec.many:
        return list(spec.default)
    if spec.default is not None:
        return spec.default
    if spec.choices:
        return spec.choices[0]
    return {int: 0, float: 0.0, bool: True}.get(spec.kind, "")


def toml_value(value: Any) -> str:
    """The value in TOML.

    Source: TOML 1.0; a JSON string without raw control characters is a TOML basic string.
    """
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False).replace("\x7f", "\\u007f")
