"""The results of a batch: put into the order of their records, and added up for the line at the end."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from chat.app.json_report import failure_report
from chat.rendering.status_text import counted, duration, rate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from chat.batch.records import BatchRecord
    from chat.core.request import Request

    RecordResult = tuple[BatchRecord, dict[str, Any]]


class OrderedResults:
    """Gives out the results of records in the order of the records, whatever order they arrive in."""

    def __init__(self, records: Iterator[BatchRecord]) -> None:
        self._records = records
        self._taken: list[BatchRecord] = []  # all records so far, without their requests
        self._positions: list[int] = []  # in `_taken`, of each request that was given out
        self._waiting: dict[int, dict[str, Any]] = {}  # position -> result that is not given out yet
        self._next_position = 0
        self.all_taken = False

    def requests(self) -> Iterator[Request]:
        """The requests of the records; the result of a record without a request is its error."""
        for record in self._records:
            position = len(self._taken)
            self._taken.append(replace(record, request=None))
            if record.request is None:
                assert record.error is not None
                self._waiting[position] = failure_report(record.error)
            else:
                self._positions.append(position)
                yield record.request
        self.all_taken = True

    def put(self, index: int, result: dict[str, Any]) -> None:
        """Take the result of a request, by the request's index among all of them."""
        self._waiting[self._positions[index]] = result

    def ready(self) -> Iterator[RecordResult]:
        """The next records and results, up to the first record whose result is missing."""
        while self._next_position in self._waiting:
            yield self._taken[self._next_position], self._waiting.pop(self._next_position)
            self._next_position += 1

    def rest(self) -> Iterator[RecordResult]:
        """The results behind a missing one, at the end of a cancelled batch."""
        yield from ((self._taken[position], self._waiting[position]) for position in sorted(self._waiting))


@dataclass
class BatchSummary:
    """The counts of the results so far; tokens that a server does not report count as none.

    Attributes:
        prompt: tokens of the prompts.
        cached: tokens of the prompts that were not read again.
        generated: tokens of the answers.
    """

    answered: int = 0
    failed: int = 0
    prompt: int = 0
    cached: int = 0
    generated: int = 0

    def add(self, result: Mapping[str, Any], *, is_failed: bool) -> None:
        """Count one result, in the form that is printed."""
        self.answered += "error" not in result
        self.failed += is_failed
        tokens = result.get("tokens")
        if isinstance(tokens, dict):  # a number in a dry run
            self.prompt += tokens["prompt"]
            self.cached += tokens["cached"]
            self.generated += tokens["generated"]

    def line(self, seconds: float) -> str:
        """All counts in one line, with the time that the batch took."""
        cached = f" ({self.cached:,} cached)" if self.cached else ""
        parts = [
            counted(self.answered, "answer"),
            f"{self.failed:,} failed" if self.failed else "",
            counted(self.generated, "token") if self.generated else "",
            f"{rate(self.generated, seconds)}/s" if self.generated else "",
            duration(seconds),
            f"prompts {self.prompt:,}{cached}" if self.prompt else "",
        ]
        return " · ".join(part for part in parts if part)
