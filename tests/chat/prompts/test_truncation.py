"""Which turns leave the context: whole ones, oldest first, never the last, and in steps."""

from __future__ import annotations

import random

import pytest

from chat.core.conversation import Message
from chat.errors import ContextError, ExitCode
from chat.prompts.truncation import answer_reserve, check_fits, dropped_turns, left_out_text, split_turns

S, U, A, T = (Message(role, role) for role in ("system", "user", "assistant", "tool"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("messages", "head", "split"),
    [
        ((), (), ()),
        ((U,), (), ((U,),)),
        ((S, U, A, U), (S,), ((U, A), (U,))),
        ((U, A, T, A, U, A), (), ((U, A, T, A), (U, A))),
        ((A, U), (), ((A,), (U,))),
        ((S, S), (S, S), ()),
    ],
)
def test_turns_begin_with_a_user_and_system_messages_stay(
    messages: tuple[Message, ...], head: tuple[Message, ...], split: tuple[tuple[Message, ...], ...]
) -> None:
    assert split_turns(messages) == (head, split)


def test_what_fits_is_not_dropped() -> None:
    assert dropped_turns((10, 20, 30), 40, 100) == 0
    assert dropped_turns((), 40, 10) == 0


def test_dropping_leaves_room_for_turns_to_come() -> None:
    assert dropped_turns((30, 30, 30, 30), 0, 100) == 2
    assert dropped_turns((30, 30, 30, 30, 30), 0, 100) == 2  # the step before made room for this turn
    assert dropped_turns((30, 30, 30, 30, 30, 30), 0, 100) == 4


def test_the_last_turn_is_never_dropped() -> None:
    chance = random.Random(2)
    for _ in range(2000):
        sizes = tuple(chance.randint(1, 50) for _ in range(chance.randint(1, 20)))
        head, room = chance.randint(0, 30), chance.randint(1, 120)
        dropped = dropped_turns(sizes, head, room)
        assert 0 <= dropped < len(sizes)
        assert head + sum(sizes[dropped:]) <= room or dropped == len(sizes) - 1


def test_a_longer_history_never_brings_dropped_turns_back_and_drops_rarely() -> None:
    sizes = tuple(random.Random(3).randint(5, 15) for _ in range(300))
    counts = [dropped_turns(sizes[:n], 20, 400) for n in range(1, 301)]
    assert counts == sorted(counts)
    assert len(set(counts)) < 20  # a new beginning is read again as a whole: not at each of 260 turns


def test_the_answer_keeps_at_most_a_quarter_free() -> None:
    assert [answer_reserve(1000, n) for n in (None, 10, 250, 9999)] == [250, 10, 250, 250]


def test_a_prompt_that_does_not_fit_is_refused_with_both_numbers() -> None:
    check_fits(4095, 4096)
    with pytest.raises(ContextError) as caught:
        check_fits(4096, 4096)
    assert caught.value.message == (
        "the prompt has 4,096 tokens, but the context holds 4,096 and the answer needs room too"
    )
    assert caught.value.hint == "shorten it, or use `--context 5120`"
    assert caught.value.exit_code == ExitCode.CONTEXT == 5


def test_what_is_left_out_is_counted_in_the_singular_too() -> None:
    assert left_out_text(1, 256) == "the oldest turn no longer fits the context of 256 tokens and is left out"
    assert left_out_text(3, 8192) == "the 3 oldest turns no longer fit the context of 8,192 tokens and are left out"


@pytest.mark.parametrize(
    ("prompt_tokens", "most", "hint"),
    [
        (39_047, 8192, "shorten it; 8,192 tokens are the most that this model can read"),
        (8192, 8192, "shorten it; 8,192 tokens are the most that this model can read"),
        (8000, 8192, "shorten it, or use `--context 8192`"),
        (5000, 32_768, "shorten it, or use `--context 6144`"),
    ],
)
def test_no_hint_names_a_context_that_the_model_cannot_have(prompt_tokens: int, most: int, hint: str) -> None:
    """`--context 40960` was proposed for a model of 8,192 tokens, which then refused it."""
    with pytest.raises(ContextError) as caught:
        check_fits(prompt_tokens, 4096, most)
    assert caught.value.hint == hint


def test_a_prompt_that_was_not_counted_has_at_least_so_many_tokens() -> None:
    with pytest.raises(ContextError, match=r"^the prompt has at least 300 tokens, but the context holds 256 "):
        check_fits(300, 256, 256, is_least=True)
