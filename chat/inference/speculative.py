"""Propose draft tokens, which the model then checks in one batch, and limit their length to what pays.

The model draws every id from its own logits. A draft is kept as far as it equals the ids drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.llama.batch_invariance import MAX_BATCH_INVARIANT_ROWS

if TYPE_CHECKING:
    from array import array

# One row of the batch is the id already drawn; so many rows together have the same bits as one by one.
LONGEST_DRAFT = MAX_BATCH_INVARIANT_ROWS - 1
PATTERN_LENGTHS = (4, 8, 16)  # ids that must occur earlier in the same order; a longer match predicts better
LOOK_BACK = 32768  # ids
ALLOWANCE = 0.015  # tokens per step: the part of the time that drafts may lose
LARGEST_BUDGET = 5.0  # tokens; enough for the longest draft where a row costs as much as it does on most processors
# Cost of one draft id in tokens: the first estimate, and the limits of a measurement (the machine may have slept)
FIRST_COST, SMALLEST_COST, LARGEST_COST = 0.65, 0.05, 2.0
FIRST_ACCEPTANCE = 0.8  # estimated acceptance rate before the first draft
DECAY = 0.8  # weight of the older observations at each new draft


class Drafter:
    """Base of the drafters; the default implementations suit one that holds no resources."""

    def catch_up(self, ids: array[int]) -> None:
        """Read the ids that are new since the last draft, which may take a while."""

    def propose(self, ids: array[int], most: int) -> list[int]:
        """Up to `most` ids that may follow `ids`."""
        raise NotImplementedError

    def abort(self, flag: bool) -> None:
        """Stop computing, from any thread; False makes the drafter ready again."""

    def close(self) -> None:
        """Free what it holds."""


class PromptLookupDrafter(Drafter):
    """Proposes the ids that followed an earlier occurrence of the last few ids."""

    def propose(self, ids: array[int], most: int) -> list[int]:
        """Exactly `most` ids, or none where the last ids did not occur before; a repeated period is continued.

        Among the occurrences of the longest pattern found, the newest counts: a text that is repeated has many places
        that begin alike.
        """
        recent = ids[-LOOK_BACK:]
        data = recent.tobytes()
        start = 0
        for length in PATTERN_LENGTHS:
            if not (found := _end_of_newest_match(data, recent.itemsize, length)):
                break  # then a longer pattern does not match either
            start = found
        period = len(recent) - start
        return [recent[start + step % period] for step in range(most)] if start else []


def _end_of_newest_match(data: bytes, width: int, length: int) -> int:
    """The index after the newest earlier occurrence of the last ids; 0 where there is none.

    Args:
        data: all ids, `width` bytes each.
        length: how many of the last ids form the pattern.
    """
    if len(data) <= length * width:
        return 0
    pattern = data[-length * width :]
    end = len(data) - width  # the pattern itself does not count
    while (position := data.rfind(pattern, 0, end)) >= 0:
        if position % width == 0:
            return position // width + length
        end = position + len(pattern) - 1
    return 0


class DraftBudget:
    """Decides how long a draft may be, from the recent acceptance rate and the measured cost.

    Drafts may lose a small part of the time, and what drafts saved lately. All amounts are in tokens: the time that
    one id takes without a draft.
    """

    def __init__(self) -> None:
        self._tokens = FIRST_COST
        self._single_seconds = 0.0
        self._accepted, self._tried = FIRST_ACCEPTANCE, 1.0
        self.cost = FIRST_COST  # of one draft id

    @property
    def longest(self) -> int:
        """How many ids the next draft may have; 0 or less: none."""
        rate = self._accepted / self._tried
        fastest = max(
            range(LONGEST_DRAFT + 1), key=lambda length: _expected_ids(rate, length) / (1 + self.cost * length)
        )
        return min(max(fastest, 1), int(self._tokens / self.cost))  # sometimes one, to notice when drafts work again

    def record_single(self, seconds: float) -> None:
        """Note how long one id took without a draft."""
        self._single_seconds = 0.8 * self._single_seconds + 0.2 * seconds if self._single_seconds else seconds
        self._tokens = min(self._tokens + ALLOWANCE, LARGEST_BUDGET)

    def record_preparation(self, seconds: float) -> None:
        """Note how long the drafter took to read new ids before a draft."""
        if self._single_seconds:
            self._tokens -= seconds / self._single_seconds

    def record_draft(self, drafted: int, accepted: int, seconds: float) -> None:
        """Note the outcome of a draft.

        Args:
            drafted: ids in the draft.
            accepted: how many of the first of them equal the ids drawn.
            seconds: for proposing and checking it.
        """
        if self._single_seconds:
            measured = (seconds / self._single_seconds - 1) / drafted
            self.cost = 0.8 * self.cost + 0.2 * min(max(measured, SMALLEST_COST), LARGEST_COST)
        self._accepted = DECAY * self._accepted + accepted
        self._tried = DECAY * self._tried + min(accepted + 1, drafted)
        self._tokens = min(self._tokens + accepted - self.cost * drafted + ALLOWANCE, LARGEST_BUDGET)


def _expected_ids(rate: float, length: int) -> float:
    """Expected ids from one batch with a draft of this length; an id counts only if all before it were accepted."""
    return sum(rate**step for step in range(length + 1))
