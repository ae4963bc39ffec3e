"""A title is one short line of the question; text becomes valid UTF-8 with as few changes as possible."""

from __future__ import annotations

import pytest

from chat.history.records import MAX_TITLE_LENGTH, title_of
from chat.system.characters import whole_characters


@pytest.mark.parametrize(
    ("question", "title"),
    [
        ("What is a rolling buffer?", "What is a rolling buffer?"),
        ("\n\n  \t\n## Plan my   trip\nto Rome", "Plan my trip"),
        ("```\nx = 1\n```", "x = 1"),
        ("```python\nx = 1\n```", "x = 1"),
        ("> - * quoted", "quoted"),
        ("", ""),
        ("\n \n", ""),
        ("---\n***\nreal", "real"),
        ("é" * 200, "é" * 59 + "…"),
        ("https://example.org/" + "a" * 100 + " what is this", ("https://example.org/" + "a" * 100)[:59] + "…"),
        ("word " * 40, "word word word word word word word word word word word word…"),
        ("Please tell me, with many words, about the history of cheese, and wine",
         "Please tell me, with many words, about the history of…"),
    ],
)  # fmt: skip
def test_a_title_is_the_first_line_with_words(question: str, title: str) -> None:
    assert title_of(question) == title
    assert len(title) <= MAX_TITLE_LENGTH


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("plain", "plain"),
        ("é\U0001f600\0", "é\U0001f600\0"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("a\ud800b", "a\ufffdb"),
        ("\ufeffbom", "\ufeffbom"),
    ],
)
def test_text_becomes_valid_utf8(text: str, stored: str) -> None:
    assert whole_characters(text) == stored
    stored.encode()
