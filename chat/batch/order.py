"""Give results out in the order of their records, whatever order they come in. Knows positions and ids, no engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chat.report import failure_report

if TYPE_CHECKING:
    from collections.abc import Iterator

    from chat.batch.records import Record
    from chat.request import Request


class InOrder:
    """Records on their way to an engine, and their results on the way back."""

    def __init__(self, records: Iterator[Record]) -> None:
        self._records = records
        self._ids: list[Any] = []  # of every record so far
        self._positions: list[int] = []  # of the engine's requests among them
        self._waiting: dict[int, dict[str, Any]] = {}
        self._given = 0
        self.all_taken = False

    def requests(self) -> Iterator[Request]:
        """What the engine is asked; a record that asks nothing has its fault as its result."""
        for record in self._records:
            self._ids.append(record.id)
            position = len(self._ids) - 1
            if record.request is None:
                assert record.error is not None
                self._waiting[position] = {"id": record.id, **failure_report(record.error)}
            else:
                self._positions.append(position)
                yield record.request
        self.all_taken = True

    def id_of(self, index: int) -> Any:
        """The id of the record that one of the requests, by its index, came from."""
        return self._ids[self._positions[index]]

    def put(self, index: int, result: dict[str, Any]) -> None:
        """The result of a request."""
        self._waiting[self._positions[index]] = result

    def ready(self) -> Iterator[dict[str, Any]]:
        """Results before which none is missing."""
        while self._given in self._waiting:
            yield self._waiting.pop(self._given)
            self._given += 1

    def rest(self) -> Iterator[dict[str, Any]]:
        """Results after one that will not come."""
        yield from (self._waiting[at] for at in sorted(self._waiting))
