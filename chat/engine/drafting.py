"""Guess the next ids, so that the model can check several at once, and know when that pays. Knows ids, not text.

Each id is drawn from the model's own logits, and drafts are kept while they are equal to what was drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from array import array

LONGEST = 3  # with the id before it four rows: the sweet spot of processors, and bit-equal to rows one by one
LENGTHS = (0, 1, 1, 3)  # of a draft, by how many ids were guessed: 1, 2 and 4 rows are computed alike, 3 was not tried
PATTERN = 3  # ids that must have been said before in this order
LOOK_BACK = 32768  # ids
# llama.cpp computes rows of these types alike, one by one or by four: without repacking, with flash attention, and up
# to 256 cells or on one thread; beyond that attention over one row is summed up in another order, and a choice between
# two nearly equal ids may fall the other way.
EQUAL_TYPES = frozenset({"Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K"})
ALLOWANCE = 0.02  # of the time may be lost on guesses
LARGEST_PURSE = 4.0
LARGEST_COST = 8.0  # of one draft: what a machine did meanwhile does not count
FIRST_COST = 1.0  # of a draft, in tokens, before it was measured


class Drafter:
    """Something that guesses, and needs nothing for it unless it says so."""

    def catch_up(self, ids: array[int]) -> None:
        """Read what was said since the last guess, which may take a while."""

    def guess(self, ids: array[int], most: int) -> list[int]:
        """Up to `most` ids that may follow `ids`."""
        raise NotImplementedError

    def abort(self, flag: bool) -> None:
        """Stop guessing, from any thread, or be ready again."""

    def close(self) -> None:
        """Free what it holds."""


class Lookup(Drafter):
    """Guesses that what was said after the last few ids before is said again."""

    def guess(self, ids: array[int], most: int) -> list[int]:
        """Up to `most` ids that followed the newest earlier place with the same last ids; loops go on."""
        if len(ids) <= PATTERN:
            return []
        recent = ids[-LOOK_BACK:]
        width = recent.itemsize
        data = recent.tobytes()
        end = len(data) - width  # the last ids themselves do not count
        while True:
            at = data.rfind(data[-PATTERN * width :], 0, end)
            if at < 0:
                return []
            if at % width == 0:
                break
            end = at + PATTERN * width - 1
        start = at // width + PATTERN
        period = len(recent) - start
        return [recent[start + step % period] for step in range(most)]


class Purse:
    """Whether another draft can be afforded: they may lose a small part of the time, and what they won lately."""

    def __init__(self) -> None:
        self._tokens = FIRST_COST
        self._single_seconds = 0.0
        self.cost = FIRST_COST

    @property
    def allows(self) -> bool:
        """Whether the loss of one draft can be borne."""
        return self._tokens >= self.cost

    def earn(self, seconds: float) -> None:
        """One id was made without a draft, in so many seconds."""
        self._single_seconds = 0.8 * self._single_seconds + 0.2 * seconds if self._single_seconds else seconds
        self._tokens = min(self._tokens + ALLOWANCE, max(LARGEST_PURSE, self.cost))

    def pay(self, seconds: float) -> None:
        """So many seconds went into getting ready for a draft."""
        if self._single_seconds:
            self._tokens -= seconds / self._single_seconds

    def settle(self, drafted: int, accepted: int, seconds: float) -> None:
        """A draft was checked in so many seconds; what a shorter draft costs is less."""
        if self._single_seconds and drafted == LONGEST:
            measured = min(max(seconds / self._single_seconds - 1, 0.0), LARGEST_COST)
            self.cost = 0.8 * self.cost + 0.2 * measured
        self._tokens = min(self._tokens + accepted - self.cost + ALLOWANCE, LARGEST_PURSE)
