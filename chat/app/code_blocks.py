"""Take fenced code blocks out of an answer. Knows CommonMark's fences, nothing else of Markdown."""

from __future__ import annotations

import re

_FENCE = re.compile(r"^ {0,3}(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)$")


def code_blocks(text: str) -> tuple[str, ...]:
    """The contents of all fenced blocks, each ending with a newline; one that never closes runs to the end.

    Source: CommonMark 0.31, section 4.5. Up to three columns of a fence's own indentation are taken off its lines.
    """
    blocks: list[str] = []
    lines: list[str] = []
    fence = ""
    indentation = 0
    for line in re.split(r"\r\n|\n|\r", text.removesuffix("\n")):
        match = _FENCE.match(line)
        if not fence:
            if match and not (match["fence"][0] == "`" and "`" in match["info"]):
                fence, indentation, lines = match["fence"], line.index(match["fence"]), []
        elif match and match["fence"].startswith(fence) and not match["info"].strip():
            blocks.append("".join(lines))
            fence = ""
        else:
            lines.append(re.sub(rf"^ {{0,{indentation}}}", "", line) + "\n")
    if fence:
        blocks.append("".join(lines))
    return tuple(blocks)
