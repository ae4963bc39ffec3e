"""Code blocks are what CommonMark says, by the parser's own tokens as the reference."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from chat.rendering.code_blocks import code_blocks
from tests.chat.code_answers import ANSWERS, HTML, hostile_answer


def reference(text: str, **options: bool) -> tuple[str, ...]:
    """The contents of the fences that the parser finds in the whole text, which it reads with a line end at its end."""
    parser = MarkdownIt("commonmark", options)
    tokens = parser.parse(text if text.endswith(("\n", "\r")) else text + "\n")
    return tuple(token.content for token in tokens if token.type == "fence")


@pytest.mark.parametrize("name", ANSWERS)
def test_blocks_are_what_commonmark_says(name: str) -> None:
    """Once `-x` missed blocks in nested lists and in quotes, and did not end a block where its list item ends."""
    text, blocks = ANSWERS[name]
    assert code_blocks(text) == blocks
    assert reference(text) == blocks


def test_a_fence_between_html_tags_is_one() -> None:
    """As on the screen, where HTML stays text; CommonMark takes all of it for HTML."""
    text, blocks = HTML
    assert code_blocks(text) == blocks == reference(text, html=False)


@pytest.mark.parametrize("indent", range(4))
@pytest.mark.parametrize("line", ["\tx", " \tx", "  \tx", "   \tx", "\t\tx", "  \t \tx"])
def test_a_tab_loses_the_columns_of_the_fence(indent: int, line: str) -> None:
    text = f"{' ' * indent}```\n{line}\n```\n"
    assert code_blocks(text) == reference(text)


def test_no_order_of_lines_makes_a_difference_to_the_parser() -> None:
    found = [(code_blocks(text), reference(text, html=False)) for text in map(hostile_answer, range(1000))]
    assert [ours for ours, _ in found] == [theirs for _, theirs in found]
    assert sum(len(ours) for ours, _ in found) > 1000
