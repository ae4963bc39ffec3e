"""Guess the next ids, so that the model can check several at once, and know when that pays. Knows ids, not text.

Each id is drawn from the model's own logits, and drafts are kept while they are equal to what was drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.llama.batch_invariance import MAX_BATCH_INVARIANT_ROWS

if TYPE_CHECKING:
    from array import array

LONGEST = (
    MAX_BATCH_INVARIANT_ROWS - 1
)  # with the certain id before it, as many rows as are bit-equal to rows one by one
PATTERNS = (4, 8, 16)  # ids that must have been said before in this order; the more, the surer what follows
LOOK_BACK = 32768  # ids
ALLOWANCE = 0.015  # of the time may be lost on guesses
LARGEST_PURSE = 5.0  # enough for the longest draft where a row costs as much as it does on most processors
# Of one id of a draft, in tokens: before it was measured, and between these, for a machine that slept tells nothing
FIRST_COST, SMALLEST_COST, LARGEST_COST = 0.65, 0.05, 2.0
FIRST_CHANCE = 0.8  # that a guessed id comes, before any did
KEPT = 0.8  # of what is known about guesses, with each new draft


class Drafter:
    """Something that guesses, and needs nothing for it unless it says so."""

    def catch_up(self, ids: array[int]) -> None:
        """Read what was said since the last guess, which may take a while."""

    def propose(self, ids: array[int], most: int) -> list[int]:
        """Up to `most` ids that may follow `ids`."""
        raise NotImplementedError

    def abort(self, flag: bool) -> None:
        """Stop guessing, from any thread, or be ready again."""

    def close(self) -> None:
        """Free what it holds."""


class PromptLookupDrafter(Drafter):
    """Guesses that what was said after the last few ids before is said again."""

    def propose(self, ids: array[int], most: int) -> list[int]:
        """`most` ids that followed where the last ids were said before, or none; loops go on.

        The newest of the places with the longest pattern counts: a text that is said again has many that begin alike.
        """
        recent = ids[-LOOK_BACK:]
        data = recent.tobytes()
        start = 0
        for length in PATTERNS:
            if not (found := _after_pattern(data, recent.itemsize, length)):
                break  # nor is a longer one there
            start = found
        period = len(recent) - start
        return [recent[start + step % period] for step in range(most)] if start else []


def _after_pattern(data: bytes, width: int, length: int) -> int:
    """Where the newest earlier place with the same last ids, of so many bytes each, ends; 0 where there is none."""
    if len(data) <= length * width:
        return 0
    pattern = data[-length * width :]
    end = len(data) - width  # the last ids themselves do not count
    while (at := data.rfind(pattern, 0, end)) >= 0:
        if at % width == 0:
            return at // width + length
        end = at + len(pattern) - 1
    return 0


class DraftBudget:
    """How long a draft may be: what is fastest by how many guesses came lately, as far as its loss can be borne.

    What may be lost is a small part of the time, and what was won lately.
    """

    def __init__(self) -> None:
        self._tokens = FIRST_COST
        self._single_seconds = 0.0
        self._came, self._tried = FIRST_CHANCE, 1.0
        self.cost = FIRST_COST

    @property
    def longest(self) -> int:
        """How many ids a draft may have; 0 is none."""
        chance = self._came / self._tried
        fastest = max(range(LONGEST + 1), key=lambda length: _expected(chance, length) / (1 + self.cost * length))
        return min(max(fastest, 1), int(self._tokens / self.cost))  # one at times, to see whether guesses come again

    def earn(self, seconds: float) -> None:
        """One id was made without a draft, in so many seconds."""
        self._single_seconds = 0.8 * self._single_seconds + 0.2 * seconds if self._single_seconds else seconds
        self._tokens = min(self._tokens + ALLOWANCE, LARGEST_PURSE)

    def pay(self, seconds: float) -> None:
        """So many seconds went into getting ready for a draft."""
        if self._single_seconds:
            self._tokens -= seconds / self._single_seconds

    def settle(self, drafted: int, accepted: int, seconds: float) -> None:
        """A draft was checked in so many seconds, and the first so many of its ids came."""
        if self._single_seconds:
            measured = (seconds / self._single_seconds - 1) / drafted
            self.cost = 0.8 * self.cost + 0.2 * min(max(measured, SMALLEST_COST), LARGEST_COST)
        self._came = KEPT * self._came + accepted
        self._tried = KEPT * self._tried + min(accepted + 1, drafted)
        self._tokens = min(self._tokens + accepted - self.cost * drafted + ALLOWANCE, LARGEST_PURSE)


def _expected(chance: float, length: int) -> float:
    """Ids that a batch is expected to make with a draft of this length, each of which comes if those before it did."""
    return sum(chance**at for at in range(length + 1))
