"""The pages of the reference, made from the definitions in the program each time the site is built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docs.generate import catalogue, command_line, formats, gguf_keys, session_commands

if TYPE_CHECKING:
    from collections.abc import Callable

PAGES: dict[str, Callable[[], str]] = {
    "reference/options.md": command_line.options_page,
    "reference/commands.md": command_line.commands_page,
    "reference/session-commands.md": session_commands.page,
    "reference/exit-codes.md": command_line.exit_codes_page,
    "reference/variables.md": command_line.variables_page,
    "reference/settings-file.md": formats.settings_page,
    "reference/json.md": formats.json_page,
    "reference/batch.md": formats.batch_page,
    "reference/files.md": formats.files_page,
    "reference/gguf-keys.md": gguf_keys.page,
    "reference/models.md": catalogue.page,
}


def pages() -> dict[str, str]:
    """The Markdown of every generated page, by its path below the site's root."""
    return {path: make() for path, make in PAGES.items()}
