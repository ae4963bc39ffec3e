"""Lists of options that nobody can choose among are refused at once, with the limit that they exceed."""

from __future__ import annotations

import time

import pytest

from chat.engine.choice import LONGEST_OPTION, MOST_OPTIONS, check_options
from chat.ground.errors import UsageError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "`--choice` needs at least one option"),
        (tuple(map(str, range(100_000))), f"`--choice` has 100,000 options, the limit is {MOST_OPTIONS:,}"),
        (("yes", " \n"), "`--choice` has an empty option"),
        (("yes", "x" * 10**7), f"an option of `--choice` has 10,000,000 characters, the limit is {LONGEST_OPTION:,}"),
        (("yes", "no", "yes"), "`--choice` has the option 'yes' twice"),
    ],
)
def test_options_that_cannot_be_chosen_among_are_refused_at_once(options: tuple[str, ...], message: str) -> None:
    begun = time.process_time()
    with pytest.raises(UsageError) as caught:
        check_options(options)
    assert caught.value.message == message
    assert time.process_time() - begun < 1


def test_as_many_options_as_the_limit_allows_are_checked_at_once() -> None:
    begun = time.process_time()
    check_options(tuple(map(str, range(MOST_OPTIONS))))
    assert time.process_time() - begun < 1
