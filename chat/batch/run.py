"""Answer the records of a batch and write results in the records' order; one bad line never stops the rest."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from chat.app.json_report import failure_report, rendered_report, reply_report
from chat.batch.files import finished_ids, key_of, opened, writer
from chat.batch.ordered_results import OrderedResults
from chat.batch.records import record_of
from chat.batch.summary import BatchSummary
from chat.errors import ChatError, ExitCode
from chat.system.progress import count_bar
from chat.system.standard_streams import say

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Mapping

    from chat.batch.ordered_results import Given
    from chat.batch.records import BatchRecord, Fill
    from chat.config.options import Settings
    from chat.core.backend import ChatBackend
    from chat.core.request import Request


class BatchInterrupted(Exception):  # noqa: N818 - a signal to the caller, not a fault
    """The batch was cancelled; nothing more comes."""


def run_batch(
    engine: ChatBackend,
    settings: Settings,
    fill: Fill,
    tell: Callable[[str], None],
    cancellable: Callable[[Iterator[Request]], Iterator[Request]] = iter,
) -> ExitCode:
    """Answer all records.

    Args:
        fill: puts a prompt into the template and beside the attached files.
        tell: hears sentences for the person.
        cancellable: what requests pass through on their way to the engine.

    Returns:
        0, 1 if any record failed (or was cut, where that is to count), or 130 if it was cancelled: what had been
        finished is written, what had not is not, so that `--resume` answers it.

    Raises:
        ChatError: the file cannot be read or written, or an option has no meaning for a batch; a record's own faults
            become its result instead.
    """
    resume, output = settings.resume, settings.output
    finished = finished_ids(output, resume=resume)
    with opened(settings.batch or "-", tell) as (lines, total), writer(output, resume=resume) as write:
        left = None if total is None else total - finished.total()
        records = _unfinished((record_of(number, line, settings, fill) for number, line in _numbered(lines)), finished)
        code, tally, began = ExitCode.DONE, BatchSummary(), time.monotonic()
        with count_bar("Answering", left, enabled=not settings.quiet) as progress:
            try:
                for record, result in _results(engine, records, settings, tell, cancellable):
                    write({"id": record.id, **result})
                    tally.add(result, is_failed=_is_failed(result, record))
                    progress.advance(1)
                code = ExitCode.UNEXPECTED if tally.failed else ExitCode.DONE
            except BatchInterrupted:
                code = ExitCode.INTERRUPTED
        if settings.stats:
            say(tally.words(time.monotonic() - began))
    return code


def _is_failed(result: Mapping[str, Any], record: BatchRecord) -> bool:
    """Whether a result is not what was asked for: an error, cut where that counts, or without the code wanted."""
    is_cut = record.fails_when_cut and result.get("finish_reason") == "length"
    has_no_code = "code" in result and result["code"] is None and not result.get("tool_calls")
    return "error" in result or is_cut or has_no_code


def _numbered(lines: Iterator[str]) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _unfinished(records: Iterator[BatchRecord], finished: Counter[str]) -> Iterator[BatchRecord]:
    """Those that have no result yet; of an id that stands on several lines, as many as results are missing."""
    for record in records:
        key = key_of(record.id)
        if finished[key]:
            finished[key] -= 1
        else:
            yield record


def _results(
    engine: ChatBackend,
    records: Iterator[BatchRecord],
    settings: Settings,
    tell: Callable[[str], None],
    cancellable: Callable[[Iterator[Request]], Iterator[Request]],
) -> Iterator[Given]:
    """The result of each record, in the order of the records."""
    if settings.dry_run:
        yield from ((record, _rendered(engine, record)) for record in records)
        return
    line = OrderedResults(records)
    interrupted = False
    for index, outcome in engine.answer_all(cancellable(line.requests()), settings.parallel, tell):
        if isinstance(outcome, ChatError):
            line.put(index, failure_report(outcome))
        elif outcome.finish_reason == "interrupted":
            interrupted = True
        else:
            line.put(index, reply_report(outcome, engine.info(), settings))
        yield from line.ready()
    yield from line.ready()
    if interrupted or not line.all_taken:
        yield from line.rest()
        raise BatchInterrupted


def _rendered(engine: ChatBackend, record: BatchRecord) -> dict[str, Any]:
    try:
        if record.request is None:
            raise record.error or ChatError("no request")
        return rendered_report(engine.render(record.request))
    except ChatError as error:
        return failure_report(error)
