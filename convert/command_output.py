"""Print what `convert` has written, or in a dry run would write."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.errors import ModelError
from chat.system.terminal_text import count_text, size_text
from convert.calibration import plan_calibration
from convert.draft import AdapterDetails, ModelDetails, ProjectorDetails
from convert.drafting import make_drafts
from convert.expected_time import expected_seconds, time_text
from convert.output.gguf_writer import free_bytes, targets_fault
from convert.projector import files_to_write, is_there, kept_report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.system.environment import Environment
    from convert.calibration import CalibrationPlan
    from convert.draft import ConversionDraft, ConversionOptions, ConversionReport

MOST_WARNINGS = 20  # that are shown; a hostile tokenizer can bring as many as it has pieces
LONGEST_WARNING = 600  # letters


def show_reports(
    reports: Sequence[ConversionReport], environment: Environment, *, as_json: bool, quiet: bool = False
) -> None:
    """Print the paths of the files, or JSON; what is to be said of them goes to stderr."""
    if not quiet:
        _say_notes(reports, environment)
    if as_json:
        environment.print_json(_one_or_all([report.to_json() for report in reports]), indent=2)
    else:
        for report in reports:
            environment.print(report.output)


def show_drafts(options: ConversionOptions, environment: Environment, *, is_whole: bool, as_json: bool) -> None:
    """Print what a conversion would write.

    Args:
        options: of the conversion.
        environment: streams.
        is_whole: the source has its weights, which the fingerprint is made of.
        as_json: print JSON, not a table.

    Raises:
        ChatError: the options or the source are not usable.
    """
    if options.fit is not None and not is_whole:
        raise ModelError("`--fit` measures the weights, which are not here yet", hint="leave out `--dry-run`")
    calibration = plan_calibration(options) if options.calibrate is not None else None
    drafts = make_drafts(options) if calibration is None else calibration.drafts
    obstacles = _obstacles(drafts, calibration, overwrite=options.overwrite)
    reports = [_report(draft, obstacles, options, is_whole=is_whole) for draft in drafts]
    if isinstance(reports[0].details, AdapterDetails):
        show_reports(reports, environment, as_json=as_json, quiet=not options.show_progress)
        return
    free = free_bytes(*(draft.path for draft in drafts))
    seconds = expected_seconds(drafts, is_whole=is_whole, is_verified=options.verify)
    if as_json:
        plans = [_plan_json(draft, report, free) for draft, report in zip(drafts, reports, strict=True)]
        about_all: dict[str, Any] = {"expected_seconds": round(seconds, 1)}
        if calibration is not None:
            size = calibration.temporary.size if calibration.temporary else 0
            about_all["calibration"] = {"imatrix": str(calibration.matrix), "temporary_bytes": size}
        environment.print_json(_one_or_all(plans) | about_all, indent=2)
        return
    for draft, report in zip(drafts, reports, strict=True):
        _print_plan(draft, report, free, environment)
    if calibration is not None:
        reports[0] = replace(reports[0], notes=(*reports[0].notes, calibration.note))
    _say_notes(reports, environment)
    before = [*(["the download"] if not is_whole else []), *(["the reading of the text"] if calibration else [])]
    environment.notify(f"{time_text(seconds)} on this machine{' after ' if before else ''}{' and '.join(before)}")


def _one_or_all(values: list[dict[str, Any]]) -> dict[str, Any]:
    """The object of one file, or one with the objects of several."""
    return values[0] if len(values) == 1 else {"outputs": values}


def _say_notes(reports: Sequence[ConversionReport], environment: Environment) -> None:
    """Say what there is to say of all files, and a summary of each."""
    notes = dict.fromkeys(note for report in reports for note in _notes(report))
    beside = dict.fromkeys(_summary(report.projector) for report in reports if report.projector)
    for line in (*notes, *map(_summary, reports), *beside):
        environment.notify(line)


def _cut(warning: str) -> str:
    """A warning, without the middle of one that names something very long."""
    if len(warning) <= LONGEST_WARNING:
        return warning
    return f"{warning[: LONGEST_WARNING // 2]} … {warning[-LONGEST_WARNING // 2 :]}"


def _notes(report: ConversionReport) -> list[str]:
    shown = report.warnings[:MOST_WARNINGS]
    notes = [*report.notes, *(f"warning: {_cut(warning)}" for warning in shown)]
    if len(report.warnings) > len(shown):
        notes.append(f"warning: {len(report.warnings) - len(shown):,} more warnings; `--json` has them all")
    if isinstance(report.details, ModelDetails) and report.details.filled_in:
        notes.append(f"missing in the checkpoint, filled in: {', '.join(report.details.filled_in)}")
    return notes


def _summary(report: ConversionReport) -> str:
    details = report.details
    if isinstance(details, AdapterDetails):
        words = f"adapter of {report.tensors} tensors for the architecture {report.architecture}, {report.type}"
        return f"{words}, {size_text(report.size)}"
    if isinstance(details, ProjectorDetails):
        kept = ", was there already" if details.kept else ""
        return (
            f"{Path(report.output).name} for pictures of up to {details.image_size} pixels a side, {report.type}, "
            f"{count_text(details.parameters)} weights, {size_text(report.size)}{kept}"
        )
    window = f"window {details.window}" if details.window else "no window"
    words = (
        f"{report.type}, {count_text(details.parameters)} weights, {size_text(report.size)}, {window}, "
        f"prompt format {details.prompt_format or 'of its own template'}"
    )
    return f"{words}, {report.seconds['total']:.0f} s" if report.seconds else words


def _report(
    draft: ConversionDraft, obstacles: tuple[str, ...], options: ConversionOptions, *, is_whole: bool
) -> ConversionReport:
    report = draft.report()
    if draft.projector is not None and not options.overwrite and is_there(draft.projector):
        report = replace(report, projector=kept_report(draft.projector))
    report = replace(report, warnings=(*report.warnings, *obstacles))
    return report if is_whole else _without_hashes(report)


def _without_hashes(report: ConversionReport) -> ConversionReport:
    """A report without what is computed of weights that are not here."""
    details = report.details
    if isinstance(details, ModelDetails):
        details = replace(details, source_sha256="")
    elif isinstance(details, ProjectorDetails):
        details = replace(details, sha256="")
    return replace(report, details=details, projector=report.projector and _without_hashes(report.projector))


def _obstacles(
    drafts: Sequence[ConversionDraft], calibration: CalibrationPlan | None, *, overwrite: bool
) -> tuple[str, ...]:
    """What would stop the writing, as warnings: it does not stop a dry run."""
    if calibration is not None:
        fault = calibration.fault(overwrite=overwrite)
    else:
        files = files_to_write(drafts, overwrite=overwrite)
        fault = targets_fault([(draft.path, draft.size) for draft in files], overwrite=overwrite)
    return (f"{fault.message}: {fault.hint}" if fault.hint else fault.message,) if fault else ()


def _plan_json(draft: ConversionDraft, report: ConversionReport, free: int) -> dict[str, Any]:
    values = {**report.to_json(), "free_bytes": free, "plan": _tensors_json(draft)}
    if draft.projector is not None:
        values["mmproj"]["plan"] = _tensors_json(draft.projector)
    return values


def _tensors_json(draft: ConversionDraft) -> list[dict[str, Any]]:
    return [
        {"name": tensor.name, "shape": tensor.shape, "type": tensor.type.name, "bytes": tensor.nbytes}
        for tensor in draft.plan.tensors
    ]


def _print_plan(draft: ConversionDraft, report: ConversionReport, free: int, environment: Environment) -> None:
    """Print the tensors of a file; those of the mmproj file are not listed beside the model's."""
    width = max(len(tensor.name) for tensor in draft.plan.tensors)
    for tensor in draft.plan.tensors:
        shape = " x ".join(str(axis) for axis in tensor.shape)
        environment.print(f"{tensor.name:{width}}  {tensor.type.name:6}  {shape:20}  {tensor.nbytes:>14,}")
    environment.print(f"{report.output}: {report.size:,} bytes; {free:,} bytes are free on its disk")
    if report.projector is not None:
        environment.print(f"{report.projector.output}: {report.projector.size:,} bytes")
