"""The commands of a session, as `/help` explains them."""

from __future__ import annotations

from chat.tui.commands.table import KEYS, TOPICS
from docs.generate.markdown import text

_HEAD = """\
# Commands of a session

A line that begins with a slash is a command; `//` sends a slash. `/help` lists them, `/help NAME` explains one, and Tab
completes names and arguments.
"""


def page() -> str:
    """The page of slash commands."""
    parts = [
        _HEAD,
        "## Keys\n",
        *(f"- {text(part.strip())}" for line in KEYS.splitlines() for part in line.split("·")),
        "",
    ]
    for topic, rows in TOPICS.items():
        parts.append(f"## {topic}\n")
        for command in rows:
            parts += [f"### `{command.usage}` {{ #{command.name} }}", "", text(command.details), ""]
            if command.aliases:
                names = ", ".join(f"`/{alias}`" for alias in command.aliases)
                parts += [f"*also {names}*{{ .facts }}", ""]
    return "\n".join(parts)
