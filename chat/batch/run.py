"""Answer the records of a batch and write results in the records' order; a bad line does not stop the others."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from chat.app.answer_output import AnswerOutput
from chat.app.backends import cancelling, open_backend
from chat.app.json_report import failure_report, rendered_report, reply_report
from chat.app.open_tools import open_tools
from chat.app.prompt_input import BatchPrompt
from chat.app.tracebacks import record_traceback
from chat.batch.files import finished_ids, has_pictures, id_key, open_lines, result_writer
from chat.batch.records import RecordReader
from chat.errors import ChatError, ExitCode
from chat.models.last_used import with_last_model
from chat.rendering.status_text import duration, rate
from chat.system.progress import count_bar
from chat.system.terminal_text import counted

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from chat.batch.call_rounds import Outcome
    from chat.batch.records import BatchRecord
    from chat.config.options import Settings
    from chat.config.resolve import ResolvedSettings
    from chat.core.backend import ChatBackend
    from chat.core.request import Request
    from chat.system.environment import Environment
    from chat.tools.loop import CallLoop
    from chat.tools.runner import CallResult

    Cancellable = Callable[[Iterator[Request]], Iterator[Request]]
    Answers = Callable[[Iterator[BatchRecord]], Iterator[Outcome]]
    RecordResult = tuple[BatchRecord, dict[str, Any]]

CUT_REASONS = ("length", "content_filter", "refusal")


class BatchInterrupted(Exception):  # noqa: N818 - a signal to the caller, not a fault
    """The batch was cancelled; there are no more results."""


def answer_batch(words: Sequence[str], resolved: ResolvedSettings, environment: Environment) -> int:
    """Answer each record of the batch that the settings name.

    Args:
        words: the arguments that are no options; they follow each prompt.

    Returns:
        The exit code: 0, 1 if a record failed (or was cut, if that counts), or 130 if the user stopped the batch. The
        results of a stopped batch are written; `--resume` answers the remaining records.

    Raises:
        ChatError: the batch cannot be read, the results cannot be written, or no backend starts. The fault of a single
            record becomes its result instead.
    """
    resolved = with_last_model(resolved)
    settings = resolved.settings
    complete, output = BatchPrompt(words, settings, environment), AnswerOutput(settings, environment)
    output.note_unnamed_model(resolved)
    for warning in complete.warnings:
        output.note(warning)
    needs_encoder = bool(complete.pictures) or (
        not settings.remote and settings.mmproj == "auto" and has_pictures(settings.batch or "-")
    )
    with (
        closing(complete),
        open_tools(settings, output) as (tools, loop),
        open_backend(settings, has_pictures=needs_encoder) as backend,
    ):
        offered = (lambda: tools) if loop is None else loop.toolbox.schemas
        reader = RecordReader(settings, complete, complete.pictures, offered, output.note)
        if settings.dry_run:
            return _run(reader, output, lambda records: _rendered_results(backend, records))
        with cancelling(backend) as cancellable:
            answers = _answers(backend, output, cancellable, loop)
            return _run(reader, output, lambda records: _results(backend, records, output, answers))


def _run(
    reader: RecordReader, output: AnswerOutput, answer: Callable[[Iterator[BatchRecord]], Iterator[RecordResult]]
) -> ExitCode:
    settings, environment = output.settings, output.environment
    finished = finished_ids(settings.output, resume=settings.resume)
    with (
        open_lines(settings.batch or "-", environment, output.note) as (lines, total),
        result_writer(settings.output, environment, resume=settings.resume) as write,
    ):
        remaining = None if total is None else total - finished.total()
        records = _unfinished((reader.read(number, line) for number, line in _numbered(lines)), finished)
        summary, began = BatchSummary(), time.monotonic()
        with count_bar("Answering", remaining, enabled=not settings.quiet, environment=environment) as progress:
            try:
                for record, result in answer(records):
                    write({"id": record.id, **result})
                    if record.error is not None:
                        record_traceback(record.error, settings, environment.print_error)
                    summary.add(result, is_failed=_is_failed(result, record))
                    progress.advance(1)
                code = ExitCode.UNEXPECTED if summary.failed else ExitCode.DONE
            except BatchInterrupted:
                code = ExitCode.INTERRUPTED
        if settings.stats:
            environment.print_error(summary.line(time.monotonic() - began))
    return code


def _is_failed(result: Mapping[str, Any], record: BatchRecord) -> bool:
    """Whether a result is an error, was cut and must not be, or lacks the code block that is wanted."""
    is_cut = record.fails_when_cut and result.get("finish_reason") in CUT_REASONS
    has_no_code = "code" in result and result["code"] is None and not result.get("tool_calls")
    return "error" in result or is_cut or has_no_code


def _numbered(lines: Iterator[str]) -> Iterator[tuple[int, str]]:
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _unfinished(records: Iterator[BatchRecord], finished: Counter[str]) -> Iterator[BatchRecord]:
    """The records without a result; if several lines have one id, as many as results are missing."""
    for record in records:
        key = id_key(record.id)
        if finished[key]:
            finished[key] -= 1
        else:
            yield record


def _answers(backend: ChatBackend, output: AnswerOutput, cancellable: Cancellable, loop: CallLoop | None) -> Answers:
    """What answers records, and runs the functions that the answers call, if that is wanted."""
    parallel, note = output.settings.parallel, output.note
    if loop is not None:
        from chat.batch.call_rounds import CallRounds

        rounds = CallRounds(loop, parallel, note)
        return lambda records: rounds.outcomes(backend, records, parallel, cancellable)

    def without_calls(records: Iterator[BatchRecord]) -> Iterator[Outcome]:
        requests = (record.request for record in records if record.request is not None)
        for index, outcome in backend.answer_all(cancellable(requests), parallel, note):
            yield index, outcome, ()

    return without_calls


def _results(
    backend: ChatBackend, records: Iterator[BatchRecord], output: AnswerOutput, answers: Answers
) -> Iterator[RecordResult]:
    """The result of each record, in the order of the records.

    Raises:
        BatchInterrupted: the user stopped the batch; the finished results came before.
        ChatError: the backend is lost; the finished results came before.
    """
    settings, results = output.settings, OrderedResults(records)
    interrupted = False
    try:
        for index, outcome, calls in answers(results.with_requests()):
            if isinstance(outcome, ChatError):
                results.add(index, failure_report(outcome) | _calls_report(calls, settings))
                record_traceback(outcome, settings, output.environment.print_error)
            elif outcome.finish_reason == "interrupted":
                interrupted = True
            else:
                results.add(index, reply_report(outcome, backend.info(), settings) | _calls_report(calls, settings))
            yield from results.ready()
    except ChatError:
        yield from results.ready()
        yield from results.rest()
        raise
    yield from results.ready()
    if interrupted or not results.all_taken:
        yield from results.rest()
        raise BatchInterrupted


def _calls_report(calls: Sequence[CallResult], settings: Settings) -> dict[str, Any]:
    """The calls of a record and their results, where functions are run."""
    if not settings.run_tools:
        return {}
    from chat.app.tool_runs import results_report

    return {"tool_results": results_report(calls)}


def _rendered_results(backend: ChatBackend, records: Iterator[BatchRecord]) -> Iterator[RecordResult]:
    """The prompt of each record as the model would get it."""
    for record in records:
        try:
            if record.request is None:
                raise record.error or ChatError("no request")
            yield record, rendered_report(backend.render(record.request))
        except ChatError as error:
            yield record, failure_report(error)


class OrderedResults:
    """Gives out the results of records in the order of the records, whatever order they arrive in."""

    def __init__(self, records: Iterator[BatchRecord]) -> None:
        self._records = records
        self._taken: list[BatchRecord] = []  # all records so far, without their requests
        self._positions: list[int] = []  # in `_taken`, of each request that was given out
        self._waiting: dict[int, dict[str, Any]] = {}  # position -> result that is not given out yet
        self._next_position = 0
        self.all_taken = False

    def with_requests(self) -> Iterator[BatchRecord]:
        """The records that have a request; the result of one without is its error."""
        for record in self._records:
            position = len(self._taken)
            self._taken.append(replace(record, request=None))
            if record.request is None:
                assert record.error is not None
                self._waiting[position] = failure_report(record.error)
            else:
                self._positions.append(position)
                yield record
        self.all_taken = True

    def add(self, index: int, result: dict[str, Any]) -> None:
        """Take the result of a request, by the request's index among all of them."""
        self._waiting[self._positions[index]] = result

    def ready(self) -> Iterator[RecordResult]:
        """The next records and results, up to the first record whose result is missing."""
        while self._next_position in self._waiting:
            yield self._taken[self._next_position], self._waiting.pop(self._next_position)
            self._next_position += 1

    def rest(self) -> Iterator[RecordResult]:
        """The results behind a missing one, at the end of a batch that was cancelled or lost its backend."""
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
