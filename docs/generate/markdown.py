"""Texts of the program as Markdown: help texts hold names of options, brackets and stars that are meant as they are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_QUOTED = re.compile(r"(`[^`]*`)")
# Options, variables, tables of the settings file and numbered addresses, which help texts leave without quotes
_CODE = re.compile(
    r"(?<![\w-])--?[a-z][a-z-]*\b|(?<!\w)\$?[A-Z]+(?:_[A-Z0-9]+)+\b|\[[a-z]+\.[A-Z]+\]|https?://(?!\w)|\*\.py"
)
_MARKUP = re.compile(r"([\\*_\[\]<>])")


def text(words: str) -> str:
    """A help text as Markdown, with options and variables as code."""
    parts = _QUOTED.split(words)
    return "".join(part if number % 2 else _unquoted(part) for number, part in enumerate(parts))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(_cell, cells))} |\n" for cells in lines)


def _cell(words: str) -> str:
    """A cell in which only code has bars."""
    parts = _QUOTED.split(words)
    return "".join(part if number % 2 else part.replace("|", "&#124;") for number, part in enumerate(parts))


def _unquoted(words: str) -> str:
    end, done = 0, ""
    for found in _CODE.finditer(words):
        done += _MARKUP.sub(r"\\\1", words[end : found.start()]) + f"`{found[0]}`"
        end = found.end()
    return done + _MARKUP.sub(r"\\\1", words[end:])
