"""Results come out in the order of the records, each as soon as those before it; and they are summed up."""

from __future__ import annotations

import random
from typing import Any

import pytest

from chat.batch.records import BatchRecord
from chat.batch.results import BatchSummary, OrderedResults
from chat.core.request import Prompt, Request
from chat.errors import DataError

BAD = DataError("line 3: is not JSON")


def records(count: int) -> list[BatchRecord]:
    """Records of which every third is an error."""
    return [
        BatchRecord(f"id {index}", error=BAD)
        if index % 3 == 2
        else BatchRecord(f"id {index}", Request(Prompt(text=str(index))))
        for index in range(count)
    ]


def test_results_come_in_the_order_of_the_records_whatever_the_order_of_the_answers() -> None:
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


def test_ready_results_do_not_wait_for_later_ones_and_the_rest_comes_at_the_end() -> None:
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


@pytest.mark.parametrize(
    ("results", "line"),
    [
        ([], "0 answers · 3.0 s"),
        ([({"tokens": None}, False)], "1 answer · 3.0 s"),
        ([({"error": "no"}, True)], "0 answers · 1 failed · 3.0 s"),
        ([({"tokens": 7, "ids": []}, False)], "1 answer · 3.0 s"),  # of a dry run
        (
            [({"tokens": {"prompt": 1000, "cached": 990, "generated": 30}}, False)] * 2,
            "2 answers · 60 tokens · 20.0/s · 3.0 s · prompts 2,000 (1,980 cached)",
        ),
    ],
)
def test_the_summary_adds_up_all_results(results: list[tuple[dict[str, Any], bool]], line: str) -> None:
    summary = BatchSummary()
    for result, is_failed in results:
        summary.add(result, is_failed=is_failed)
    assert summary.line(3.0) == line
