"""A screen for a screen reader: append-only, in words, and not too often."""

from __future__ import annotations

import pytest

from chat.rendering.answer_view import PlainAnswer
from chat.rendering.spoken import FIRST_PAUSE_SECONDS, SpokenScreen, in_words
from chat.rendering.status_text import loading_line, thinking_line
from chat.rendering.styled_text import plain
from tests.environments import FakeStream


@pytest.fixture
def stream() -> FakeStream:
    return FakeStream(is_terminal=True)


def test_signs_become_words() -> None:
    assert in_words("9 tokens · 0.3 tokens/s") == "9 tokens, 0.3 tokens/s"
    assert in_words("reading ━━━━──── 512 of 1,024 tokens · 3 s left") == "reading 512 of 1,024 tokens, 3 s left"
    assert in_words("  2 ▸ here") == "  2 open: here"
    assert in_words("loading x …") == "loading x"


def test_a_wait_is_said_when_it_begins_and_then_after_growing_pauses(stream: FakeStream) -> None:
    now = [0.0]
    screen = SpokenScreen(stream, colour=True, is_live=True, clock=lambda: now[0])
    said = []
    for tick in range(4 * 200):
        now[0] = tick / 4
        before = len(stream.written)
        screen.update((), [loading_line("model", 0.4, now[0], 80)])
        if len(stream.written) > before:
            said.append(now[0])
    pause = FIRST_PAUSE_SECONDS
    assert said == [0.0, pause, 3 * pause, 7 * pause, 15 * pause]
    assert stream.written.startswith("Loading 40%, 0.0 s.\nLoading 40%, 10 s.\n")
    screen.update((), [thinking_line(200, 80)])  # something new is said at once
    screen.update([plain("Stopped.")], [])
    screen.update((), [thinking_line(1, 80)])  # and so is the next wait
    assert stream.written.endswith("Thinking, 3:20.\nStopped.\nThinking, 1 s.\n")


def test_an_answer_says_where_thinking_ends_and_it_begins(stream: FakeStream) -> None:
    view = PlainAnswer(SpokenScreen(stream, colour=True, is_live=True, links=True))
    view.think("Two and two.\nIs")
    view.think(" four.")
    view.feed("4")
    view.feed(".")
    view.tick([plain("reading ━━━ 1 of 2")])  # not in the middle of a line
    view.note(plain("note: a note"))
    view.feed("More.")
    view.finish()
    assert stream.written == "Thinking:\nTwo and two.\nIs four.\n\nAnswer:\n4.\nnote: a note\nMore.\n"
