"""Status lines and their figures fit the width."""

from __future__ import annotations

import pytest

from chat.core.backend import ModelInfo
from chat.core.events import Completion, PrefillProgress, Seconds, TokenCounts
from chat.rendering.status_text import (
    completion_line,
    context_usage,
    duration,
    greeting,
    loading_line,
    loading_text,
    rate,
    reading_line,
    toolbar,
)
from chat.rendering.styled_text import line_width, text_of


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (0.0, "0.0 s"), (0.84, "0.8 s"), (9.96, "10 s"), (59.6, "1:00"), (187, "3:07"), (3723, "1:02:03")],
)
def test_durations_have_a_short_form(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_rates_have_a_fraction_only_below_100() -> None:
    assert [rate(5, 2), rate(1500, 10), rate(5, 0)] == ["2.5", "150", "-"]


FIGURES = "128 tokens · 2.6 tokens/s · 50 s · first token after 1.0 s"
DONE = Completion("x", "stop", (), "", TokenCounts(1234, 1200, 128, 40, 30), Seconds(0, 1.0, 49.2))


@pytest.mark.parametrize(
    ("width", "words"),
    [
        (200, f"{FIGURES} · prompt 1,234 tokens (1,200 from the cache) · 30 of 40 drafted tokens used"),
        (80, FIGURES),
        (40, "128 tokens · 2.6 tokens/s · 50 s"),
        (10, "128 toke…"),
    ],
)
def test_completion_lines_leave_out_parts_that_do_not_fit(width: int, words: str) -> None:
    assert text_of(completion_line(DONE, width)) == words


@pytest.mark.parametrize("width", [10, 20, 40, 60, 80, 200])
def test_reading_lines_fit_every_width(width: int) -> None:
    assert line_width(reading_line(PrefillProgress(1200, 4000, 160.0), 0, width)) < width


def test_reading_lines_show_progress_speed_and_time_left() -> None:
    words = "reading ━━━━━━────────────────── 1,000 of 4,000 tokens · {} left · 6.2/s"
    assert text_of(reading_line(PrefillProgress(1000, 4000, 160.0), 0, 80)) == words.format("8:00")
    assert text_of(reading_line(PrefillProgress(1000, 4000, 160.0), 30, 80)) == words.format("7:30")
    assert text_of(reading_line(PrefillProgress(1000, 4000, 160.0), 999, 80)) == words.format("0.0 s")


def test_before_the_first_batch_a_reading_line_shows_the_time() -> None:
    words = text_of(reading_line(PrefillProgress(0, 4000, 0.0), 24, 80))
    assert words == "reading ──────────────────────── 0 of 4,000 tokens · 24 s · Ctrl+C stops"


def info(window: int | None, context: int) -> ModelInfo:
    return ModelInfo("m", 1, "Q8_0", "llama", window, context, 32768, "v3")


def test_context_usage_shows_the_context_or_the_window() -> None:
    assert context_usage(info(None, 32768), 1204) == "1,204 / 32,768"
    assert context_usage(info(4096, 32768), 1204) == "1,204 tokens · window 4,096"
    assert context_usage(info(None, 0), 1204) == "1,204 tokens"


@pytest.mark.parametrize(
    ("width", "words"),
    [
        (80, "mistral-7b-v0.1 · /help for help"),
        (30, "mistral-7b-… · /help for help"),
        (20, "mistral-7b-v0.1"),
        (5, "mis…"),
    ],
)
def test_the_greeting_keeps_the_name_and_drops_the_help(width: int, words: str) -> None:
    assert greeting("mistral-7b-v0.1", width) == words


def test_the_toolbar_cuts_the_name_before_the_figures() -> None:
    assert toolbar("model", "1 / 2", ["3/s", "title"], 80) == "model · 1 / 2 · 3/s · title"
    assert toolbar("a-long-name-of-a-model", "1 / 2", ["3/s"], 20) == "a-long-nam… · 1 / 2"


def test_loading_shows_a_known_fraction() -> None:
    assert loading_text("model", 0.0, 80) == "loading model …"
    assert loading_text("model", 0.43, 80) == "loading model · 43%"
    assert loading_text("a-long-name-of-a-model", 0.43, 24) == "loading a-long-n… · 43%"
    assert text_of(loading_line("model", 0.0, 3, 80)) == "loading model · 3 s"
    assert text_of(loading_line("model", 0.5, 12, 60)) == "loading ━━━━━━━━━━━━──────────── 50% · 12 s"
