"""Results of a batch come out in the order of its records, and none waits longer than for those before it."""

from __future__ import annotations

import random

from chat.batch.ordered_results import OrderedResults
from chat.batch.records import BatchRecord
from chat.core.request import Prompt, Request
from chat.errors import DataError

BAD = DataError("line 3: is not JSON")


def records(count: int) -> list[BatchRecord]:
    """Every third is wrong."""
    asked = [Request(Prompt(text=str(at))) for at in range(count)]
    return [
        BatchRecord(f"id {at}", error=BAD) if at % 3 == 2 else BatchRecord(f"id {at}", asked[at]) for at in range(count)
    ]


def test_any_order_of_answers_gives_the_order_of_the_records() -> None:
    draw = random.Random(5)
    for _ in range(50):
        order = OrderedResults(iter(records(11)))
        asked = [each.prompt.text for each in order.requests()]
        assert asked == [str(at) for at in range(11) if at % 3 != 2]
        given = []
        for index in draw.sample(range(len(asked)), len(asked)):
            order.put(index, {"text": asked[index]})
            given += [(record.id, result) for record, result in order.ready()]
        failed = {"error": "line 3: is not JSON", "exit_code": 6}
        assert given == [(f"id {at}", failed if at % 3 == 2 else {"text": str(at)}) for at in range(11)]
        assert order.all_taken and list(order.rest()) == []


def test_what_is_ready_does_not_wait_for_what_comes_later_and_the_rest_is_there_at_the_end() -> None:
    order = OrderedResults(iter(records(6)))
    requests = order.requests()
    [next(requests) for _ in range(3)]
    order.put(0, {"n": 0})
    assert [result for _, result in order.ready()] == [{"n": 0}]
    order.put(2, {"n": 3})
    assert list(order.ready()) == []  # the second is still being answered
    assert [(record.id, result.get("n", "failed")) for record, result in order.rest()] == [
        ("id 2", "failed"),
        ("id 3", 3),
    ]
    assert not order.all_taken
