"""Find the fenced code blocks of an answer, for `-x`, `--xl` and `/copy code`.

The parser is the one that the screen uses, so that the same blocks are shown, printed and copied.
"""

from __future__ import annotations

import re

from chat.rendering.styled_text import block_tokens


def code_blocks(text: str) -> tuple[str, ...]:
    """The contents of all fenced code blocks in their order, those in list items and block quotes included.

    Source: CommonMark 0.31, section 4.5. A block that is never closed runs to the end of its container. HTML is text,
    as on the screen: a fence between tags is a fence. A block that is only indented (section 4.4) is left out: models
    indent poems, tables and badly nested lists that way, and a script that asks for code must not get those.

    Returns:
        Each content with `\\n` as line ends. One that is not empty ends with a newline.
    """
    if "```" not in text and "~~~" not in text:
        return ()  # spares the import of the parser
    tokens = block_tokens(re.sub(r"\r\n?", "\n", text))
    return tuple(token.content for token in tokens if token.type == "fence")
