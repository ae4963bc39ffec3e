"""Convert a checkpoint, a GGUF or an adapter: draft the new file, write it, verify it, report it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from chat.system.environment import Environment
from chat.system.progress import byte_bar
from convert.calibration import make_matrix, plan_calibration
from convert.drafting import make_drafts
from convert.output import gguf_writer
from convert.output.tensor_writer import NewFile, usable_cpus, write_tensors
from convert.output.verify import try_out, try_out_encoder, verify
from convert.projector import files_to_write, kept_report
from convert.quantize.kernels import load_library, slow_types

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from convert.draft import ConversionDraft, ConversionOptions, ConversionReport


def convert(options: ConversionOptions, environment: Environment | None = None) -> ConversionReport:
    """As `convert_all`, for one file.

    Raises:
        ChatError: the options, the source or the disk are not usable; nothing is left under the output's name.
    """
    (report,) = convert_all(options, environment)
    return report


def convert_all(options: ConversionOptions, environment: Environment | None = None) -> tuple[ConversionReport, ...]:
    """Convert the source in one pass; all new files exist whole, or none does.

    Args:
        options: what to convert, and how.
        environment: where progress is shown; the process's own by default.

    Returns:
        A report for each file; the times in it are those of all files together.

    Raises:
        ChatError: the options, the source or the disk are not usable; nothing is left under the outputs' names.
    """
    started = time.monotonic()
    if options.calibrate is None:
        return _write(make_drafts(options), options, started, environment)
    plan = plan_calibration(options)
    note, warnings = make_matrix(plan, options, environment)
    seconds = {"calibrate": round(time.monotonic() - started, 3)}
    reports = _write(plan.drafts_with_matrix(options), options, time.monotonic(), environment)
    seconds |= {**reports[0].seconds, "total": round(time.monotonic() - started, 3)}
    return tuple(
        replace(report, warnings=(*report.warnings, *warnings), seconds=seconds, notes=(*report.notes, note))
        for report in reports
    )


def _write(
    models: Sequence[ConversionDraft], options: ConversionOptions, started: float, environment: Environment | None
) -> tuple[ConversionReport, ...]:
    """Write the drafted files, and verify all of them before they get their names.

    Args:
        models: their drafts; each may have the same mmproj file beside it, which is written once.
        started: when the conversion began, in seconds of `time.monotonic()`.
    """
    drafts = files_to_write(models, overwrite=options.overwrite)
    targets = [(draft.path, draft.size) for draft in drafts]
    fault = gguf_writer.targets_fault(targets, overwrite=options.overwrite)
    if fault is not None:
        raise fault
    load_library()
    if options.show_progress:
        for note in (note for draft in drafts for note in draft.notes):
            (environment or Environment()).notify(note)  # before the hours that a large model takes
    seconds: dict[str, float] = {}
    untried: list[str | None] = [None for _ in drafts]
    size, shown = sum(draft.plan.data_bytes for draft in drafts), options.show_progress
    title = f"writing {drafts[0].path.name}" if len(drafts) == 1 else f"writing {len(drafts)} files"
    with gguf_writer.create_all(targets, overwrite=options.overwrite) as files:
        new = [NewFile(draft.jobs, file, len(draft.header)) for draft, file in zip(drafts, files, strict=True)]
        with byte_bar(title, size, enabled=shown, environment=environment) as bar:
            for draft, file in zip(drafts, files, strict=True):
                file.write(draft.header, 0)
            checksums = write_tensors(new[: len(models)], usable_cpus(), bar)
            if new[len(models) :]:  # which has other tensors
                checksums += write_tensors(new[len(models) :], usable_cpus(), bar)
        seconds["write"] = time.monotonic() - started
        if options.verify:
            with byte_bar("verifying", size, enabled=shown, environment=environment) as bar:
                for each, written in zip(new, checksums, strict=True):
                    verify(each.file.path, each.jobs, written, bar)
                bar.describe("trying it out")
                untried = [_tried(draft, file.path) for draft, file in zip(drafts, files, strict=True)]
            seconds["verify"] = time.monotonic() - started - seconds["write"]
    seconds["total"] = time.monotonic() - started
    rounded = {part: round(value, 3) for part, value in seconds.items()}
    reports = [
        _report(draft, warning, rounded, is_verified=options.verify)
        for draft, warning in zip(drafts, untried, strict=True)
    ]
    if models[0].projector is None:
        return tuple(reports)
    beside = reports.pop() if reports[len(models) :] else kept_report(models[0].projector)
    return tuple(replace(report, projector=beside) for report in reports)


def _tried(draft: ConversionDraft, path: Path) -> str | None:
    return try_out_encoder(path, draft.model_keys) if draft.model_keys else try_out(path)


def _report(
    draft: ConversionDraft, warning: str | None, seconds: dict[str, float], *, is_verified: bool
) -> ConversionReport:
    report = draft.report()
    warnings = (*report.warnings, *_slow_packing(draft), *([warning] if warning else []))
    return replace(report, warnings=warnings, verified=is_verified, seconds=seconds, notes=())


def _slow_packing(draft: ConversionDraft) -> tuple[str, ...]:
    """A word for the types that the fast kernels are built for, but could not pack."""
    packed = {(job.tensor.type, job.importance is not None) for job in draft.jobs if not job.copied}
    slow = slow_types(packed)
    if not slow:
        return ()
    return (f"{', '.join(slow)} was packed with llama.cpp's own, slower kernels, as this build of it rounds otherwise",)
