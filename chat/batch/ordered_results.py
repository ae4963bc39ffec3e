"""Give results out in the order of their records, whatever order they come in. Knows positions, no engine."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chat.app.json_report import failure_report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chat.batch.records import BatchRecord
    from chat.core.request import Request

    Given = tuple[BatchRecord, dict[str, Any]]


class OrderedResults:
    """Records on their way to an engine, and their results on the way back."""

    def __init__(self, records: Iterator[BatchRecord]) -> None:
        self._records = records
        self._taken: list[BatchRecord] = []  # all so far, without what they ask
        self._positions: list[int] = []  # of the engine's requests among them
        self._waiting: dict[int, dict[str, Any]] = {}
        self._given = 0
        self.all_taken = False

    def requests(self) -> Iterator[Request]:
        """What the engine is asked; a record that asks nothing has its fault as its result."""
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
        """The result of a request, by its index among all of them."""
        self._waiting[self._positions[index]] = result

    def ready(self) -> Iterator[Given]:
        """Records and results before which none is missing."""
        while self._given in self._waiting:
            yield self._taken[self._given], self._waiting.pop(self._given)
            self._given += 1

    def rest(self) -> Iterator[Given]:
        """Those after one that will not come."""
        yield from ((self._taken[at], self._waiting[at]) for at in sorted(self._waiting))
