"""The pieces of a text do not depend on its chunks, and no line is lost."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from chat.rendering import markdown_splitter
from chat.rendering.markdown_splitter import MarkdownPiece, MarkdownSplitter
from chat.rendering.styled_text import block_tokens
from tests.chat.tui.samples import chunks, document
from tests.grids import FULL

if TYPE_CHECKING:
    from markdown_it.token import Token


REPEATS = 3000 if FULL else 300  # a parser that read all of them at each line would read 150 times as many


def whole(text: str) -> list[MarkdownPiece]:
    splitter = MarkdownSplitter()
    return [*splitter.feed(text), *splitter.close()]


def test_pieces_do_not_depend_on_chunks_and_lose_no_line() -> None:
    for number in range(200):
        text = document(number)
        splitter = MarkdownSplitter()
        pieces = [piece for chunk in chunks(text, random.Random(number)) for piece in splitter.feed(chunk)]
        pieces += splitter.close()
        assert pieces == whole(text), f"document {number}"
        kept = [line for piece in pieces for line in piece.text.split("\n") if line.strip()]
        assert kept == [line for line in text.split("\n") if line.strip()], f"document {number}"


def test_blocks_items_and_lines_of_code_are_pieces() -> None:
    text = "# Head\nText\nmore\n- one\n  deeper\n- two\n\n```py\na\n\nb\n```\nend"
    assert whole(text) == [
        MarkdownPiece("# Head"),
        MarkdownPiece("Text\nmore"),
        MarkdownPiece("- one\n  deeper"),
        MarkdownPiece("- two", joined=True),
        MarkdownPiece("```py", is_fence=True),
        MarkdownPiece("a", True, "py"),
        MarkdownPiece("", True, "py"),
        MarkdownPiece("b", True, "py"),
        MarkdownPiece("```", True, is_fence=True),
        MarkdownPiece("end"),
    ]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("a\n2. not a list", ["a\n2. not a list"]),
        ("a\n1. a list", ["a", "1. a list"]),
        ("1. a\n\n   still a\n\nb", ["1. a\n\n   still a", "b"]),
        ("- a\nlazy", ["- a\nlazy"]),
        ("- a\n```\nx\n```\n- b", ["- a", "```", "x", "```", "- b"]),
        ("a\n---\nb", ["a\n---", "b"]),
        ("a\n\n---\nb", ["a", "---", "b"]),
        ("| a |\n|--|\n| b |\n\nc", ["| a |\n|--|\n| b |", "c"]),
        ("````\n```\n````\nx", ["````", "```", "````", "x"]),
        ("```\nnever closed\n", ["```", "never closed"]),
        ("  ```\n   x\n\ty\n  ```", ["```", " x", "  y", "```"]),
        ("- a\n  ```\n  x\n\n\n  y\n  ```\n- b", ["- a\n  ```\n  x\n\n\n  y\n  ```", "- b"]),
        ("1. a\n  ```\n  x\n\ny\n  ```\n\nz", ["1. a\n  ```\n  x\n\ny\n  ```", "z"]),
        ("    a\n\n    b\n\nc", ["    a\n\n    b", "c"]),
        ("> ```\n2. x\n\n   y", ["> ```", "2. x\n\n   y"]),
        ("a\n*\n2. b", ["a\n*\n2. b"]),
        ("", []),
        ("\n\n\n", []),
    ],
)
def test_pieces_end_at_blocks_and_items(text: str, pieces: list[str]) -> None:
    assert [piece.text for piece in whole(text)] == pieces


def test_pending_is_the_unfinished_piece() -> None:
    splitter = MarkdownSplitter()
    assert splitter.feed("one\ntwo") == []
    assert splitter.pending == MarkdownPiece("one\ntwo")
    assert splitter.feed("\n\nthree") == [MarkdownPiece("one\ntwo")]
    assert splitter.pending == MarkdownPiece("three")
    assert splitter.feed("\n```sh\nls") == [MarkdownPiece("three"), MarkdownPiece("```sh", is_fence=True)]
    assert splitter.pending == MarkdownPiece("ls", True, "sh")


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "- a\n",
        "> a\n",
        "- a\n\n",
        "    a\n\n",
        "a\n*\n",
        "2. x\n",
        "> a\n2. b\n",
        "- a\nb\n",
        "- ```\n  x\n\n",
        "| a\n---\n",
    ],
)
@pytest.mark.parametrize("before", ["", "a\n", "1. a\n\n   ```\n"])
def test_the_parser_reads_each_line_a_few_times(before: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a piece ends is asked of the parser, which must not read all of a long piece again at each line."""
    read: list[int] = []

    def counted(text: str) -> list[Token]:
        read.append(text.count("\n") + 1)
        return block_tokens(text)

    monkeypatch.setattr(markdown_splitter, "block_tokens", counted)
    whole(before + text * REPEATS)
    assert sum(read) < 12 * REPEATS * text.count("\n")
