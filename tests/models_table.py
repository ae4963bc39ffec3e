"""Write README's table of the official models from the catalogue: `python -m tests.models_table`."""

from __future__ import annotations

from pathlib import Path

from chat.hub.names import CATALOGUE
from chat.system.terminal_text import size_text

README = Path(__file__).resolve().parents[1] / "README.md"
BEGIN, END = "<!-- models -->\n", "<!-- end of models -->\n"


def table() -> str:
    """The catalogue as a Markdown table."""
    rows = [("name", "short", "download", "Q4_K_M", "memory", "licence", "good for"), ("---",) * 7]
    for model in CATALOGUE:
        sizes = (size_text(size) for size in (model.download_bytes, model.q4_bytes, model.memory_bytes))
        rows.append((model.name, ", ".join(model.aliases), *sizes, model.licence, model.good_for))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def with_table(text: str) -> str:
    """README's text with the present table between its two marks.

    Raises:
        ValueError: a mark is missing.
    """
    head, _, rest = text.partition(BEGIN)
    _, mark, tail = rest.partition(END)
    if not mark:
        raise ValueError("README has no place for the table of models")
    return f"{head}{BEGIN}\n{table()}\n{END}{tail}"


if __name__ == "__main__":
    README.write_text(with_table(README.read_text()))
